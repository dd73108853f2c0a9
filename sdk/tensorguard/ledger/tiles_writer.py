"""Writing an export of tiles, and adding to one: see ``tiles_reader.py`` for its layout.

A tile or bundle that is there is never written over: the same bytes are left alone, others are refused. A partial one
goes when the full one has come. The checkpoint comes last, so whoever reads meanwhile finds all that it covers.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger import checkpoint as checkpoints
from tensorguard.ledger import trust
from tensorguard.ledger.checkpoint import Checkpoint, SignedCheckpoint
from tensorguard.ledger.errors import ExportError, ForeignLogError, LedgerError, RuleBrokenError
from tensorguard.ledger.export import CHECKPOINT, TRUST_ROOT, frame, is_chain_name, read_small, reported
from tensorguard.ledger.merkle import EMPTY_ROOT, leaf_hash
from tensorguard.ledger.tiles import PARTIAL_SUFFIX, WIDTH, TileTree, bundle_path
from tensorguard.ledger.tiles_reader import SIGNER, LogFolder, log_folders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    RecordsBetween = Callable[[int, int], Iterable[bytes]]

_FRESH = ".writing"


@dataclass(frozen=True, slots=True)
class Written:
    """A log's size after an export, and how many records of it that export added."""

    size: int
    added: int


@contextmanager
def tiles_writer(directory: Path, trust_root: bytes) -> Iterator[TilesWriter]:
    """Write into a new or empty directory, or into one that holds an earlier export of this installation.

    Raises:
        ForeignLogError: the directory holds something else.
        ExportError: another export writes there, or the disk refuses.
        LedgerError: the trust root is none.
    """
    with reported("The export directory cannot be written."):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor)
        yield TilesWriter(directory, trust_root)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        step = "Wait until it has ended, and export again."
        raise ExportError("Another export writes into this directory.", next_step=step) from error


class TilesWriter:
    """Writes the logs of one installation; :func:`tiles_writer` opens it."""

    def __init__(self, directory: Path, trust_root: bytes) -> None:
        self._directory = directory
        self._root = trust.parse(trust_root)
        with reported("The export directory cannot be written."):
            if self._is_newest():
                self._replace(directory / TRUST_ROOT, trust_root)

    def write_chain(self, chain: str, checkpoint: bytes, read: RecordsBetween) -> Written:
        """Make a chain's log hold the records that a checkpoint covers; only those that it lacks are written.

        Args:
            chain: its name.
            checkpoint: the signed note; it must verify under the trust root.
            read: the chain's records from one position on, up to another.

        Raises:
            ForeignLogError: the folder holds something else than an earlier state of this log.
            RuleBrokenError: wrong_root, the records do not hash to the root that is signed.
            ExportError: no chain has that name, the records fall short, or the disk refuses.
            LedgerError: the checkpoint does not verify.
        """
        if not is_chain_name(chain):
            raise ExportError("A chain cannot be exported under its name: it is no chain name.")
        head = checkpoints.verify(checkpoint, self._root.chain_origin(chain), self._root.signer_keys)
        log = LogFolder(self._directory / chain)
        with reported(f"Chain {chain!r} cannot be written."):
            known = self._known_head(log, head.checkpoint)
            tree = self._add(log, known, head.checkpoint, read)
            for tile in tree.partial():
                self._put(log.path / tile.path, tile.hashes)
            self._publish(log, checkpoint, head)
        return Written(tree.size, tree.size - known.size)

    def _is_newest(self) -> bool:
        """Whether this trust root is to stand in the directory; one of another installation is never replaced."""
        held = {entry.name for entry in self._directory.iterdir()} - {_FRESH}
        if not held:
            return True
        try:
            log_folders(self._directory)
            return trust.newest(trust.parse(read_small(self._directory / TRUST_ROOT)), self._root) is self._root
        except LedgerError as error:
            raise ForeignLogError(
                f"The directory is not empty, and holds no tiles of this installation: {error.detail}"
            ) from error

    def _known_head(self, log: LogFolder, head: Checkpoint) -> Checkpoint:
        """What the folder already holds of a log: the head of an earlier export, or that of an empty log."""
        log.path.mkdir(exist_ok=True)
        note = log.checkpoint()
        if note is None:
            return Checkpoint(head.origin, 0, EMPTY_ROOT)
        try:
            known = checkpoints.verify(note, head.origin, self._root.signer_keys).checkpoint
        except LedgerError as error:
            raise ForeignLogError(f"The folder {log.path.name!r} holds another log: {error.detail}") from error
        if known.size > head.size:
            raise ForeignLogError(f"The folder {log.path.name!r} holds {known.size} records; the ledger {head.size}.")
        return known

    def _add(self, log: LogFolder, known: Checkpoint, head: Checkpoint, read: RecordsBetween) -> TileTree:
        """Write what fills; begins at the last full bundle, so the head that is known is met before any write."""
        start = known.size - known.size % WIDTH
        tree, bundle = TileTree.resumed(start, log.hashes), bytearray()
        _check_known(tree, known)
        for data in read(start, head.size):
            filled = tree.append(leaf_hash(data))
            bundle += frame(data)
            _check_known(tree, known)
            if filled:
                self._put_full(log.path / bundle_path(filled[0].index), bytes(bundle))
                bundle.clear()
            for tile in filled:
                self._put_full(log.path / tile.path, tile.hashes)
        _check_head(tree, head)
        if bundle:
            self._put(log.path / bundle_path(*divmod(tree.size, WIDTH)), bytes(bundle))
        return tree

    def _publish(self, log: LogFolder, checkpoint: bytes, head: SignedCheckpoint) -> None:
        signer, _ = head.keys.verifier_keys(head.checkpoint.origin)
        self._replace(log.path / SIGNER, f"{signer.to_text()}\n".encode())
        self._replace(log.path / CHECKPOINT, checkpoint)

    def _put_full(self, path: Path, data: bytes) -> None:
        """Put a full tile or bundle, and drop the partial ones that it begins with."""
        partial = path.with_name(path.name + PARTIAL_SUFFIX)
        parts = list(partial.iterdir()) if partial.is_dir() else []
        if not all(data.startswith(part.read_bytes()) for part in parts):
            raise ForeignLogError(f"{partial.relative_to(self._directory)} holds something else than the ledger.")
        self._put(path, data)
        if parts:
            shutil.rmtree(partial)

    def _put(self, path: Path, data: bytes) -> None:
        if not os.path.lexists(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._replace(path, data)
        elif path.stat().st_size != len(data) or path.read_bytes() != data:
            raise ForeignLogError(f"{path.relative_to(self._directory)} holds something else than the ledger.")

    def _replace(self, path: Path, data: bytes) -> None:
        fresh = self._directory / _FRESH
        with fresh.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(path)


def _check_known(tree: TileTree, known: Checkpoint) -> None:
    if tree.size == known.size and tree.root() != known.root:
        raise ForeignLogError("The folder holds another history than the ledger's, or its tiles are damaged.")


def _check_head(tree: TileTree, head: Checkpoint) -> None:
    if tree.size != head.size:
        raise ExportError(f"The checkpoint covers {head.size} records; the ledger gave {tree.size}.")
    if tree.root() != head.root:
        raise RuleBrokenError("wrong_root", "The records do not hash to the root that is signed.")
