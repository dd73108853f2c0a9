from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.crypto import hpke, wrap
from tensorguard.crypto.binding import bind
from tensorguard.crypto.errors import KeyMalformedError, WrongKeyError
from tensorguard.crypto.hpke import HpkePrivateKey
from tensorguard.crypto.memory import wipe

DEVICE = HpkePrivateKey.generate()
SECRET, INFO = os.urandom(32), b"package, tenant, recipient"
SEALED = hpke.seal(DEVICE.public_key, SECRET, INFO)


def test_a_seal_opens_for_its_recipient_and_purpose() -> None:
    assert DEVICE.open(SEALED, INFO) == SECRET
    assert (len(DEVICE.public_key), len(SEALED)) == (1216, 1168)


@pytest.mark.parametrize(
    ("key", "sealed", "info"),
    [
        pytest.param(HpkePrivateKey.generate(), SEALED, INFO, id="another recipient"),
        pytest.param(DEVICE, SEALED, b"another package", id="another purpose"),
        pytest.param(DEVICE, SEALED, b"", id="no purpose"),
        pytest.param(DEVICE, SEALED[:-1], INFO, id="cut"),
        pytest.param(DEVICE, SEALED[:100], INFO, id="cut in the encapsulated key"),
        pytest.param(DEVICE, SEALED + b"\x00", INFO, id="extended"),
        pytest.param(DEVICE, b"", INFO, id="empty"),
        pytest.param(DEVICE, bytes([SEALED[0] ^ 1]) + SEALED[1:], INFO, id="a bit of the ML-KEM ciphertext"),
        pytest.param(DEVICE, SEALED[:1090] + bytes([SEALED[1090] ^ 1]) + SEALED[1091:], INFO, id="a bit of the share"),
    ],
)
def test_a_seal_opens_for_nobody_and_nothing_else(key: HpkePrivateKey, sealed: bytes, info: bytes) -> None:
    with pytest.raises(WrongKeyError):
        key.open(sealed, info)


@pytest.mark.parametrize(
    "public",
    [
        pytest.param(b"", id="empty"),
        pytest.param(DEVICE.public_key[:-1], id="cut"),
        pytest.param(DEVICE.public_key + b"\x00", id="extended"),
        pytest.param(b"\xff" * 1184 + DEVICE.public_key[1184:], id="coefficients over the modulus"),
        pytest.param(DEVICE.public_key[:1184] + bytes(32), id="an X25519 point of low order"),
    ],
)
def test_a_public_key_that_is_none_is_refused(public: bytes) -> None:
    with pytest.raises(KeyMalformedError):
        hpke.seal(public, SECRET, INFO)


def test_a_seed_gives_the_x_wing_key_of_the_published_vector() -> None:
    """The first test vector of draft-connolly-cfrg-xwing-kem, by the start of its public key."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    assert HpkePrivateKey(seed).public_key.hex().startswith("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713")


@given(st.binary(min_size=1, max_size=80))
def test_a_wrapped_key_opens_under_its_wrapping_key_alone(key: bytes) -> None:
    kek = os.urandom(32)
    wrapped = wrap.wrap_key(kek, key)
    assert wrap.unwrap_key(kek, wrapped) == key
    with pytest.raises(WrongKeyError):
        wrap.unwrap_key(os.urandom(32), wrapped)


@pytest.mark.parametrize(("kek", "key"), [(16, 32), (31, 32), (32, 0)])
def test_keys_of_other_lengths_are_refused(kek: int, key: int) -> None:
    with pytest.raises(KeyMalformedError):
        wrap.wrap_key(bytes(kek), bytes(key))


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_two_lists_of_parts_never_bind_to_the_same_bytes(left: list[bytes], right: list[bytes]) -> None:
    assert (bind("d", *left) == bind("d", *right)) == (left == right)


def test_wiping_leaves_zeros() -> None:
    buffer = bytearray(os.urandom(1000))
    wipe(memoryview(buffer)[10:20])
    assert buffer[10:20] == bytes(10)
    assert any(buffer)
    wipe(buffer)
    assert buffer == bytes(1000)
    wipe(bytearray())


def test_private_keys_do_not_show_themselves() -> None:
    assert repr(DEVICE.seed) not in repr(DEVICE)
    assert "secret-key-bytes" not in repr(wrap.Dek("id", b"secret-key-bytes"))
