"""The root of every error this wheel raises on purpose."""

from __future__ import annotations


class TensorGuardError(Exception):
    """An error with a stable code, a plain sentence and the next step.

    The code is the one that REST problem documents carry; ``exit_code`` is what the command line returns.
    """

    code: str = "error"
    exit_code: int = 1
    next_step: str = ""

    def __init__(self, detail: str, *, next_step: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if next_step is not None:
            self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.detail} {self.next_step}".strip()


class UsageError(TensorGuardError):
    """The call itself is wrong: a bad argument, a missing file."""

    code = "usage"
    exit_code = 2
