"""Where every random number of a run comes from."""

from __future__ import annotations

from hashlib import sha256

_SEED_BITS = 63


def operation_seed(run_seed: int, op_seq: int) -> int:
    """The generator seed of one operation: it depends on nothing that came before, so a resumed run draws the same."""
    return _seed(b"tensorguard/op-seed/v1\x00", run_seed, op_seq)


def draw_seed(sample_seed: int, draw: int) -> int:
    """The generator seed of one completion; ``draw`` counts those of the same prompt, so neighbours do not matter."""
    return _seed(b"tensorguard/draw-seed/v1\x00", sample_seed, draw)


def _seed(domain: bytes, first: int, second: int) -> int:
    material = domain + first.to_bytes(8, "big", signed=True) + second.to_bytes(8, "big")
    return int.from_bytes(sha256(material).digest()[:8], "big") >> (64 - _SEED_BITS)
