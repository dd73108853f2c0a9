"""What a trainer says of itself: which base models it holds, how much memory it may use and does, how many runs."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from processors.placement.errors import StandingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producers.identities import Producer

MAX_WORKER = 128
MAX_BASES = 1024


@dataclass(frozen=True, slots=True)
class Standing:
    """A trainer by its worker id, which no other process ever has.

    ``since`` is when it began, in microseconds. ``bases`` maps the manifest digests (hex) of the base models in its
    memory to their bytes. ``memory`` is how many bytes it may use, 0 while it has not said so yet, and ``used`` how
    many base models and adapters take. ``runs`` is how many runs it holds. One that is ``leaving`` finishes what it is
    at, and takes no more.
    """

    worker: str
    since: int = 0
    bases: Mapping[str, int] = field(default_factory=dict)
    memory: int = 0
    used: int = 0
    runs: int = 0
    leaving: bool = False

    @property
    def free(self) -> int:
        """Bytes that it may use and does not."""
        return max(0, self.memory - self.used)

    def to_bytes(self) -> bytes:
        """As it travels."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Standing:
        """As it came.

        Raises:
            StandingError: it is none.
        """
        try:
            value = json.loads(data)
            bases = {_text(name): _count(size) for name, size in value["bases"].items()}
            numbers = {name: _count(value[name]) for name in ("since", "memory", "used", "runs")}
            standing = cls(_text(value["worker"]), bases=bases, **numbers, leaving=_truth(value["leaving"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StandingError("A trainer's standing is malformed.") from error
        if len(bases) > MAX_BASES:
            raise StandingError("A trainer's standing names too many base models.")
        return standing


def worker_id(producer: Producer) -> str:
    """A fresh id for a trainer's process, bound to the key that signs its outcomes."""
    return f"{producer.key_id.hex()}.{secrets.token_hex(8)}"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_WORKER:
        raise TypeError
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError
    return value
