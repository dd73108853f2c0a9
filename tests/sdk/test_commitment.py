"""A commitment hides its data, is the same on every machine, and opens to nothing else."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorguard import commitment
from tensorguard.commitment import CommitmentMismatchError, SaltError, UncommittableError, canonical, check, commit

SALT = bytes(range(32))
BATCH = {"labels": [[1, -100]], "input_ids": [[1, 2]], "attention_mask": [[1, 1]]}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aé€😀\n"'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=12,
)

CANONICAL = {
    "keys are sorted and spaces left out": (
        BATCH,
        b'{"attention_mask":[[1,1]],"input_ids":[[1,2]],"labels":[[1,-100]]}',
    ),
    "text is UTF-8 and not escaped": (["Grüße", "€\n"], '["Grüße","€\\n"]'.encode()),
    "nested keys are sorted": ({"b": {"d": 1, "c": None}, "a": True}, b'{"a":true,"b":{"c":null,"d":1}}'),
    "nothing is a value too": ([], b"[]"),
}

UNCOMMITTABLE = {
    "not a number": [float("nan")],
    "an infinity": {"a": float("inf")},
    "a key that is no text": {"a": [{1: 2}]},
    "a true key beside a text one": {True: 1},
    "bytes": b"raw",
    "a set": {"a": {1}},
    "a lone surrogate": ["\ud800"],
}

BAD_SALTS = {
    "too short": "ab" * 31,
    "too long": "ab" * 33,
    "odd": "a" * 63,
    "other characters": "zz" * 32,
    "spaces that fromhex would skip": "ab " * 21 + "a",
    "empty": "",
}


@pytest.mark.parametrize(("value", "expected"), CANONICAL.values(), ids=CANONICAL)
def test_canonical_bytes_are_as_written_here(value: object, expected: bytes) -> None:
    assert canonical(value) == expected


@pytest.mark.parametrize("value", UNCOMMITTABLE.values(), ids=UNCOMMITTABLE)
def test_a_value_without_canonical_bytes_is_refused(value: object) -> None:
    with pytest.raises(UncommittableError):
        canonical(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(UncommittableError):
        canonical(loop)


def test_a_commitment_is_the_documented_hash() -> None:
    data = canonical(BATCH)
    assert commit(SALT, data) == sha256(b"tensorguard/commitment/v1\0" + SALT + sha256(data).digest()).digest()


def test_a_commitment_has_a_fixed_value() -> None:
    expected = "17d78cc40f6e7f34bb675def708e8704eaa58273f08649fe7e370c18309414fd"
    assert commit(SALT, canonical(BATCH)).hex() == expected


@given(json_values, json_values, st.binary(min_size=32, max_size=32))
def test_a_commitment_opens_only_to_its_own_data(value: object, other: object, salt: bytes) -> None:
    digest = commit(salt, canonical(value))
    check(digest, salt, canonical(value))
    if canonical(other) != canonical(value):
        with pytest.raises(CommitmentMismatchError):
            check(digest, salt, canonical(other))


def test_another_salt_does_not_open_it() -> None:
    digest = commit(SALT, canonical(BATCH))
    with pytest.raises(CommitmentMismatchError):
        check(digest, SALT[::-1], canonical(BATCH))


@pytest.mark.parametrize("text", BAD_SALTS.values(), ids=BAD_SALTS)
def test_a_malformed_salt_is_refused(text: str) -> None:
    with pytest.raises(SaltError):
        commitment.parse_salt(text)


def test_a_salt_is_read_back_as_it_was_written() -> None:
    assert commitment.parse_salt(SALT.hex()) == SALT


def test_a_raw_salt_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(SaltError):
        commit(SALT[:31], b"")
