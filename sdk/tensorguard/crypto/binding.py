"""One unambiguous byte string for several values: what hashes, AADs and HPKE infos are made of."""

from __future__ import annotations

from hashlib import sha256


def bind(domain: str, *parts: bytes) -> bytes:
    """``domain || 00 || (uint64 length || part)...``: two different lists of parts never give the same bytes."""
    return b"".join([domain.encode(), b"\x00", *(len(part).to_bytes(8, "big") + part for part in parts)])


def bound_hash(domain: str, *parts: bytes) -> bytes:
    """SHA-256 of :func:`bind`: 32 bytes."""
    return sha256(bind(domain, *parts)).digest()
