"""How much a writer does at once, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Entries per micro-batch; records between snapshots; seconds of waiting when idle and when storage is full.

    A chain of more streams than ``snapshot_every`` has as many records between its snapshots as it has streams: what a
    snapshot costs grows with them, so what snapshots cost per record does not.
    """

    batch: int = 1024
    snapshot_every: int = 10_000
    idle_seconds: float = 0.5
    full_seconds: float = 1.0
