"""What the doors need of the exchange, wherever its hub is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from tensorguard.commitment import SALT_BYTES

from processors.exchange.measured import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def pack_input(salt: bytes, canonical: bytes) -> bytes:
    """What is put into the exchange for an operation."""
    return salt + canonical


def unpack_input(data: bytes) -> tuple[bytes, bytes]:
    """Salt and canonical bytes of an input."""
    return data[:SALT_BYTES], data[SALT_BYTES:]


@dataclass(frozen=True, slots=True)
class Figures:
    """How a hub stands: bytes held, bytes that passed to and from trainers, and what these measured.

    ``ready``: the trainers that can execute operations now. ``levels`` are sums over the trainers that are connected.
    """

    input_bytes: int = 0
    result_bytes: int = 0
    received: int = 0
    sent: int = 0
    ready: tuple[str, ...] = ()
    times: Mapping[str, Histogram] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)


class StreamReader(Protocol):
    """One reader's place in a stream; ``missed`` counts the frames that gave way before they were read.

    ``begin`` is the number of the stream's first frame, ``position`` that of the frame to be read next.
    """

    missed: int

    @property
    def begin(self) -> int:
        """The number of the stream's first frame."""

    @property
    def position(self) -> int:
        """The number of the frame that is read next."""

    @property
    def lost(self) -> bool:
        """Whether the stream broke off before its operation ended."""

    def read(self, timeout: float = 0.0) -> list[bytes] | None:
        """The frames since the last call, waiting up to so many seconds for the first; None once the stream has ended.

        An empty list says that there are none yet. They follow on one another; ``position`` is behind the last. One
        thread reads at a time.
        """

    def close(self) -> None:
        """Listen no more; it never blocks."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Exchange(Protocol):
    """The hub, here or behind its socket; any thread may call.

    Every method raises ExchangeAwayError where no hub can be reached, which only happens behind a socket.
    """

    def put_input(self, operation_id: bytes, data: bytes) -> None:
        """Keep an operation's input (see :func:`pack_input`) until it is dropped; the same id again replaces it.

        Raises:
            ExchangeFullError: it is too large, or too much waits already.
        """

    def input(self, operation_id: bytes) -> bytes | None:
        """An operation's input, if it is here."""

    def has_input(self, operation_id: bytes) -> bool:
        """Whether an operation's input is here."""

    def drop_input(self, operation_id: bytes) -> None:
        """Forget an operation's input, if it is here, for good: its salt alone stays known for a while."""

    def inputs_older_than(self, seconds: float) -> Sequence[bytes]:
        """The operations whose inputs have been here for longer, the oldest first."""

    def salt(self, operation_id: bytes) -> bytes | None:
        """The salt of an input that is or was here, as long as it is remembered."""

    def put_result(self, operation_id: bytes, data: bytes) -> None:
        """Keep a result for its time; the oldest give way when there are too many bytes."""

    def result(self, operation_id: bytes) -> bytes | None:
        """An operation's result, if it is still here."""

    def stream_reader(self, operation_id: bytes, notify: Callable[[], None] | None = None) -> StreamReader:
        """A reader of what an operation under way streams, from the oldest frame that is held.

        ``notify`` is called, from any thread, when there is more, or the end. A stream that has ended is unknown: look
        whether the operation is pending after this, not before.

        Raises:
            ExchangeFullError: too many streams are listened to.
        """

    def figures(self) -> Figures:
        """How the hub stands."""
