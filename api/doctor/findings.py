"""What a check found, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tensorguard.errors import TensorGuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK, WARNING, FAILED = "ok", "warning", "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """``state`` is ok, warning (a server works, with less room or protection than it should have) or failed."""

    check: str
    state: str
    detail: str
    next_step: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def ok(check: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(check, OK, detail)


def warning(check: str, detail: str, next_step: str) -> Finding:
    """Something to do when there is time."""
    return Finding(check, WARNING, detail, next_step)


def failed(check: str, detail: str, next_step: str) -> Finding:
    """Something to do first."""
    return Finding(check, FAILED, detail, next_step)


def looked_at(check: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error of ours that it meets is its last finding."""
    try:
        yield from look()
    except TensorGuardError as error:
        yield failed(check, error.detail, error.next_step)
    except OSError as error:
        yield failed(check, f"It cannot be looked at ({error.strerror or type(error).__name__}).", "Check its rights.")
