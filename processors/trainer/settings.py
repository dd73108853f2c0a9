"""What an operator may set of a trainer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from processors.trainer.device import Compute, memory_of
from processors.trainer.sampling import Limits

if TYPE_CHECKING:
    from producers import settings as platform


@dataclass(frozen=True, slots=True)
class Settings:
    """Automatic checkpoints: after so many steps or seconds.

    Larger values write less and lose more after a crash. ``adapters_in_memory`` is how many runs' adapters stay in
    memory, ``adapter_bytes`` how many bytes they may have together; ``compute`` says where and how, ``sampling`` how
    much is generated together. ``memory_bytes`` is what it may use in all (None: its part of what ``trainers`` of this
    machine have together).
    """

    checkpoint_steps: int = 20
    checkpoint_seconds: float = 30.0
    adapters_in_memory: int = 64
    adapter_bytes: int | None = None
    memory_bytes: int | None = None
    trainers: int = 1
    compute: Compute = field(default_factory=Compute)
    sampling: Limits = field(default_factory=Limits)

    @property
    def memory(self) -> int:
        """The bytes that it may use.

        Raises:
            UsageError: this machine has no such device.
        """
        return self.memory_bytes or memory_of(self.compute.device, self.trainers)

    @classmethod
    def of(cls, settings: platform.Settings) -> Settings:
        """The trainer's part of the platform's settings."""
        compute = Compute(settings.device, settings.attention, settings.gradient_checkpointing, settings.deterministic)
        return cls(
            settings.checkpoint_every_steps,
            settings.checkpoint_every_seconds,
            settings.max_adapters_in_memory,
            settings.max_adapter_bytes,
            settings.trainer_memory_bytes,
            settings.trainers,
            compute,
            Limits(cache_bytes=settings.max_sampling_bytes),
        )
