"""What can go wrong between a producer and the decision on its command."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class ProducerError(TensorGuardError):
    """Base of the errors of this package outside of the engines."""

    code = "producer_error"


class RejectedError(ProducerError):
    """A well-formed, authenticated command was refused; the refusal is on the chain. ``code`` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class RefusedError(ProducerError):
    """A command was malformed or not authenticated; nothing is on the chain. ``code`` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(
            detail, next_step="Check that the key is enrolled on this chain and that both sides run one build."
        )
        self.code = code


class NoDecisionError(ProducerError):
    """A command waits in the durable intake, and nobody has decided it in time."""

    code = "no_decision"
    next_step = "It is kept: ask for its reply again, or send the same command id; it has effect once."


class KeyFileError(ProducerError):
    """A key file is missing, damaged or readable by others."""

    code = "key_file"
    next_step = "Restore it from the backup of the data dir's keys folder, with mode 0600."


class InstallationError(ProducerError):
    """A data dir is not a complete installation."""

    code = "installation"
    next_step = "Point --data-dir at a folder that this version made, or at an empty one."


class WriterActiveError(ProducerError):
    """Another process writes this data dir."""

    code = "writer_active"
    next_step = "Use the server that runs on this data dir, or stop it first."


class ForeignChainError(ProducerError):
    """A command came to the sequencer of another intake partition than its chain's."""

    code = "foreign_chain"
    next_step = "Submit it with this build: it knows the partition of every chain."


class ClockError(ProducerError):
    """The clock is too far ahead of the ledger to be believed."""

    code = "clock_jumped"
    next_step = "Set the machine's clock right; if it is right, start once with TG_ACCEPT_CLOCK=1."


class LedgerMovedError(ProducerError):
    """The ledger was moved: what is here has ended, or is a copy from before, and nothing is decided on it."""

    code = "ledger_moved"
    next_step = (
        "Set TG_LOG_URL to the ledger of that name. If its copy was broken off, run the same `tensorguard ledger copy` "
        "again; it goes on where it stopped."
    )


class LedgerCorruptError(ProducerError):
    """The ledger's records do not link up, or are fewer than were written."""

    code = "ledger_corrupt"
    next_step = (
        "Nothing was changed. Keep the data dir as evidence, restore the newest backup, and compare it with an "
        "exported checkpoint by `tensorguard audit verify`."
    )
