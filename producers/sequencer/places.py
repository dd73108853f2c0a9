"""A compact table of where things lie: about 32 bytes an entry, no object of its own for any.

Open addressing with linear probing, in shards that grow each by itself: adding never stops for long, however large the
table. It may name a place too many (two things of one key), never one too few: who asks looks there.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARDS = 256
_SHARD_SHIFT = 56
_KEY = (1 << 64) - 1
_FIRST_SLOTS = 16
_WORD_BYTES = 8


class Places:
    """A multimap of keys of 64 bits, well mixed, to places from 0 on."""

    def __init__(self) -> None:
        self._shards = [_Shard() for _ in range(_SHARDS)]

    def add(self, key: int, place: int) -> None:
        """Know one more place of a key; nothing changes if it is known."""
        key &= _KEY
        self._shards[key >> _SHARD_SHIFT].add(key, place + 1)

    def find(self, key: int) -> Iterator[int]:
        """The places of a key, in no order."""
        key &= _KEY
        return (mark - 1 for mark in self._shards[key >> _SHARD_SHIFT].find(key))

    def __len__(self) -> int:
        """The number of entries."""
        return sum(shard.used for shard in self._shards)

    @property
    def held(self) -> int:
        """The number of bytes that all entries take."""
        return sum(shard.held for shard in self._shards)


class _Shard:
    """Slots of two words, the key and a mark above 0; those without a mark are empty."""

    __slots__ = ("_mask", "_words", "used")

    def __init__(self, slots: int = _FIRST_SLOTS) -> None:
        self._words = array("Q", bytes(2 * _WORD_BYTES * slots))
        self._mask = slots - 1
        self.used = 0

    @property
    def held(self) -> int:
        return len(self._words) * _WORD_BYTES

    def add(self, key: int, mark: int) -> None:
        words, mask = self._words, self._mask
        at = key & mask
        while found := words[2 * at + 1]:
            if found == mark and words[2 * at] == key:
                return
            at = (at + 1) & mask
        words[2 * at], words[2 * at + 1] = key, mark
        self.used += 1
        if 4 * self.used > 3 * mask:
            self._grow()

    def find(self, key: int) -> Iterator[int]:
        words, mask = self._words, self._mask
        at = key & mask
        while found := words[2 * at + 1]:
            if words[2 * at] == key:
                yield found
            at = (at + 1) & mask

    def _grow(self) -> None:
        larger = _Shard(2 * (self._mask + 1))
        for at in range(0, len(self._words), 2):
            if self._words[at + 1]:
                larger.add(self._words[at], self._words[at + 1])
        self._words, self._mask = larger._words, larger._mask
