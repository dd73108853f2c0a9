"""Trees against RFC 6962's own recursive definition."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger import merkle
from tensorguard.ledger.errors import ProofInvalidError

HASHES = st.binary(min_size=32, max_size=32)
LEAVES = st.lists(HASHES, max_size=70)


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def naive_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(leaves: list[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*naive_path(leaves[:k], index), naive_root(leaves[k:])]
    return [*naive_path(leaves[k:], index - k), naive_root(leaves[:k])]


@given(LEAVES)
def test_root_is_that_of_the_definition(leaves: list[bytes]) -> None:
    assert merkle.root_of(leaves) == naive_root(leaves)


@given(LEAVES, st.integers(0, 70))
def test_a_frontier_may_grow_in_any_portions(leaves: list[bytes], cut: int) -> None:
    grown = merkle.Frontier().extend(leaves[:cut])
    for leaf in leaves[cut:]:
        grown = grown.append(leaf)
    assert (grown.size, grown.root()) == (len(leaves), naive_root(leaves))


@given(st.lists(HASHES, min_size=1, max_size=70), st.data())
def test_an_inclusion_path_is_that_of_the_definition_and_leads_to_the_root(
    leaves: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.inclusion_path(leaves, index)
    assert path == naive_path(leaves, index)
    assert merkle.root_from_path(leaves[index], index, len(leaves), path) == naive_root(leaves)


@given(st.lists(HASHES, min_size=2, max_size=40, unique=True), st.data())
def test_a_path_proves_no_other_leaf_index_or_size(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    other = data.draw(st.integers(0, len(leaves) - 1).filter(lambda i: i != index))
    path, root = merkle.inclusion_path(leaves, index), naive_root(leaves)
    assert leads_to(leaves[other], index, len(leaves), path) != root
    assert leads_to(leaves[index], other, len(leaves), path) != root
    assert leads_to(leaves[index], index, len(leaves), path[:-1]) != root
    assert leads_to(leaves[index], index, len(leaves), [*path, root]) != root


def leads_to(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    try:
        return merkle.root_from_path(leaf, index, size, path)
    except ProofInvalidError:
        return None


@given(LEAVES, st.data())
def test_a_consistency_proof_shows_a_prefix(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(0, len(leaves)))
    proof = merkle.consistency_path(leaves, old)
    merkle.check_consistency(old, naive_root(leaves[:old]), len(leaves), naive_root(leaves), proof)


@given(st.lists(HASHES, min_size=2, max_size=40, unique=True), st.data())
def test_a_consistency_proof_shows_nothing_else(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves) - 1))
    proof = merkle.consistency_path(leaves, old)
    forged = [*leaves[: old - 1], sha256(b"forged").digest()]
    with pytest.raises(ProofInvalidError):
        merkle.check_consistency(old, naive_root(forged), len(leaves), naive_root(leaves), proof)
    with pytest.raises(ProofInvalidError):
        merkle.check_consistency(old, naive_root(leaves[:old]), len(leaves), naive_root(forged), proof)


@given(st.integers(-2, 80), HASHES, st.integers(-2, 80), HASHES, st.lists(st.binary(max_size=33), max_size=9))
def test_garbage_proofs_raise_our_error_alone(
    old: int, old_root: bytes, new: int, new_root: bytes, path: list[bytes]
) -> None:
    for check in (
        lambda: merkle.check_consistency(old, old_root, new, new_root, path),
        lambda: merkle.root_from_path(old_root, old, new, path),
    ):
        try:
            check()
        except ProofInvalidError:
            continue


@given(st.lists(HASHES, min_size=1, max_size=70), st.sampled_from([1, 2, 4, 16, 128]), st.data())
def test_a_path_over_blocks_is_that_of_the_whole_tree(leaves: list[bytes], size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    blocks = [leaves[start : start + size] for start in range(0, len(leaves), size)]
    roots = [merkle.root_of(block) for block in blocks]
    assert merkle.blocked_inclusion_path(blocks[index // size], roots, index, size) == naive_path(leaves, index)
