from __future__ import annotations

import io
import os
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.crypto.errors import (
    KeyMalformedError,
    StreamDamagedError,
    StreamError,
    StreamExtraBytesError,
    StreamTruncatedError,
    WrongKeyError,
)
from tensorguard.crypto.stream import (
    MAX_CHUNKS,
    StreamKey,
    check_commitment,
    decrypt_into,
    encrypt_stream,
    key_commitment,
    sealed_size,
)

CHUNK = 16
SEALED_CHUNK = CHUNK + 16
KEY = StreamKey(bytes(range(32)), sha256(b"header").digest(), b"prefix7", CHUNK)
PLAINTEXT = bytes(range(100))


def seal(plaintext: bytes, key: StreamKey = KEY) -> bytes:
    out = io.BytesIO()
    encrypt_stream([plaintext], out.write, key)
    return out.getvalue()


def unseal(sealed: bytes, size: int, key: StreamKey = KEY) -> bytes:
    target = bytearray(size)
    decrypt_into(io.BytesIO(sealed), memoryview(target), key)
    return bytes(target)


SEALED = seal(PLAINTEXT)
CHUNKS = [SEALED[at : at + SEALED_CHUNK] for at in range(0, len(SEALED), SEALED_CHUNK)]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=70), max_size=6), st.integers(1, 40))
def test_what_goes_in_in_any_pieces_comes_out(pieces: list[bytes], chunk_size: int) -> None:
    key, out = StreamKey(bytes(32), b"h", bytes(7), chunk_size), io.BytesIO()
    sealed = encrypt_stream(pieces, out.write, key)
    plaintext = b"".join(pieces)
    assert (sealed.size, sealed.plaintext_size) == (sealed_size(len(plaintext), chunk_size), len(plaintext))
    assert sealed.sha256 == sha256(out.getvalue()).digest()
    target = bytearray(len(plaintext))
    assert decrypt_into(io.BytesIO(out.getvalue()), memoryview(target), key) == sealed.sha256
    assert target == plaintext


@settings(deadline=None)
@given(st.integers(0, len(SEALED) * 8 - 1))
def test_any_flipped_bit_is_found(bit: int) -> None:
    damaged = bytearray(SEALED)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StreamDamagedError):
        unseal(bytes(damaged), len(PLAINTEXT))


@pytest.mark.parametrize("length", range(len(SEALED)))
def test_a_stream_cut_anywhere_is_truncated(length: int) -> None:
    with pytest.raises(StreamTruncatedError):
        unseal(SEALED[:length], len(PLAINTEXT))


@pytest.mark.parametrize("extra", [b"\x00", bytes(16), CHUNKS[-1]])
def test_bytes_after_the_end_are_named(extra: bytes) -> None:
    with pytest.raises(StreamExtraBytesError):
        unseal(SEALED + extra, len(PLAINTEXT))


@pytest.mark.parametrize(
    ("sealed", "size"),
    [
        pytest.param(b"".join([CHUNKS[1], CHUNKS[0], *CHUNKS[2:]]), len(PLAINTEXT), id="two chunks exchanged"),
        pytest.param(b"".join([CHUNKS[0], CHUNKS[0], *CHUNKS[2:]]), len(PLAINTEXT), id="a chunk repeated"),
        pytest.param(b"".join(CHUNKS[1:]), len(PLAINTEXT) - CHUNK, id="the first chunk dropped"),
        pytest.param(b"".join(CHUNKS[:-1]), len(PLAINTEXT) - 4, id="the last chunk dropped, and the size with it"),
        pytest.param(CHUNKS[0], CHUNK, id="one chunk passed off as the whole"),
        pytest.param(seal(PLAINTEXT, StreamKey(bytes(32), KEY.header_hash, b"prefix7", CHUNK)), 100, id="another key"),
        pytest.param(seal(PLAINTEXT, StreamKey(KEY.key, b"other", b"prefix7", CHUNK)), 100, id="another header"),
        pytest.param(seal(PLAINTEXT, StreamKey(KEY.key, KEY.header_hash, b"PREFIX7", CHUNK)), 100, id="another prefix"),
    ],
)
def test_a_stream_that_was_put_together_differently_does_not_open(sealed: bytes, size: int) -> None:
    with pytest.raises(StreamDamagedError):
        unseal(sealed, size)


def test_a_stream_cannot_be_made_long_enough_to_repeat_a_nonce() -> None:
    assert KEY.nonce(MAX_CHUNKS - 1, last=True)
    with pytest.raises(StreamError):
        KEY.nonce(MAX_CHUNKS, last=True)


@pytest.mark.parametrize(
    ("key", "prefix", "chunk"),
    [(31, 7, 16), (33, 7, 16), (32, 6, 16), (32, 12, 16), (32, 7, 0), (32, 7, -1), (32, 7, (1 << 24) + 1)],
)
def test_a_malformed_stream_key_is_refused(key: int, prefix: int, chunk: int) -> None:
    with pytest.raises(KeyMalformedError):
        StreamKey(bytes(key), b"", bytes(prefix), chunk)


def test_a_commitment_fits_one_key_only() -> None:
    key = os.urandom(32)
    check_commitment(key, key_commitment(key))
    with pytest.raises(WrongKeyError):
        check_commitment(os.urandom(32), key_commitment(key))


def test_a_stream_key_does_not_show_itself() -> None:
    assert repr(KEY.key) not in repr(KEY)
