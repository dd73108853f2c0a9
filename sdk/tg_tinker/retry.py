"""When a request is sent again, and after how long. Every POST carries an Idempotency-Key, so nothing is doubled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    """Exponential backoff with full jitter, for at most ``most_seconds`` in all.

    ``most_seconds=0`` never sends anything twice. A server's Retry-After is a floor of the pause, up to
    ``longest_pause``.
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
        pause = longest * (0.5 + 0.5 * jitter)
        if isinstance(outcome, Response):
            pause = max(pause, min(self.longest_pause, retry_after(outcome)))
        return pause


def retry_after(response: Response) -> float:
    """The seconds that a Retry-After header asks for; 0 without one, or when it is a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0
