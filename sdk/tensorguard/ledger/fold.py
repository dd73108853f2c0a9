"""The two levels at which one chain is read: as bytes under a tree, and as records that agree with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.ledger import record as records
from tensorguard.ledger.command_rules import Commands
from tensorguard.ledger.errors import LedgerError, MalformedRecordError
from tensorguard.ledger.format import BOOTSTRAP
from tensorguard.ledger.key_rules import PublishedKeys
from tensorguard.ledger.merkle import EMPTY_ROOT, HASH_BYTES, Frontier, leaf_hash
from tensorguard.ledger.order_rules import Epochs, Moves, Opening, Position, Schemas
from tensorguard.ledger.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tensorguard.ledger.record import Record
    from tensorguard.ledger.trust import TrustRoot

MAX_FINDINGS = 32
_BATCH = 1024


class ByteFold:
    """Level one: ``prev_hash`` links and tree roots, without decoding anything."""

    def __init__(self, chain: str, sizes: Iterable[int]) -> None:
        self._chain = chain
        self._sizes = frozenset(sizes)
        self._frontier = Frontier()
        self._pending: list[bytes] = []
        self.size = 0
        self.last_leaf: bytes | None = None
        self.roots: dict[int, bytes] = {0: EMPTY_ROOT}
        self.findings: list[Finding] = []

    def add(self, data: bytes) -> None:
        """Link one more record."""
        if data[:HASH_BYTES] != (self.last_leaf or records.GENESIS_PREV_HASH):
            self._report_break()
        self.last_leaf = leaf_hash(data)
        self._pending.append(self.last_leaf)
        self.size += 1
        if self.size in self._sizes or len(self._pending) == _BATCH:
            self.root()

    def root(self) -> bytes:
        """The root over everything so far."""
        self._frontier = self._frontier.extend(self._pending)
        self._pending.clear()
        root = self._frontier.root()
        if self.size in self._sizes:
            self.roots[self.size] = root
        return root

    def _report_break(self) -> None:
        if len(self.findings) < MAX_FINDINGS:
            detail = "A record does not carry the hash of the one before it."
            self.findings.append(Finding("broken_chain", self._chain, self.size, detail))


class RecordFold:
    """Level two: decoded records. It ends at the first record that cannot be decoded: what follows has no meaning."""

    def __init__(self, chain: str, root: TrustRoot) -> None:
        self._chain = chain
        self._root = root
        self._seq = 0
        self._schemas = Schemas()
        self._keys = PublishedKeys(chain)
        self._rules: tuple[Callable[[Record], None], ...] = (
            Position(chain).check,
            Opening(chain, root).check,
            Epochs().check,
            Moves().check,
            Commands(chain, root.authority_key, self._schemas).check,
            self._schemas.check,
            self._keys.check,
        )
        self._ended = False
        self.findings: list[Finding] = []

    def add(self, data: bytes) -> None:
        """Check one more record."""
        if self._ended:
            return
        try:
            record = self._decode(data)
        except LedgerError as error:
            self._ended = True
            self._report(error, self._seq)
            return
        for rule in self._rules:
            self._apply(rule, record)
        self._seq += 1

    def end(self) -> None:
        """Check what only the whole chain can tell."""
        if self._seq == 0 and not self._ended:
            self.findings.append(Finding("chain_not_opened", self._chain, None, "The chain has no records."))
            return
        try:
            self._keys.check_against(self._root)
        except LedgerError as error:
            self._report(error, None)

    def _decode(self, data: bytes) -> Record:
        record = records.decode_record(data, self._schemas.events)
        text = self._schemas.events.get(record.meta.schema) or BOOTSTRAP[record.meta.schema][1]
        if records.encode_record(text, record.meta, record.command, record.body) != data:
            raise MalformedRecordError("A record is not in its canonical encoding.")
        return record

    def _apply(self, rule: Callable[[Record], None], record: Record) -> None:
        try:
            rule(record)
        except LedgerError as error:
            self._report(error, self._seq)

    def _report(self, error: LedgerError, seq: int | None) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(error.code, self._chain, seq, error.detail))
