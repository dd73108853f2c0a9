"""What an operator may set of a trainer, by the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tensorguard.errors import UsageError


@dataclass(frozen=True, slots=True)
class Settings:
    """Automatic checkpoints: after so many steps or seconds, and how many of them are kept per run.

    Larger values write less and lose more after a crash.
    """

    checkpoint_steps: int = 20
    checkpoint_seconds: float = 30.0
    checkpoints_kept: int = 3

    @classmethod
    def from_environment(cls) -> Settings:
        """``TG_CHECKPOINT_EVERY_STEPS``, ``TG_CHECKPOINT_EVERY_SECONDS``, ``TG_CHECKPOINTS_KEPT``.

        Raises:
            UsageError: a value is no number above zero.
        """
        default = cls()
        return cls(
            round(_number("TG_CHECKPOINT_EVERY_STEPS", default.checkpoint_steps)),
            _number("TG_CHECKPOINT_EVERY_SECONDS", default.checkpoint_seconds),
            round(_number("TG_CHECKPOINTS_KEPT", default.checkpoints_kept)),
        )


def _number(name: str, default: float) -> float:
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"{name} must be a number above zero.")
    return value
