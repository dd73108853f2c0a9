"""Snapshots of a fold: a cache of what this very build folded, checked by digest; without one a start refolds all."""

from __future__ import annotations

import json
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import structlog

from producers.deciders import registry
from producers.deciders.snapshot import SnapshotError
from producers.engines.errors import StorageFullError, UnreachableError
from producers.engines.port import Snapshot
from producers.sequencer.fold import ChainFold, Head, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.resources.abc import Traversable

    from producers.engines.port import LogEngine

_log = structlog.get_logger("sequencer")


@cache
def build_digest() -> str:
    """SHA-256 over the sources that folding depends on: another build folds anew instead of trusting our states."""
    digest = sha256()
    for package in ("producers.deciders", "schemas"):
        for source in _sources(files(package)):
            digest.update(sha256(source.read_bytes()).digest())
    return digest.hexdigest()


def _sources(folder: Traversable) -> Iterator[Traversable]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.name.endswith(".py"):
            yield entry


def take(fold: ChainFold) -> Snapshot:
    """The snapshot of a fold."""
    head = fold.head
    value = {
        "build": build_digest(),
        "chain": fold.chain,
        "head": [head.size, head.leaf.hex(), head.recorded_at, head.epoch],
        "streams": {
            name: [stream.version, registry.dump(stream.state).decode()] for name, stream in fold.streams.items()
        },
    }
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return Snapshot(fold.chain, head.size, sha256(data).digest(), data)


def restore(snapshot: Snapshot) -> ChainFold:
    """The fold of a snapshot.

    Raises:
        SnapshotError: the digest is wrong, another build took it, or a state does not read back.
    """
    if sha256(snapshot.data).digest() != snapshot.digest:
        raise SnapshotError("A snapshot's digest is wrong.")
    try:
        return _fold(snapshot.chain, json.loads(snapshot.data))
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError("A snapshot lacks a part.") from error


def _fold(chain: str, value: dict[str, Any]) -> ChainFold:
    if value["build"] != build_digest() or value["chain"] != chain:
        raise SnapshotError("A snapshot is of another build or chain.")
    size, leaf, recorded_at, epoch = value["head"]
    streams = {
        name: Stream(version, registry.load(name, state.encode()))
        for name, (version, state) in value["streams"].items()
    }
    return ChainFold(chain, Head(size, bytes.fromhex(leaf), recorded_at, epoch), streams)


class Snapshots:
    """The snapshots of a writer's chains; ``covered`` maps a chain to the records that its newest one covers."""

    def __init__(self, engine: LogEngine, covered: dict[str, int] | None = None) -> None:
        self._engine = engine
        self._covered = {} if covered is None else covered

    def take(self, folds: Iterable[ChainFold], every: Callable[[ChainFold], int]) -> None:
        """Keep one of each chain that has ``every`` records more than its newest one covers."""
        try:
            for fold in folds:
                if fold.head.size - self._covered.get(fold.chain, 0) >= every(fold):
                    self._engine.save_snapshot(take(fold))
                    self._covered[fold.chain] = fold.head.size
        except (StorageFullError, UnreachableError) as error:
            # A snapshot only saves time at the next start.
            _log.warning("snapshot_skipped", reason=error.code, detail=str(error))
