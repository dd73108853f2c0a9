"""A broker that was killed right after a commit, and has not marked it in every partition since: nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from producers.engines.errors import LedgerDamagedError
from producers.engines.kafka import beginning, follower, records
from producers.engines.kafka.errors import BrokerError, CommitLostError
from producers.engines.kafka.framing import Framer
from producers.engines.kafka.messages import Head
from producers.engines.kafka.unmarked import Behind, Framed
from producers.engines.kafka.writer import Writer
from producers.engines.port import Append, Commit, Quarantined, Snapshot
from tests.engines.handles import SOON, Kafka, numbered, reply
from tests.support.kafka import Broker, own_broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LENGTH = slice(8, 12)
_LENGTH_ENDS = 12
_ATTRIBUTES = 22
_CONTROL = 0x20
"""Of a batch: where its length stands, from where that counts, and the bit that says that it is a marker."""

LOST: dict[str, tuple[str, ...]] = {
    "records": ("ledger.acme", "ledger.beta", "dead-letters"),
    "records, and then a given-up attempt ends them": ("ledger.acme", "ledger.beta"),
    "records and heads": ("ledger.acme", "ledger.beta", "writers"),
    "heads": ("writers",),
    "what tells of them": ("writers", "replies", "dead-letters"),
    "all": ("ledger.acme", "ledger.beta", "ledger.gamma", "writers", "replies", "dead-letters"),
    "more than markers": ("ledger.acme",),
}
"""Of which topics the last markers are lost."""


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is waited for here never comes."""
    monkeypatch.setattr(beginning, "_SHORT_SECONDS", 0.5)
    monkeypatch.setattr(follower, "_HUNG_SECONDS", 0.2)


@pytest.fixture(scope="module")
def ledgers() -> Iterator[dict[str, Kafka]]:
    """For each case a ledger whose last commit was acknowledged; then the broker was killed, and markers are lost."""
    with own_broker(Broker()) as broker:
        kafkas = {case: Kafka(broker.config()) for case in LOST}
        with ThreadPoolExecutor(len(kafkas)) as pool:
            list(pool.map(write, kafkas.values()))
        broker.stop()
        for case, topics in LOST.items():
            for topic in topics:
                cut(broker.folder / "logs" / f"{kafkas[case].config.prefix}.{topic}-0", marker=True)
        prefix = kafkas["more than markers"].config.prefix
        cut(broker.folder / "logs" / f"{prefix}.ledger.acme-0", marker=False)
        broker.start()
        yield kafkas
        for kafka in kafkas.values():
            kafka.close()


def write(kafka: Kafka) -> None:
    """Three records; two attempts at more; and a last commit, with two records, other chains and a dead letter."""
    first = kafka.open()
    first.commit(Commit(first.open_epoch(), [Append("acme", 0, numbered(0, 3)), Append("gamma", 0, numbered(0, 1))]))
    for number in range(2):
        attempt(kafka, "acme", 3, [b"another", b"%d" % number])
    engine = kafka.open()
    at = engine.submit([b"poison"])[0]
    last = {"acme": (3, 2), "beta": (0, 2), "gamma": (1, 1)}
    appends = [Append(chain, size, numbered(size, count)) for chain, (size, count) in last.items()]
    engine.commit(Commit(engine.open_epoch(), appends, [reply(3)], at, [Quarantined(at, "poison", 0)]))
    topics = {topic for lost in LOST.values() for topic in lost}
    assert all(engine._ends.settle((f"{kafka.config.prefix}.{topic}", 0), SOON) for topic in topics)
    kafka.close()


def attempt(kafka: Kafka, chain: str, first: int, records: list[bytes]) -> None:
    """A writer that tries to write records and gives up."""
    producer = Producer(kafka.config.transactional("sequencer.0"))
    producer.init_transactions(SOON)
    producer.begin_transaction()
    for seq, record in enumerate(records, first):
        producer.produce(kafka.topics.ledger(chain), record, str(seq).encode(), partition=0)
    producer.flush(SOON)
    producer.abort_transaction(SOON)


def cut(partition: Path, *, marker: bool) -> None:
    """A partition of a broker that is not running ends before its last batch, which is a marker or not."""
    segment = partition / f"{0:020}.log"
    data, at, last = segment.read_bytes(), 0, 0
    while at < len(data):
        last, at = at, at + _LENGTH_ENDS + int.from_bytes(data[at:][_LENGTH], "big")
    assert bool(data[last + _ATTRIBUTES] & _CONTROL) == marker
    segment.write_bytes(data[:last])


def goes_on(kafka: Kafka, **sizes: int) -> None:
    """A new writer knows of so many records, every reader reads them, and the writer writes the next ones."""
    engine = kafka.open()
    epoch = engine.open_epoch()
    assert engine.sizes() == sizes
    assert {chain: list(kafka.open().read(chain, 0, 9)) for chain in sizes} == {
        chain: numbered(0, size) for chain, size in sizes.items()
    }
    engine.commit(Commit(epoch, [Append(chain, size, numbered(size, 1)) for chain, size in sizes.items()]))
    assert list(kafka.open().read("acme", 0, 9)) == numbered(0, sizes["acme"] + 1)


def failing(*_: object) -> None:
    raise CommitLostError("A broker was killed again.")


