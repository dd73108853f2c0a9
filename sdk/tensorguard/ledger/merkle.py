"""RFC 6962 Merkle trees (section 2.1) over leaf hashes: roots, proofs, and a frontier that only grows.

All hashes are 32 bytes of SHA-256. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from tensorguard.ledger.errors import ProofInvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

EMPTY_ROOT = sha256(b"").digest()
HASH_BYTES = 32


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data): the leaf hash of RFC 6962, and the ``prev_hash`` of the next record."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True)
class Frontier:
    """The roots of the perfect subtrees of a log, largest first: all that is needed to append and to know the root."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Frontier:
        """This frontier with one more leaf hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> Frontier:
        """This frontier with more leaf hashes."""
        peaks, size = list(self.peaks), self.size
        for leaf in leaves:
            node, below = leaf, size
            while below & 1:
                node = node_hash(peaks.pop(), node)
                below >>= 1
            peaks.append(node)
            size += 1
        return Frontier(size, tuple(peaks))

    def root(self) -> bytes:
        """The tree's root hash; that of the empty tree is SHA-256 of nothing."""
        if not self.peaks:
            return EMPTY_ROOT
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = node_hash(peak, node)
        return node


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    return Frontier().extend(leaves).root()


def _split(size: int) -> int:
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of a leaf, sibling first (RFC 6962, 2.1.1).

    Raises:
        ProofInvalidError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ProofInvalidError(f"There is no leaf {index} in a tree of {len(leaves)}.")
    return _path(_levels(leaves), index)


def inclusion_paths(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The audit paths of all leaves; the tree is hashed once."""
    levels = _levels(leaves)
    return [_path(levels, index) for index in range(len(leaves))]


def blocked_inclusion_path(block: Sequence[bytes], roots: Sequence[bytes], index: int, size: int) -> list[bytes]:
    """The audit path of a leaf in a tree that is kept as blocks of ``size`` leaves, a power of two.

    Args:
        block: the leaf hashes of the block that the leaf stands in (the last block may have fewer).
        roots: the root of every block.
        index: the leaf's place in the whole tree.
        size: the leaves of a full block.

    Raises:
        ProofInvalidError: there is no such leaf.
    """
    return inclusion_path(block, index % size) + inclusion_path(roots, index // size)


def _path(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    path = []
    for level in levels:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return path


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The tree's levels below its root, leaves first."""
    levels, level = [], list(leaves)
    while len(level) > 1:
        levels.append(level)
        level = _level_up(level)
    return levels


def _level_up(level: list[bytes]) -> list[bytes]:
    pairs = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return pairs + level[len(level) & ~1 :]


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion path leads to (RFC 9162, 2.1.3.2).

    Raises:
        ProofInvalidError: the path's length does not fit the index and size, or a hash is not 32 bytes.
    """
    if not 0 <= index < size:
        raise ProofInvalidError(f"There is no leaf {index} in a tree of {size}.")
    if any(len(step) != HASH_BYTES for step in path):
        raise ProofInvalidError("A hash of the proof is not 32 bytes long.")
    node, fn, sn = leaf, index, size - 1
    for step in path:
        if sn == 0:
            raise ProofInvalidError("The inclusion proof is too long for its tree.")
        if fn & 1 or fn == sn:
            node = node_hash(step, node)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = node_hash(node, step)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ProofInvalidError("The inclusion proof is too short for its tree.")
    return node


def consistency_path(leaves: Sequence[bytes], old: int) -> list[bytes]:
    """The proof that the first ``old`` leaves are a prefix of all of them (RFC 6962, 2.1.2).

    Raises:
        ProofInvalidError: the old size is larger than the tree, or negative.
    """
    if not 0 <= old <= len(leaves):
        raise ProofInvalidError(f"A tree of {len(leaves)} has no prefix of {old}.")
    if old in (0, len(leaves)):
        return []
    return _subproof(old, leaves, complete=True)


def _subproof(old: int, leaves: Sequence[bytes], *, complete: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if complete else [root_of(leaves)]
    cut = _split(len(leaves))
    if old <= cut:
        return [*_subproof(old, leaves[:cut], complete=complete), root_of(leaves[cut:])]
    return [*_subproof(old - cut, leaves[cut:], complete=False), root_of(leaves[:cut])]


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Check a consistency proof (RFC 9162, 2.1.4.2).

    Raises:
        ProofInvalidError: the old tree is not shown to be a prefix of the new one.
    """
    if not 0 <= old <= new:
        raise ProofInvalidError(f"A tree of {new} cannot extend one of {old}.")
    if any(len(step) != HASH_BYTES for step in path):
        raise ProofInvalidError("A hash of the proof is not 32 bytes long.")
    if old in (0, new):
        if path or (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            raise ProofInvalidError("Two trees of one size have different roots, or the proof is not empty.")
        return
    first, second = _replay_consistency(old, new, old_root, path)
    if first != old_root or second != new_root:
        raise ProofInvalidError("The new tree does not extend the old one.")


def _replay_consistency(old: int, new: int, old_root: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    steps: Iterator[bytes] = iter(path if old & (old - 1) else (old_root, *path))
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = next(steps, b"")
    for step in steps:
        if sn == 0:
            raise ProofInvalidError("The consistency proof is too long.")
        if fn & 1 or fn == sn:
            first, second = node_hash(step, first), node_hash(step, second)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, step)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise ProofInvalidError("The consistency proof is too short.")
    return first, second
