"""The tiles of a log, by C2SP tlog-tiles: https://c2sp.org/tlog-tiles.

A tile is up to 256 hashes of one level side by side: level 0 holds leaf hashes, and each hash of a level above is the
root of a full tile below it. The entries lie beside them in bundles of 256. A full tile never changes; one that is not
full is called partial and has its width in its name. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger.merkle import HASH_BYTES, Frontier, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WIDTH = 256
FOLDER = "tile"
PARTIAL_SUFFIX = ".p"
_TILE_BYTES = WIDTH * HASH_BYTES
_GROUP = 1000


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Where a tile of hashes lies below a log's folder."""
    return f"{FOLDER}/{level}/{_place(index, width)}"


def bundle_path(index: int, width: int = WIDTH) -> str:
    """Where a bundle of entries lies below a log's folder."""
    return f"{FOLDER}/entries/{_place(index, width)}"


def _place(index: int, width: int) -> str:
    groups = [f"{index % _GROUP:03}"]
    while index := index // _GROUP:
        groups.append(f"x{index % _GROUP:03}")
    path = "/".join(reversed(groups))
    return path if width == WIDTH else f"{path}{PARTIAL_SUFFIX}/{width}"


def partial_widths(size: int) -> Iterator[tuple[int, int, int]]:
    """Level, index and width of each partial tile of a tree of that size, lowest first."""
    level = 0
    while size:
        size, width = divmod(size, WIDTH)
        if width:
            yield level, size, width
        level += 1


@dataclass(frozen=True, slots=True)
class Tile:
    """Some hashes of one level, 32 bytes each: those from ``256 * index`` on."""

    level: int
    index: int
    hashes: bytes

    @property
    def width(self) -> int:
        """How many hashes it holds: 256 when it is full."""
        return len(self.hashes) // HASH_BYTES

    @property
    def path(self) -> str:
        """Where it lies below a log's folder."""
        return tile_path(self.level, self.index, self.width)


class TileTree:
    """A growing tree that hands out its tiles as they fill; it keeps fewer than 256 hashes a level."""

    def __init__(self) -> None:
        self.size = 0
        self._levels: list[bytearray] = []

    @classmethod
    def resumed(cls, size: int, hashes: Callable[[int, int, int], bytes]) -> TileTree:
        """A tree of that size; ``hashes`` gives the partial tile of a level, an index and a width."""
        tree = cls()
        tree.size = size
        for level, index, width in partial_widths(size):
            tree._level(level).extend(hashes(level, index, width))
        return tree

    def append(self, leaf: bytes) -> Sequence[Tile]:
        """Add a leaf hash; the tiles that it fills, lowest first."""
        self.size += 1
        filled: list[Tile] = []
        node, level = leaf, 0
        while True:
            hashes = self._level(level)
            hashes += node
            if len(hashes) < _TILE_BYTES:
                return filled
            filled.append(Tile(level, (self.size >> 8 * (level + 1)) - 1, bytes(hashes)))
            node = root_of(_split(hashes))
            hashes.clear()
            level += 1

    def partial(self) -> Iterator[Tile]:
        """The tiles that are not full, lowest first; none of them is empty."""
        for level, index, _ in partial_widths(self.size):
            yield Tile(level, index, bytes(self._levels[level]))

    def root(self) -> bytes:
        """The root over all leaves."""
        peaks = (peak for hashes in reversed(self._levels) for peak in Frontier().extend(_split(hashes)).peaks)
        return Frontier(self.size, tuple(peaks)).root()

    def _level(self, level: int) -> bytearray:
        while len(self._levels) <= level:
            self._levels.append(bytearray())
        return self._levels[level]


def _split(hashes: bytes | bytearray) -> list[bytes]:
    return [bytes(hashes[at : at + HASH_BYTES]) for at in range(0, len(hashes), HASH_BYTES)]