def test_a_commit_that_lacks_markers_is_committed_still_though_the_next_writer_fails_too(
    ledgers: dict[str, Kafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_SILENT_SECONDS", 0.5)
    monkeypatch.setattr(records, "_WRITING_AGAIN", 60)
    kafka = ledgers["records"]
    letters = (kafka.topics.dead_letters, 0)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(kafka.open().read, "acme", 0, 5)
        assert not wait([reading], 1.0).done
        broken = kafka.open()
        assert broken._ends.settled([letters]) != broken._ends.written([letters])
        with monkeypatch.context() as patched:
            patched.setattr(Writer, "_finish", failing)
            with pytest.raises(CommitLostError):
                broken.open_epoch()
        with capture_logs() as logged:
            goes_on(kafka, acme=5, beta=2, gamma=2)
        assert list(reading.result(SOON)) == numbered(0, 5)
    assert [each["chains"] for each in logged if each["event"] == "commit_never_marked"] == [{"acme": 2, "beta": 2}]
    assert broken._ends.settled([letters]) == broken._ends.written([letters])


def test_the_last_commit_is_known_by_its_replies_however_old_they_are(
    ledgers: dict[str, Kafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "LATELY_SECONDS", -60.0)
    goes_on(ledgers["records and heads"], acme=5, beta=2, gamma=2)


def test_who_knows_heads_alone_knows_of_all_records_once_a_writer_has_begun(
    ledgers: dict[str, Kafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = ledgers["heads"]
    kafka.open().open_epoch()
    monkeypatch.setattr(follower, "LATELY_SECONDS", -60.0)
    monkeypatch.setattr(follower, "_LAST", 0)
    goes_on(kafka, acme=5, beta=2, gamma=2)


def test_records_are_found_though_nothing_is_left_open(ledgers: dict[str, Kafka]) -> None:
    kafka = ledgers["records, and then a given-up attempt ends them"]
    for chain, size in (("acme", 5), ("beta", 2)):
        attempt(kafka, chain, size, [b"another"])
    goes_on(kafka, acme=5, beta=2, gamma=2)


def test_records_are_there_though_nothing_tells_of_them(ledgers: dict[str, Kafka]) -> None:
    kafka = ledgers["what tells of them"]
    assert kafka.open().reply(reply(3).command_id) is None
    goes_on(kafka, acme=5, gamma=2)


def test_a_commit_without_any_marker_is_told_to_nobody_and_in_no_snapshot(
    ledgers: dict[str, Kafka], monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = ledgers["all"]
    survivor = kafka.open()
    assert survivor.reply(reply(3).command_id) is None
    monkeypatch.setattr(Writer, "active", True)
    with pytest.raises(BrokerError, match="not marked"):
        survivor.save_snapshot(Snapshot("acme", 5, bytes(32), b"state"))
    monkeypatch.undo()
    goes_on(kafka, acme=3, gamma=1)


def test_records_of_which_nothing_is_left_are_a_loss(ledgers: dict[str, Kafka]) -> None:
    with pytest.raises(LedgerDamagedError, match="holds 3 of the 5 records"):
        ledgers["more than markers"].open().open_epoch()


BEHIND: dict[str, tuple[list[tuple[int, int, bytes]], list[int]]] = {
    "all": ([(7, 3, b"3"), (8, 4, b"4")], [7, 8]),
    "twice": ([(7, 3, b"3"), (8, 4, b"4"), (11, 3, b"3"), (12, 4, b"4")], [11, 12]),
    "twice, the second time in part": ([(7, 3, b"3"), (8, 4, b"4"), (11, 3, b"3")], [7, 8]),
    "after another attempt": ([(5, 3, b"x"), (6, 4, b"y"), (7, 3, b"3"), (8, 4, b"4")], [7, 8]),
    "before another attempt": ([(7, 3, b"3"), (8, 4, b"4"), (9, 3, b"x"), (10, 4, b"y")], [7, 8]),
    "another attempt alone": ([(7, 3, b"x"), (8, 4, b"y")], []),
    "the first one is another attempt's": ([(7, 3, b"x"), (9, 4, b"4")], []),
    "the last one alone": ([(8, 4, b"4")], []),
    "the first one alone": ([(7, 3, b"3")], []),
    "nothing": ([], []),
}


def test_what_is_no_record_is_not_the_one_that_is_told_of() -> None:
    behind = Behind([Framed(7, 3, b"3", b"3")], 99, Framer.record)
    assert behind.records(3, Head(4, 0, 0, sha256(b"3").digest())) is None


@pytest.mark.parametrize("case", BEHIND)
def test_of_all_attempts_at_what_a_chain_lacks_the_one_that_is_told_of_is_found_or_none(case: str) -> None:
    messages = [Framed(offset, seq, b"%d" % seq, record) for offset, seq, record in BEHIND[case][0]]
    behind = Behind(messages, 99, lambda framed: framed)
    found = behind.records(3, Head(5, 0, 0, sha256(b"4").digest()))
    assert [each.offset for each in found or ()] == BEHIND[case][1]
    assert behind.records(3, Head(5, 0, 0)) is None
    assert behind.records(3, Head(6, 0, 0, sha256(b"4").digest())) is None
