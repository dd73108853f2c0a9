"""Tiles by their definition: names, widths, hashes, and trees that are resumed from them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.ledger.merkle import leaf_hash, root_of
from tensorguard.ledger.tiles import WIDTH, Tile, TileTree, bundle_path, partial_widths, tile_path

NAMES: dict[str, tuple[str, str]] = {
    "the first": (tile_path(0, 0), "tile/0/000"),
    "a partial one": (tile_path(0, 0, 1), "tile/0/000.p/1"),
    "the last of three digits": (tile_path(1, 999), "tile/1/999"),
    "the first of six": (tile_path(2, 1000), "tile/2/x001/000"),
    "seven digits": (tile_path(0, 1_234_067), "tile/0/x001/x234/067"),
    "a partial one of seven digits": (tile_path(0, 1_234_067, 255), "tile/0/x001/x234/067.p/255"),
    "a round number": (tile_path(0, 1_000_000), "tile/0/x001/x000/000"),
    "a bundle": (bundle_path(273), "tile/entries/273"),
    "a partial bundle": (bundle_path(1000, 112), "tile/entries/x001/000.p/112"),
}
SIZES = (0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537)


@pytest.mark.parametrize(("name", "expected"), NAMES.values(), ids=NAMES.keys())
def test_a_tile_lies_where_the_specification_says(name: str, expected: str) -> None:
    assert name == expected


PARTIAL: dict[int, list[tuple[int, int, int]]] = {
    0: [],
    1: [(0, 0, 1)],
    255: [(0, 0, 255)],
    256: [(1, 0, 1)],
    257: [(0, 1, 1), (1, 0, 1)],
    65_536: [(2, 0, 1)],
    70_000: [(0, 273, 112), (1, 1, 17), (2, 0, 1)],
    (1 << 63) - 1: [(level, (1 << 63 - 8 * level - 8) - 1, 255) for level in range(7)] + [(7, 0, 127)],
}


@pytest.mark.parametrize("size", PARTIAL)
def test_the_partial_tiles_of_a_size_are_known(size: int) -> None:
    assert list(partial_widths(size)) == PARTIAL[size]


def grown(leaves: list[bytes], tree: TileTree | None = None) -> tuple[TileTree, list[Tile]]:
    tree = tree or TileTree()
    return tree, [tile for leaf in leaves for tile in tree.append(leaf)]


def by_definition(leaves: list[bytes], level: int, index: int) -> bytes:
    """The hashes of a tile: each the root over the leaves that it spans."""
    span = WIDTH**level
    starts = range(index * WIDTH * span, min((index + 1) * WIDTH * span, len(leaves) - span + 1), span)
    return b"".join(root_of(leaves[start : start + span]) for start in starts)


@pytest.mark.parametrize("size", SIZES)
def test_all_tiles_are_handed_out_once_and_hold_what_the_definition_says(size: int) -> None:
    leaves = [leaf_hash(bytes([number % 251])) for number in range(size)]
    tree, full = grown(leaves)
    tiles = [*full, *tree.partial()]
    assert all(tile.hashes == by_definition(leaves, tile.level, tile.index) for tile in tiles)
    per_level = [size // WIDTH**level for level in range(4)]
    expected = {(level, index) for level, count in enumerate(per_level) for index in range(-(-count // WIDTH))}
    assert sorted((tile.level, tile.index) for tile in tiles) == sorted(expected)
    assert (tree.size, tree.root()) == (size, root_of(leaves))


LEAVES = [leaf_hash(number.to_bytes(2, "big")) for number in range(1400)]


@settings(max_examples=40)
@given(st.integers(0, len(LEAVES)), st.integers(0, len(LEAVES)))
def test_a_tree_goes_on_from_its_tiles_wherever_it_was_left(first: int, second: int) -> None:
    first, second = sorted((first, second))
    begun, _ = grown(LEAVES[:first])
    held = {(tile.level, tile.index, tile.width): tile.hashes for tile in begun.partial()}
    resumed, filled = grown(LEAVES[first:second], TileTree.resumed(first, lambda *key: held[key]))
    whole, all_filled = grown(LEAVES[:second])
    assert (resumed.size, resumed.root(), list(resumed.partial())) == (second, whole.root(), list(whole.partial()))
    assert filled == all_filled[len(all_filled) - len(filled) :]
    assert whole.root() == root_of(LEAVES[:second])
