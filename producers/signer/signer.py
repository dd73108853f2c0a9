"""Signing what is committed: read back, prove that it extends, promise, sign, keep, publish. In that order.

A crash between any two of these is harmless: a promise is signed at the next start, a kept checkpoint is published
then, and neither is ever made for another head of the same size.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from tensorguard.ledger import checkpoint
from tensorguard.ledger.checkpoint import Checkpoint, SignerKeys, chain_origin
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.record import decode_meta

from producers.clock import SECOND, Clock
from producers.engines.errors import StorageFullError, UnreachableError
from producers.files import replace_file
from producers.locks import FileLock
from producers.secretfiles import private_folder
from producers.signer.errors import ForkedError, RolledBackError, SignerActiveError, SignerError, SignerMissingError
from producers.signer.store import Head, Seeds, SignerStore
from producers.trustroot import PUBLIC_KEYS_FILE, signer_keys_document

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from producers.engines.port import LogEngine

FOLDER = "signer"
MAX_EVENTS = 128
MAX_SECONDS = 0.2
_IDLE_SECONDS = 30.0
_AGAIN_SECONDS = 1.0
_PAGE = 1024
_HASH_BYTES = 32
_NEVER = 1 << 62
_log = structlog.get_logger("signer")


class SignerHome:
    """The signer's folder: a lock that keeps a second signer out, and the store."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        folder = private_folder(data_dir / FOLDER)
        self._lock = FileLock(folder / "lock")
        if not self._lock.try_acquire():
            raise SignerActiveError("Another signer runs on this data dir.")
        self.store = SignerStore(folder / "signer.db")

    def make_keys(self, now: int) -> SignerKeys:
        """New keys, in use from ``now`` (POSIX seconds); earlier ones are retired."""
        ed25519, mldsa44 = Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
        public = SignerKeys(ed25519.public_key().public_bytes_raw(), mldsa44.public_key().public_bytes_raw(), now)
        self.store.add_keys(Seeds(ed25519.private_bytes_raw(), mldsa44.private_bytes_raw()), public)
        return public

    def publish_keys(self) -> None:
        """Write the public keys where the platform and auditors find them."""
        replace_file(self._data_dir / PUBLIC_KEYS_FILE, signer_keys_document(self.store.public_keys()))

    def close(self) -> None:
        """Give the lock back."""
        self.store.close()
        self._lock.release()


class Signer:
    """Signs the chains of one ledger. One thread uses it."""

    def __init__(self, engine: LogEngine, store: SignerStore, origin: str, clock: Clock) -> None:
        seeds = store.seeds()
        if seeds is None:
            raise SignerMissingError("This data dir has no signer keys.")
        self._engine = engine
        self._store = store
        self._origin = origin
        self._clock = clock
        self._ed25519 = Ed25519PrivateKey.from_private_bytes(seeds.ed25519)
        self._mldsa44 = MLDSA44PrivateKey.from_seed_bytes(seeds.mldsa44)
        self.refused: dict[str, SignerError] = {}
        self._unread: set[str] = set()

    def run(self) -> None:
        """Sign for as long as the process lives; what could not be done now is done in a later round."""
        while True:
            try:
                self.advance()
                self._rest()
            except (StorageFullError, UnreachableError) as error:
                _log.error("signing_delayed", code=error.code, detail=str(error))
                threading.Event().wait(_AGAIN_SECONDS)

    def _rest(self) -> None:
        """Wait for something new, and for enough of it or long enough since the last round."""
        signed_at = time.monotonic()
        self._engine.wait(self._seen(), _IDLE_SECONDS)
        left = signed_at + MAX_SECONDS - time.monotonic()
        if left > 0:
            self._engine.wait(self._seen(MAX_EVENTS - 1), left)

    def advance(self) -> None:
        """One round over all chains."""
        self.promise()
        self.sign()
        self.publish()

    def promise(self) -> None:
        """Read back what was committed since the last round and promise the new heads.

        A chain that cannot be read holds up the others for one round alone: it comes last in the next one.

        Raises:
            UnreachableError: the ledger cannot be read.
        """
        steps: list[tuple[str, Head, Head]] = []
        chains = {*self._engine.chains(), *self._store.chains()} - self.refused.keys()
        for chain in sorted(chains, key=lambda each: (each in self._unread, each)):
            before = self._store.head(chain)
            try:
                after = self._checked(chain, before)
            except UnreachableError as error:
                self._unread.add(chain)
                if not steps:
                    raise
                _log.error("signing_delayed", chain=chain, code=error.code, detail=str(error))
                break
            self._unread.discard(chain)
            if after is not None and after.size > before.size:
                steps.append((chain, before, after))
        if steps:
            self._store.promise(steps)

    def sign(self, *, anew: bool = False) -> None:
        """Sign the promises that have no checkpoint yet (``anew``: all of them, after a rotation) and keep them."""
        promises = self._store.promised() if anew else self._store.unsigned()
        trusted = [promise for promise in promises if promise[0] not in self.refused]
        notes = [(chain, size, self._note(chain, size, root)) for chain, size, root in trusted]
        if notes:
            self._store.keep_notes(notes)

    def publish(self) -> None:
        """Publish what was kept."""
        for chain in self._store.chains():
            note = self._store.note(chain)
            if note is not None and note != self._engine.checkpoint(chain):
                self._engine.publish_checkpoint(chain, note)

    def _note(self, chain: str, size: int, root: bytes) -> bytes:
        head = Checkpoint(chain_origin(self._origin, chain), size, root)
        return checkpoint.sign(head, self._ed25519, self._mldsa44, self._clock() // SECOND)

    def _checked(self, chain: str, before: Head) -> Head | None:
        try:
            return self._extended(chain, before)
        except SignerError as error:
            self.refused[chain] = error
            _log.critical("signing_refused", chain=chain, code=error.code, detail=str(error))
            return None

    def _extended(self, chain: str, head: Head) -> Head:
        """The head of all that is committed, proven to extend an earlier one.

        Raises:
            RolledBackError: there are fewer records than before.
            ForkedError: a record is another one than before, or does not follow the one before it.
        """
        size = self._engine.size(chain)
        if size < head.size:
            raise RolledBackError(f"Chain {chain!r} has {size} records; {head.size} were signed.")
        if head.size and leaf_hash(b"".join(self._engine.read(chain, head.size - 1, 1))) != head.leaf:
            raise ForkedError(f"Record {head.size - 1} of chain {chain!r} is another one than was signed.")
        while head.size < size:
            head = _follow(chain, head, self._engine.read(chain, head.size, min(_PAGE, size - head.size)))
        return head

    def _seen(self, more: int = 0) -> dict[str, int]:
        """What need not wake the signer: chains as large as they are promised, and those it refuses."""
        sizes = {chain: size + more for chain, size, _ in self._store.promised()}
        return {**sizes, **dict.fromkeys(self.refused, _NEVER)}


def _follow(chain: str, head: Head, page: Sequence[bytes]) -> Head:
    if not page:
        raise RolledBackError(f"Chain {chain!r} lost records while it was read.")
    leaf, leaves = head.leaf, []
    for seq, data in enumerate(page, head.size):
        if data[:_HASH_BYTES] != leaf or not _stands_at(data, chain, seq):
            raise ForkedError(f"Record {seq} of chain {chain!r} does not follow the one before it.")
        leaf = leaf_hash(data)
        leaves.append(leaf)
    return Head(head.frontier.extend(leaves), leaf)


def _stands_at(data: bytes, chain: str, seq: int) -> bool:
    try:
        meta = decode_meta(data)
    except LedgerError:
        return False
    return meta.chain == chain and meta.seq == seq
