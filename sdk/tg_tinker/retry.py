"""When a request is sent again, and after how long. Every POST carries an Idempotency-Key, so nothing is doubled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_DIGITS = 9
AGAIN = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Response:
    """An answer; header names are lower case."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unreachable:
    """No answer came; ``reason`` says how, without the request's data."""

    reason: str


Outcome = Response | Unreachable


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter, for at most ``most_seconds`` in all; 0 never sends anything twice.

    A server's Retry-After comes on top, whole: a client that may not wait so long gives up at once.
    """

    most_seconds: float = 60.0
    first_pause: float = 0.2
    longest_pause: float = 5.0

    def pause(self, attempt: int, outcome: Outcome, jitter: float) -> float | None:
        """Seconds to wait before sending again after ``attempt`` failures before this one; None when it is an answer.

        ``jitter`` is a random number in [0, 1).
        """
        if isinstance(outcome, Response) and outcome.status not in AGAIN:
            return None
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt, 16))
        asked = retry_after(outcome) if isinstance(outcome, Response) else 0.0
        return asked + longest * jitter


def retry_after(response: Response) -> float:
    """The seconds that a Retry-After header (RFC 9110) asks for; 0 without one. A date counts from the answer's own."""
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdecimal() and len(text) <= _DIGITS:
        return float(text)
    until, now = _moment(text), _moment(response.headers.get("date", ""))
    return max(0.0, (until - now).total_seconds()) if until and now else 0.0


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
