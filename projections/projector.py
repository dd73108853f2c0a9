"""The projector: folds committed records into the views, a batch a transaction, and says what moved."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError, NoResultFound, SQLAlchemyError
from sqlalchemy.orm import Session
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.record import GENESIS_PREV_HASH

from producers.engines.errors import UnreachableError
from producers.engines.port import LogReader
from producers.feed import Feed, Recorded
from projections.errors import CorruptLedgerError, ForeignHistoryError, ProjectionError, ViewsUnavailableError
from projections.handlers import HANDLERS, View
from projections.models import Rejection, Watermark
from projections.notices import Listener, Notice, NoticeBoard
from schemas import codec, events

BATCH = 512
RECENT = 1024
"""How many rows of the newest batches stay in memory: the next records mostly speak of them."""
CATCH_UP_SECONDS = 2.0
"""How long a question waits for views that are behind, before its answer is that there is nothing."""
IDLE_SECONDS = 0.5
"""How long an idle projector sleeps before it looks whether it shall stop; records wake it at once."""


class Projector:
    """Keeps one database of views in step with a ledger. One thread steps; any thread may wait or listen."""

    def __init__(self, reader: LogReader, database: Engine) -> None:
        self._reader = reader
        self._database = database
        # One session for good: the rows that it still holds need not be read again, since nobody else writes them.
        self._session = Session(database, expire_on_commit=False)
        self._recent: deque[object] = deque(maxlen=RECENT)
        self._notices = NoticeBoard(self._watermarks())
        self._feed = self._feed_from_watermarks()

    def step(self, limit: int = BATCH) -> int:
        """Fold the next records in one transaction; how many there were.

        Raises:
            CorruptLedgerError: the next record cannot be what was written; everything before it is folded.
            ForeignHistoryError: the views do not stand on this ledger.
            ViewsUnavailableError: the database cannot be written; nothing of the batch is in it.
        """
        records = self._next(limit)
        if not records:
            return 0
        try:
            self._notices.post(self._fold(records))
        except (CorruptLedgerError, ForeignHistoryError):
            self._fold_up_to_fault(records)
        return len(records)

    def catch_up(self) -> None:
        """Step until nothing is left."""
        while self.step():
            pass

    def run(self, stop: threading.Event) -> None:
        """Step as records come, until ``stop`` is set; a database or a log that is out of reach is tried again.

        Raises:
            ProjectionError: the views stand still; whoever waits has been told.
        """
        while not stop.is_set():
            try:
                if not self.step():
                    self._feed.wait(IDLE_SECONDS)
            except (ViewsUnavailableError, UnreachableError):
                stop.wait(IDLE_SECONDS)
            except ProjectionError as error:
                self._notices.fail(error)
                raise

    def sizes(self) -> dict[str, int]:
        """Records folded so far, by chain."""
        return self._notices.sizes()

    def size(self, chain: str) -> int:
        """Records of one chain folded so far."""
        return self._notices.size(chain)

    def behind(self) -> int:
        """How many committed records the views do not hold yet."""
        sizes = self.sizes()
        return sum(max(0, size - sizes.get(chain, 0)) for chain, size in self._reader.sizes().items())

    def failure(self) -> Exception | None:
        """Why the views stand still, if they do."""
        return self._notices.failure()

    def wait_for(self, chain: str, seq: int, timeout: float) -> bool:
        """Block until record ``seq`` of a chain is folded, at most so many seconds; whether it is.

        Raises:
            ProjectionError: the views stand still before it.
        """
        return self._notices.wait_for(chain, seq, timeout)

    def wait_for_all(self, timeout: float) -> bool:
        """Block until everything that is committed at the moment of the call is folded; whether it is."""
        goal = self._reader.sizes()
        return all(self.wait_for(chain, size - 1, timeout) for chain, size in goal.items())

    def catch_up_with(self, chain: str) -> bool:
        """Block until all of a chain is folded that is committed now, if that does not take long; whether it is.

        Raises:
            ProjectionError: the views stand still before it.
        """
        return self.wait_for(chain, self._reader.size(chain) - 1, CATCH_UP_SECONDS)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` after every batch, from the projector's thread; returns its removal."""
        return self._notices.listen(listener)

    def _next(self, limit: int) -> Sequence[Recorded]:
        """The next records; one at a time when there is damage ahead, so that all before it is still folded."""
        try:
            return self._feed.poll(limit)
        except LedgerError as error:
            self._feed = self._feed_from_watermarks()
            if limit == 1:
                raise CorruptLedgerError(f"The views cannot go on: {error.detail}") from error
            return self._next(1)

    def _fold(self, records: Sequence[Recorded]) -> Notice:
        try:
            with self._session.begin():
                view = View(self._session)
                sizes = {
                    chain: _fold_chain(view, chain, list(part))
                    for chain, part in groupby(sorted(records, key=_position), key=lambda at: at.chain)
                }
                view.write_audit()
                self._recent.extend((*self._session.new, *self._session.dirty))
            return Notice(sizes, frozenset(view.touched))
        except (NoResultFound, IntegrityError) as error:
            raise CorruptLedgerError("A record speaks of something that no record before it brought about.") from error
        except SQLAlchemyError as error:
            self._feed = self._feed_from_watermarks()
            raise ViewsUnavailableError("The database of the read models cannot be written.") from error

    def _fold_up_to_fault(self, records: Sequence[Recorded]) -> None:
        """A batch holds a record that cannot be folded: keep what stands before it, then raise for it."""
        for at in records:
            self._notices.post(self._fold([at]))

    def _watermarks(self) -> dict[str, int]:
        try:
            with Session(self._database) as session:
                return {mark.chain: mark.size for mark in session.scalars(select(Watermark))}
        except SQLAlchemyError as error:
            raise ViewsUnavailableError("The database of the read models cannot be read.") from error

    def _feed_from_watermarks(self) -> Feed:
        watermarks = self._watermarks()
        for chain, size in watermarks.items():
            if size > self._reader.size(chain):
                raise ForeignHistoryError(f"The views hold {size} records of {chain!r}, more than the ledger has.")
        return Feed(self._reader, watermarks)


