"""Feeds: typed events of every chain, in order, from where a reader stands."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tensorguard.ledger import avro
from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import MalformedRecordError
from tensorguard.ledger.record import GENESIS_PREV_HASH, Meta, encode_record

from producers.engines.port import Append, Commit
from producers.engines.sqlite import SqliteEngine
from producers.feed import Feed
from schemas.codec import event_schema, to_dict
from schemas.events import ApiKeyIssued, ApiKeyRevoked, SchemaRegistered
from tests.support.ledgers import Ledger, python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 20.0
BRIEFLY = 0.05

SUBMIT_ONE = """
import sys
from pathlib import Path
from tests.support.ledgers import Ledger
ledger = Ledger(Path(sys.argv[1]))
ledger.submitter.submit_and_wait(ledger.authority, ledger.issue()).raise_for_outcome()
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


def test_each_chain_is_read_whole_and_in_order(ledger: Ledger) -> None:
    feed, seen = Feed(ledger.engine), []
    while page := feed.poll(3):
        assert len(page) <= 3
        seen += page
    for chain in ("acme", "platform"):
        assert [recorded.seq for recorded in seen if recorded.chain == chain] == list(range(ledger.engine.size(chain)))
    assert feed.positions == {chain: ledger.engine.size(chain) for chain in ("acme", "platform")}


def test_a_feed_goes_on_where_its_positions_say(ledger: Ledger) -> None:
    size = ledger.engine.size("acme")
    feed = Feed(ledger.engine, {"acme": size - 1, "platform": ledger.engine.size("platform")})
    assert [(recorded.chain, recorded.seq) for recorded in feed.poll()] == [("acme", size - 1)]


def test_a_new_chain_appears_by_itself(ledger: Ledger) -> None:
    feed = Feed(ledger.engine)
    while feed.poll():
        pass
    ledger.submitter.ensure_chain("beta")
    assert {recorded.chain for recorded in feed.poll()} == {"beta"}


def test_a_feed_of_some_chains_neither_reads_nor_wakes_for_the_others(ledger: Ledger) -> None:
    feed = Feed(ledger.engine, chains=lambda chain: chain == "acme")
    assert {recorded.chain for recorded in feed.poll()} == {"acme"}
    ledger.submitter.ensure_chain("beta")
    assert not feed.wait(BRIEFLY)
    assert feed.poll() == []


def test_a_feed_of_some_events_passes_over_the_others_to_the_end(ledger: Ledger) -> None:
    ledger.submit(*[ledger.issue() for _ in range(5)])
    ledger.sequencer().step()
    every = [at for at in Feed(ledger.engine).poll() if isinstance(at.event, ApiKeyIssued)]
    feed, seen = Feed(ledger.engine, events=(ApiKeyIssued,)), []
    while page := feed.poll(1):
        seen += [at for at in page if isinstance(at.event, ApiKeyIssued)]
    assert len(every) >= 5
    assert sorted((at.chain, at.seq) for at in seen) == sorted((at.chain, at.seq) for at in every)
    assert feed.positions == ledger.engine.sizes()


def test_a_busy_chain_starves_no_other(ledger: Ledger) -> None:
    ledger.submit(*[ledger.issue() for _ in range(50)])
    ledger.sequencer().step()
    feed = Feed(ledger.engine)
    assert {recorded.chain for _ in range(2) for recorded in feed.poll(5)} == {"acme", "platform"}


def test_waiting_ends_when_another_process_writes(ledger: Ledger) -> None:
    feed = Feed(ledger.engine)
    while feed.poll():
        pass
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(feed.wait, SOON)
        assert python(SUBMIT_ONE, ledger.folder).wait(SOON) == 0
        assert waiting.result()
    assert time.monotonic() - started < SOON
    assert len(feed.poll()) > 0


def with_a_note_on_it(text: str) -> str:
    """The same schema as another release might have written it."""
    schema = json.loads(text)
    schema["fields"][2]["type"]["doc"] = "An API key opens nothing any more."
    return fmt.compact(schema)


def recorded(seq: int, text: str, event: SchemaRegistered | ApiKeyRevoked) -> bytes:
    meta = Meta(GENESIS_PREV_HASH, "old", seq, 1, fmt.schema_digest(text), bytes(16), "chain", seq, 1, None, None, None)
    return encode_record(text, meta, None, to_dict(event))


def test_records_of_another_release_are_read_by_the_schema_that_their_chain_registered(tmp_path: Path) -> None:
    text = with_a_note_on_it(event_schema("ApiKeyRevoked").text)
    registered = SchemaRegistered("event", "ApiKeyRevoked", fmt.schema_digest(text), text)
    records = [
        recorded(0, event_schema("SchemaRegistered").text, registered),
        recorded(1, text, ApiKeyRevoked("00" * 8)),
    ]
    engine = SqliteEngine(tmp_path / "ledger.db")
    engine.commit(Commit(engine.open_epoch(), [Append("old", 0, records), Append("torn", 0, records[1:])]))
    assert [r.event for r in Feed(engine, chains=lambda c: c == "old").poll()] == [registered, ApiKeyRevoked("00" * 8)]
    late = Feed(engine, {"old": 1}, chains=lambda chain: chain == "old")
    assert [r.event for r in late.poll()] == [ApiKeyRevoked("00" * 8)]
    with pytest.raises(MalformedRecordError):
        Feed(engine, chains=lambda chain: chain == "torn").poll()
    engine.close()


def without_its_only_field(text: str) -> str:
    schema = json.loads(text)
    schema["fields"][2]["type"]["fields"] = [{"name": "other", "type": "string"}]
    return fmt.compact(schema)


UNREADABLE = {
    "a record that lacks a field": without_its_only_field(event_schema("ApiKeyRevoked").text),
    "a record of one part": fmt.compact(
        {"type": "record", "name": "tensorguard.record.X", "fields": [{"name": "meta", "type": fmt.META}]}
    ),
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_record_that_this_release_cannot_read_is_our_error(tmp_path: Path, text: str) -> None:
    registered = SchemaRegistered("event", "ApiKeyRevoked", fmt.schema_digest(text), text)
    meta = Meta(bytes(32), "odd", 1, 1, fmt.schema_digest(text), bytes(16), "chain", 1, 1, None, None, None)
    value = {"meta": meta.to_dict(), "command": None, "body": {"other": "?"}}
    schema = avro.parse(text)
    odd = avro.encode(schema, {name: value[name] for name in (field["name"] for field in schema["fields"])})
    engine = SqliteEngine(tmp_path / "ledger.db")
    records = [recorded(0, event_schema("SchemaRegistered").text, registered), odd]
    engine.commit(Commit(engine.open_epoch(), [Append("odd", 0, records)]))
    feed = Feed(engine)
    assert [each.seq for each in feed.poll()] == [0]
    with pytest.raises(MalformedRecordError):
        feed.poll()
    engine.close()


def test_a_record_that_cannot_be_read_loses_none_of_the_others_and_holds_up_no_other_chain(ledger: Ledger) -> None:
    ledger.submitter.ensure_chain("beta")  # Whoever writes later has read the sound chain.
    sizes = {chain: ledger.engine.size(chain) for chain in ledger.engine.chains()}
    with ledger.engine._store.durable() as db:
        (acme,) = db.execute("SELECT id FROM chains WHERE name = 'acme'").fetchone()
        db.execute("UPDATE records SET data = x'00' WHERE seq = 5 AND chain = ?", (acme,))
    for first in range(3):  # Whichever chain has its turn first.
        feed = Feed(ledger.engine)
        for _ in range(first):
            feed._in_turn()
        seen = feed.poll()
        with pytest.raises(MalformedRecordError):
            feed.poll()
        assert {(each.chain, each.seq) for each in seen} == {
            *(("acme", seq) for seq in range(5)),
            *((chain, seq) for chain in ("beta", "platform") for seq in range(sizes[chain])),
        }
    ledger.submitter.ensure_chain("gamma")
    assert {each.chain for each in feed.poll()} == {"gamma"}
