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


class UndecidedError(ServerUnavailableError):
    """The server did not decide in time."""

    code = "no_decision"
    next_step = "Send it again with the same Idempotency-Key, as this client does by itself: it has effect once."


class ExchangeUnavailableError(ServerUnavailableError):
    """The exchange between the doors and the trainers does not answer: what is in memory alone cannot be had."""

    code = "exchange_unavailable"


class ViewsBehindError(ServerUnavailableError):
    """It is decided and has effect, but cannot be read yet."""

    code = "views_behind"
    next_step = "Read it in a moment."


class NotSignedYetError(ServerUnavailableError):
    """No checkpoint of the ledger covers it yet."""

    code = "no_checkpoint"
    next_step = "Ask again in a moment."
