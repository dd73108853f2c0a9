"""Sealed streams: AES-256-GCM in chunks with STREAM nonces, bound to a header, committed to one key.

Layout: chunks of ``chunk_size`` plaintext bytes (the last one may be shorter; an empty plaintext is one empty
chunk), each followed by its 16-byte tag. Nonce of chunk i: ``prefix (7) || uint32 i || last flag (1)``; the header's
hash is every chunk's additional data. So chunks cannot be reordered, dropped, doubled, or moved to another stream.
AES-GCM does not commit to its key: the signed header also holds :func:`key_commitment`.
"""

from __future__ import annotations

import hmac
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tensorguard.crypto.errors import (
    KeyMalformedError,
    StreamDamagedError,
    StreamError,
    StreamExtraBytesError,
    StreamTruncatedError,
    WrongKeyError,
)
from tensorguard.crypto.memory import Data, wipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ALGORITHM: Final = "AES-256-GCM"
CHUNK_BYTES = 1 << 20
MAX_CHUNK_BYTES = 1 << 24
MAX_CHUNKS = 1 << 32
KEY_BYTES = 32
PREFIX_BYTES = 7
TAG_BYTES = 16
_COMMITMENT_DOMAIN = b"tensorguard/key-commitment/v1"


class Source(Protocol):
    """Where ciphertext is read from: a file, or a part of one."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill a buffer from the front; how many bytes were there (0 at the end)."""


@dataclass(frozen=True, slots=True)
class StreamKey:
    """What opens one stream: key, hash of its header, nonce prefix, chunk size. A key seals one stream only."""

    key: bytes = field(repr=False)
    header_hash: bytes
    nonce_prefix: bytes
    chunk_size: int = CHUNK_BYTES

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES or len(self.nonce_prefix) != PREFIX_BYTES:
            raise KeyMalformedError(f"A stream takes a key of {KEY_BYTES} and a nonce prefix of {PREFIX_BYTES} bytes.")
        if not 0 < self.chunk_size <= MAX_CHUNK_BYTES:
            raise KeyMalformedError(f"A stream's chunks are 1 to {MAX_CHUNK_BYTES} bytes long.")

    def nonce(self, index: int, *, last: bool) -> bytes:
        """The 12-byte nonce of a chunk.

        Raises:
            StreamError: a stream of that many chunks would repeat nonces.
        """
        if index >= MAX_CHUNKS:
            raise StreamError("A stream has at most 2**32 chunks.", next_step="Use larger chunks.")
        return self.nonce_prefix + index.to_bytes(4, "big") + bytes([last])


@dataclass(frozen=True, slots=True)
class SealedStream:
    """What was written: SHA-256 and size of the ciphertext, size of the plaintext."""

    sha256: bytes
    size: int
    plaintext_size: int


def key_commitment(key: bytes) -> bytes:
    """32 bytes that fix a 32-byte key without telling anything about it: HMAC-SHA256(key, domain)."""
    return hmac.digest(key, _COMMITMENT_DOMAIN, "sha256")


def check_commitment(key: bytes, commitment: bytes) -> None:
    """Refuse a key that is not the one committed to.

    Raises:
        WrongKeyError: it is another one.
    """
    if not hmac.compare_digest(key_commitment(key), commitment):
        raise WrongKeyError("A key is not the one that the signed header commits to.")


def sealed_size(plaintext_size: int, chunk_size: int = CHUNK_BYTES) -> int:
    """The ciphertext size of a plaintext: one tag per chunk, at least one chunk."""
    return plaintext_size + TAG_BYTES * max(1, -(-plaintext_size // chunk_size))


def encrypt_stream(source: Iterable[Data], write: Callable[[memoryview], Any], stream: StreamKey) -> SealedStream:
    """Encrypt buffers of any sizes as one stream; ``write`` gets each sealed chunk once, and must use it at once.

    The hash of a chunk is taken beside the encryption of the next one.

    Raises:
        StreamError: the plaintext has more than 2**32 chunks.
    """
    cipher = AESGCM(stream.key)
    outputs = [bytearray(stream.chunk_size + TAG_BYTES) for _ in range(2)]
    plaintext_size = size = 0
    with _Beside() as beside:
        for index, (plain, last) in enumerate(_rechunked(source, stream.chunk_size)):
            sealed = memoryview(outputs[index % 2])[: len(plain) + TAG_BYTES]
            cipher.encrypt_into(stream.nonce(index, last=last), plain, stream.header_hash, sealed)
            beside.update(sealed)
            write(sealed)
            plaintext_size, size = plaintext_size + len(plain), size + len(sealed)
        return SealedStream(beside.digest(), size, plaintext_size)


def decrypt_into(source: Source, target: memoryview, stream: StreamKey) -> bytes:
    """Decrypt a whole stream into memory that has exactly the plaintext's size; the SHA-256 of the ciphertext.

    On an error the target may hold authenticated chunks: the caller wipes it.

    Raises:
        StreamTruncatedError: the source ends too early.
        StreamDamagedError: a chunk does not authenticate.
        StreamExtraBytesError: bytes follow the last chunk.
    """
    cipher = AESGCM(stream.key)
    inputs = [bytearray(stream.chunk_size + TAG_BYTES) for _ in range(2)]
    with _Beside() as beside:
        for index, (plain, last) in enumerate(_slices(target, stream.chunk_size)):
            sealed = memoryview(inputs[index % 2])[: len(plain) + TAG_BYTES]
            if _fill(source, sealed) != len(sealed):
                raise StreamTruncatedError(f"A sealed stream ends inside chunk {index}.")
            beside.update(sealed)
            try:
                cipher.decrypt_into(stream.nonce(index, last=last), sealed, stream.header_hash, plain)
            except InvalidTag as error:
                raise StreamDamagedError(f"Chunk {index} of a sealed stream does not authenticate.") from error
        if _fill(source, memoryview(bytearray(1))):
            raise StreamExtraBytesError("Bytes follow the last chunk of a sealed stream.")
        return beside.digest()


class _Beside:
    """SHA-256 in a thread of its own, one buffer behind: hashing is the slower half of sealing."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._pool = ThreadPoolExecutor(1, "sha256")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def update(self, data: memoryview) -> None:
        self._wait()
        self._pending = self._pool.submit(self._hash.update, data)

    def digest(self) -> bytes:
        self._wait()
        return self._hash.digest()

    def _wait(self) -> None:
        if self._pending:
            self._pending.result()


def _rechunked(source: Iterable[Data], size: int) -> Iterator[tuple[memoryview, bool]]:
    """Full chunks and the rest, each with whether it is the last; the copies are wiped in the end."""
    buffer, filled = bytearray(size), 0
    try:
        for piece in source:
            rest = memoryview(piece).cast("B") if memoryview(piece).nbytes else memoryview(b"")
            while rest:
                if filled == size:
                    yield memoryview(buffer), False
                    filled = 0
                take = min(size - filled, len(rest))
                buffer[filled : filled + take] = rest[:take]
                filled, rest = filled + take, rest[take:]
        yield memoryview(buffer)[:filled], True
    finally:
        wipe(buffer)


def _slices(target: memoryview, size: int) -> Iterator[tuple[memoryview, bool]]:
    for start in range(0, max(1, len(target)), size):
        yield target[start : start + size], start + size >= len(target)


def _fill(source: Source, buffer: memoryview) -> int:
    filled = 0
    while filled < len(buffer):
        count = source.readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled
