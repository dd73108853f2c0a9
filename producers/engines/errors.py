"""What a log engine refuses or cannot do, each with a stable code."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class EngineError(TensorGuardError):
    """Base of every log-engine error."""

    code = "ledger_unavailable"
    next_step = "Look at the server's log, then try again."


class UnreachableError(EngineError):
    """The log cannot be reached for now: whoever only reads may wait and try again."""


class FencedError(EngineError):
    """A newer writer has taken this ledger."""

    code = "fenced"
    next_step = "Another server writes this ledger now: leave it to that one, or stop that one first."


class HeadMovedError(EngineError):
    """A chain is not as large as the writer expected."""

    code = "head_moved"
    next_step = "Start the writer again, so that it folds the ledger anew."


class StorageFullError(EngineError):
    """There is no space left; nothing was written."""

    code = "storage_full"
    next_step = "Free space on the data dir's file system, then send it again; the ledger itself is unharmed."


class NoDeadLetterError(EngineError):
    """No dead letter has the position: it never was one, or somebody has retried or dropped it."""

    code = "no_dead_letter"
    next_step = "List them with `tensorguard ledger dead-letters list`."


class LedgerDamagedError(EngineError):
    """The ledger's file is no longer what was written."""

    code = "ledger_damaged"
    next_step = (
        "Stop the server, keep the data dir as evidence, restore the newest backup, and compare it with an exported "
        "checkpoint by `tensorguard audit verify`."
    )


class UnknownFormatError(EngineError):
    """The ledger's file was written by another version."""

    code = "unknown_ledger_format"
    next_step = "Start the version that wrote it, or a newer one."
