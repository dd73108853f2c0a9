"""Reading parts of a sealed stream: only the chunks that hold them are read and opened."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tensorguard.crypto.errors import StreamDamagedError, StreamTruncatedError
from tensorguard.crypto.stream import TAG_BYTES, StreamKey

if TYPE_CHECKING:
    from collections.abc import Iterator


def decrypt_range(source: BinaryIO, stream: StreamKey, size: int, start: int, end: int) -> Iterator[bytes]:
    """The plaintext bytes from ``start`` up to ``end``, a chunk's share at a time; ``size`` is the whole plaintext's.

    Every chunk is authenticated with its place before any of it is given out. That the ciphertext ends where it should
    shows only to a reader of the last chunk.

    Raises:
        StreamTruncatedError: the source ends inside a chunk.
        StreamDamagedError: a chunk does not authenticate.
    """
    cipher, chunk = AESGCM(stream.key), stream.chunk_size
    last = max(0, -(-size // chunk) - 1)
    for index in range(start // chunk, -(-min(end, size) // chunk)):
        wanted = min(chunk, size - index * chunk) + TAG_BYTES
        source.seek(index * (chunk + TAG_BYTES), io.SEEK_SET)
        sealed = source.read(wanted)
        if len(sealed) != wanted:
            raise StreamTruncatedError(f"A sealed stream ends inside chunk {index}.")
        try:
            plain = cipher.decrypt(stream.nonce(index, last=index == last), sealed, stream.header_hash)
        except InvalidTag as error:
            raise StreamDamagedError(f"Chunk {index} of a sealed stream does not authenticate.") from error
        yield plain[max(0, start - index * chunk) : end - index * chunk]
