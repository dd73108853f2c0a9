"""Which records are held back for validation, and in which order the others come. The same seed, the same answer."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Literal, TypeVar

from tg_tinker.data.readers import Record
from tg_tinker.data.stream import Stream
from tg_tinker.errors import ConfigurationError

T = TypeVar("T")
BUFFER = 10_000


def split(
    records: Stream[Record], validation: float, *, seed: int = 0, by: Literal["content", "index"] = "content"
) -> tuple[Stream[Record], Stream[Record]]:
    """Two streams, for training and for validation, that share no record.

    Args:
        records: what is to be divided, before it is cut into examples.
        validation: the share that is held back, from 0 to 1, as it comes out on average.
        seed: another one holds others back.
        by: ``content`` sends equal records to one side, and each record to the same side however the file grows;
            ``index`` goes by the place in the stream.

    Raises:
        ConfigurationError: the share lies outside 0 to 1.
    """
    if not 0 <= validation <= 1:
        raise ConfigurationError("The share for validation is outside 0 to 1.", next_step="Give one such as 0.1.")
    key = _content if by == "content" else _index

    def side(*, held_back: bool) -> Callable[[], Iterator[Record]]:
        def chosen() -> Iterator[Record]:
            for index, record in enumerate(records):
                if (_fraction(seed, key(index, record)) < validation) is held_back:
                    yield record

        return chosen

    return Stream(side(held_back=False)), Stream(side(held_back=True))


def _content(_index: int, record: Record) -> bytes:
    return json.dumps(record.value, sort_keys=True, default=str).encode()


def _index(index: int, _record: Record) -> bytes:
    return str(index).encode()


def _fraction(seed: int, key: bytes) -> float:
    """A number in [0, 1) that is as good as drawn, and always the same for a key."""
    return int.from_bytes(sha256(b"%d\x00%b" % (seed, key)).digest()[:6], "big") / (1 << 48)


def shuffled(items: Stream[T], seed: int, *, epoch: int = 0, buffer: int = BUFFER) -> Stream[T]:
    """The items in another order, with at most ``buffer`` of them in memory.

    With fewer items than that every order is as likely; of a longer stream, an item comes at the earliest ``buffer``
    places before its own. Another epoch is another order.

    Raises:
        ConfigurationError: the buffer holds nothing.
    """
    if buffer < 1:
        raise ConfigurationError("The buffer holds nothing.", next_step="Give at least 1.")

    def drawn() -> Iterator[T]:
        chance = random.Random(f"{seed}/{epoch}")  # noqa: S311 -- an order, no secret
        held: list[T] = []
        for item in items:
            if len(held) < buffer:
                held.append(item)
                continue
            place = chance.randrange(buffer)
            yield held[place]
            held[place] = item
        chance.shuffle(held)
        yield from held

    return Stream(drawn, items.length)
