"""What may work later."""

from __future__ import annotations

from tg_tinker.errors.base import TGTinkerError


class TransientError(TGTinkerError):
    """It may work later; the client has already tried for as long as its retry policy says."""

    code = "transient"
    exit_code = 7
    next_step = "Try again later."


class ServerUnreachableError(TransientError):
    """No answer came."""

    code = "connection_failed"
    next_step = "Check the base URL, and that the server runs: its /readyz answers when it is ready."


class ServerUnavailableError(TransientError):
    """The server cannot write its ledger now."""

    code = "ledger_unavailable"


class ServerFailedError(TransientError):
    """The server failed without saying why."""

    code = "server_error"
    next_step = "Try again; if it stays so, ask the server's operator to look at its log."


class StorageFullError(TransientError):
    """The server's disk is full."""

    code = "storage_full"
    next_step = "Ask the server's operator for space; nothing that was acknowledged is lost."


class StreamGapError(TransientError):
    """A listener came too late or was too slow: the server kept only the end of what was sampled."""

    code = "stream_gap"
    next_step = "Take the whole text from result()."


class QuotaExceededError(TransientError):
    """Too much is queued or in flight."""

    code = "quota_exceeded"
    next_step = "Wait for results before sending more."