def _position(at: Recorded) -> tuple[str, int]:
    return at.chain, at.seq


def _fold_chain(view: View, chain: str, records: Sequence[Recorded]) -> int:
    """Fold records of one chain behind its watermark and move it; the chain's new size."""
    mark = view.session.get(Watermark, chain)
    if mark is None:
        mark = Watermark(chain=chain, size=0, last_leaf_hash=GENESIS_PREV_HASH.hex())
        view.session.add(mark)
    for at in records:
        if at.seq >= mark.size:
            _fold_record(view, mark, at)
    return mark.size


def _fold_record(view: View, mark: Watermark, at: Recorded) -> None:
    if at.seq != mark.size or at.meta.seq != at.seq or at.meta.chain != at.chain:
        raise CorruptLedgerError(
            f"Where record {mark.size} of {at.chain!r} belongs stands {at.meta.seq} of {at.meta.chain!r}."
        )
    if at.meta.prev_hash.hex() != mark.last_leaf_hash:
        raise ForeignHistoryError(
            f"Record {at.seq} of {at.chain!r} does not follow the one that the views hold before it."
        )
    digest = leaf_hash(at.data).hex()
    _index(view, at, digest)
    HANDLERS.apply(view, at)
    mark.size, mark.last_leaf_hash = at.seq + 1, digest


def _index(view: View, at: Recorded, digest: str) -> None:
    """What every record leaves: its audit entry, and for a rejection its own row."""
    meta = at.meta
    view.audit.append(
        {
            "chain": at.chain,
            "seq": at.seq,
            "event": type(at.event).__name__,
            "event_id": meta.event_id.hex(),
            "stream": meta.stream,
            "stream_seq": meta.stream_seq,
            "recorded_at": meta.recorded_at,
            "cause": meta.cause.hex() if meta.cause else None,
            "leaf_hash": digest,
            "data": json_safe(codec.to_dict(at.event)),
        }
    )
    if isinstance(at.event, events.CommandRejected):
        refused = at.event
        view.session.add(
            Rejection(
                chain=at.chain,
                seq=at.seq,
                command_id=refused.command_id.hex(),
                command_type=refused.command_type,
                stream=refused.stream,
                code=refused.code,
                detail=refused.detail,
                recorded_at=meta.recorded_at,
            )
        )


def json_safe(value: Any) -> Any:
    """An event's fields as JSON has them: bytes as hex, numbers that JSON lacks as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: json_safe(each) for key, each in value.items()}
    if isinstance(value, list):
        return [json_safe(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
