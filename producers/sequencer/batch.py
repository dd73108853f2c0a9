"""One micro-batch: each entry is decided on drafts; an entry that fails leaves no trace, a batch that fails neither."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import structlog
from tensorguard.ledger.checkpoint import chain_origin
from tensorguard.ledger.envelope import Envelope, SignedCommand
from tensorguard.ledger.errors import LedgerError, MalformedRecordError

from producers.deciders import engine as judge
from producers.deciders.context import Rejected
from producers.deciders.registry import REJECTIONS_STREAM
from producers.engines.errors import EngineError
from producers.engines.port import ACCEPTED, REFUSED, REJECTED, Append, Commit, IntakeEntry, Quarantined, Reply
from producers.errors import ClockError
from producers.sequencer.observing import Decided
from producers.sequencer.seal import Sealer, Writer
from schemas.commands import ContinueLedger, MoveLedger

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.sequencer.fold import ChainFold
    from schemas.base import Event

_log = structlog.get_logger("sequencer")
QUARANTINED = "undecidable"
# What a stranger wrote is told back no longer than this: a reply must fit into a message, or nobody's could be written.
_LONGEST_CHAIN, _LONGEST_DETAIL = 255, 1_000
_MOVES = (MoveLedger, ContinueLedger)
_BY_COPY = "A ledger is moved by `tensorguard ledger copy` alone: where it goes is not for the intake to say."
_UNAUTHENTICATED = "No enrolled key of this chain signed the command, or there is no such chain."


@dataclass(frozen=True, slots=True)
class Founder:
    """What opens chains: the installation's origin, its authority's public key, and their intake partition for good."""

    origin: str
    authority_key: bytes
    partition: int = 0


@dataclass
class Batch:
    """The effects of a run of intake entries, gathered until they are committed together.

    ``fold_of`` gives the fold of a chain and ``reply_of`` the reply by command id and chain that it builds upon,
    ``time_after`` the time of a record that follows one of a given time. ``behind``: the position of the intake that
    the first entry follows; ``position``: that of the last one taken. ``began``: nanoseconds since the epoch.
    """

    writer: Writer
    founder: Founder
    fold_of: Callable[[str], ChainFold]
    reply_of: Callable[[bytes, str], Reply | None]
    time_after: Callable[[int], int]
    behind: int = 0
    began: int = 0
    drafts: dict[str, ChainFold] = field(default_factory=dict)
    replies: dict[tuple[bytes, str], Reply] = field(default_factory=dict)
    decided: list[Decided] = field(default_factory=list)
    _records: defaultdict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    _quarantined: list[Quarantined] = field(default_factory=list)
    position: int | None = None

    def take(self, entry: IntakeEntry) -> None:
        """Decide one entry. Whatever goes wrong with it alone ends in quarantine.

        Raises:
            ClockError: nothing can be sealed now.
            EngineError: the ledger cannot be asked now what was decided before.
        """
        try:
            self._decide(entry.data)
        except (ClockError, EngineError):  # It is no fault of the entry's: it stays in the intake.
            raise
        except Exception as error:  # noqa: BLE001 -- whatever one entry raises, it must not block the others
            # The type alone: the text of an unexpected error may quote what it choked on.
            self._quarantine(entry, type(error).__name__)
        self.position = entry.position

    def settle(self, data: bytes) -> None:
        """Decide a command that never was in the intake.

        Raises:
            MalformedRecordError: it is none of this build's.
            ClockError: nothing can be sealed now.
        """
        self._judge(judge.present(data))

    def fold_after(self, chain: str) -> ChainFold:
        """The fold of a chain as this leaves it."""
        return self.drafts.get(chain) or self.fold_of(chain)

    def decision_on(self, command_id: bytes, chain: str) -> Reply | None:
        """The decision on a command, made here or before."""
        now = self.replies.get((command_id, chain))
        reply = now if now is not None and now.outcome != REFUSED else self.reply_of(command_id, chain)
        return None if reply is None or reply.outcome == REFUSED else reply

    def build_upon(self, fold_of: Callable[[str], ChainFold], reply_of: Callable[[bytes, str], Reply | None]) -> None:
        """Build upon other folds and replies: those that say the same, once what was under way is committed."""
        self.fold_of, self.reply_of = fold_of, reply_of
        for chain, draft in self.drafts.items():
            draft.rebase(fold_of(chain))

    def commit(self) -> Commit:
        """All effects, for the engine."""
        appends = [Append(chain, self.fold_of(chain).head.size, records) for chain, records in self._records.items()]
        return Commit(self.writer.epoch, appends, tuple(self.replies.values()), self.position, self._quarantined)

    def _decide(self, data: bytes) -> None:
        try:
            presented = judge.present(data)
        except MalformedRecordError as error:
            self._refuse(_claimed(data), "malformed", error.detail)
            return
        if self._told_again(presented.envelope):
            return
        if isinstance(presented.command, _MOVES):
            self._refuse(presented.envelope, "forbidden", _BY_COPY)
        else:
            self._judge(presented)

    def _told_again(self, envelope: Envelope) -> bool:
        """Whether a command was decided before; who sent it again may wait where that is forgotten."""
        earlier = self.decision_on(envelope.command_id, envelope.chain)
        if earlier is not None:
            self.replies[envelope.command_id, envelope.chain] = earlier
        return earlier is not None

    def _judge(self, presented: judge.Presented) -> None:
        envelope = presented.envelope
        draft = self._draft_of(envelope.chain).draft()
        now = self.time_after(draft.head.recorded_at)
        sealer = Sealer(draft, self.writer, now)
        if draft.opened() is None and judge.opens_chain(presented, self.founder.authority_key):
            origin = chain_origin(self.founder.origin, envelope.chain)
            sealer.open_chain(origin, self.founder.authority_key, self.founder.partition)
        opened = draft.opened()
        identity = opened and judge.authenticate(presented, envelope.chain, opened.authority_key, draft.find)
        if not identity:
            self._refuse(envelope, "unauthenticated", _UNAUTHENTICATED)
            return
        verdict = judge.judge(
            presented, identity, chain=envelope.chain, now=now, find=draft.find, version_of=draft.version_of
        )
        events = self._seal(sealer, presented, verdict)
        self._draft_of(envelope.chain).adopt(draft)
        self._records[envelope.chain] += sealer.records
        reply = self._reply(presented, verdict, draft.head.size)
        self.decided.append(Decided(envelope, reply.outcome, reply.code, events))

    def _seal(self, sealer: Sealer, presented: judge.Presented, verdict: judge.Verdict) -> tuple[Event, ...]:
        if isinstance(verdict, Rejected):
            rejection = judge.rejection_event(presented.envelope, verdict)
            sealer.seal(presented, REJECTIONS_STREAM, (rejection,))
            return (rejection,)
        sealer.seal(presented, verdict.stream, verdict.events)
        return verdict.events

    def _reply(self, presented: judge.Presented, verdict: judge.Verdict, size: int) -> Reply:
        envelope, digest = presented.envelope, sha256(presented.envelope.body).digest()
        rejected = isinstance(verdict, Rejected)
        count = 1 if isinstance(verdict, Rejected) else len(verdict.events)
        code, detail = (verdict.code, verdict.detail) if isinstance(verdict, Rejected) else ("", "")
        outcome = REJECTED if rejected else ACCEPTED
        reply = Reply(envelope.command_id, outcome, envelope.chain, size - count, size - 1, code, detail, digest)
        self.replies[envelope.command_id, envelope.chain] = reply
        return reply

    def _refuse(self, envelope: Envelope | None, code: str, detail: str) -> None:
        """Answer without a record; what names no command id, or no chain that could be, has nobody to answer to."""
        self.decided.append(Decided(envelope, REFUSED, code, ()))
        if envelope is None or len(envelope.chain) > _LONGEST_CHAIN:
            return
        if self.decision_on(envelope.command_id, envelope.chain) is not None:
            return
        digest = sha256(envelope.body).digest()
        reply = Reply(envelope.command_id, REFUSED, envelope.chain, None, None, code, detail[:_LONGEST_DETAIL], digest)
        self.replies[envelope.command_id, envelope.chain] = reply

    def _quarantine(self, entry: IntakeEntry, error: str) -> None:
        _log.error("command_quarantined", position=entry.position, error=error)
        self._quarantined.append(Quarantined(entry.position, QUARANTINED, self.time_after(0)))
        self._refuse(
            _claimed(entry.data), QUARANTINED, "The command could not be decided; it is kept for the operator."
        )

    def _draft_of(self, chain: str) -> ChainFold:
        if chain not in self.drafts:
            self.drafts[chain] = self.fold_of(chain).draft()
        return self.drafts[chain]


def _claimed(data: bytes) -> Envelope | None:
    """The envelope of bytes that are not believed, if they have one."""
    try:
        return SignedCommand.from_bytes(data).envelope()
    except LedgerError:
        return None
