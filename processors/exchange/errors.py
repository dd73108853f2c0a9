"""What can go wrong between doors, hub and trainers."""

from __future__ import annotations

from processors.errors import ProcessorError


class ExchangeError(ProcessorError):
    """The exchange cannot take or bring what was asked."""

    code = "exchange_error"
    next_step = "Send the request again; if it stays so, look at the server's log."


class ExchangeFullError(ExchangeError):
    """Too many bytes of inputs wait in memory."""

    code = "quota_exceeded"
    next_step = "Wait until operations that are under way have finished, then send it again."


class ExchangeAwayError(ExchangeError):
    """No hub answers at the data directory's socket."""

    code = "exchange_unavailable"
    next_step = "Send the request again in a moment; if it stays so, start the server that holds the exchange."


class ExchangeTakenError(ExchangeError):
    """Another process holds the hub of this data directory."""

    code = "exchange_running"
    next_step = "Stop the other server on this data directory first."
