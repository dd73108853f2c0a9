"""What a writer finds before it begins: strangers' topics, transactions left open, chains that lack records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from shutil import copytree, move, rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from producers.engines.errors import EngineError, LedgerDamagedError
from producers.engines.kafka import beginning, records, topics
from producers.engines.kafka.errors import CommitLostError, TransactionLeftOpenError
from producers.engines.kafka.messages import Head
from producers.engines.kafka.survey import Survey
from producers.engines.kafka.topics import TopicMaker
from producers.engines.port import Append, Commit
from tests.engines.handles import SOON, Kafka, numbered, opening
from tests.support.kafka import PARTITIONS, Broker, delete_topics, own_broker

if TYPE_CHECKING:
    from producers.engines.kafka import KafkaEngine

Messages = Sequence[tuple[bytes, bytes]]


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is waited for here has passed, or never passes."""
    monkeypatch.setattr(beginning, "_MARKING_SECONDS", 0.5)
    monkeypatch.setattr(beginning, "_SHORT_SECONDS", 1.0)
    monkeypatch.setattr(records, "_SILENT_SECONDS", 1.0)
    monkeypatch.setattr(topics, "_CONNECT_SECONDS", 3.0)


def opened(kafka: Kafka, chain: str, count: int, partition: int = 0) -> list[bytes]:
    """A chain of so many records, written in one commit."""
    written = [opening(chain, partition), *numbered(1, count - 1)]
    engine = kafka.open(partition)
    engine.commit(Commit(engine.open_epoch(), [Append(chain, 0, written)]))
    engine.close()
    return written


def put(kafka: Kafka, chain: str, messages: Messages) -> None:
    """Somebody's committed messages in the topic of a chain, which there is from now on."""
    TopicMaker(kafka.config).ensure([kafka.topics.of_chain(chain)])
    stranger = transacting(kafka, chain, messages)
    stranger.commit_transaction(SOON)


def transacting(kafka: Kafka, chain: str, messages: Messages) -> Producer:
    """Somebody whose transaction has written to the topic of a chain and has not ended."""
    stranger = Producer({"bootstrap.servers": kafka.config.servers, "transactional.id": uuid4().hex})
    stranger.init_transactions(SOON)
    stranger.begin_transaction()
    for key, value in messages:
        stranger.produce(kafka.topics.ledger(chain), value, key, partition=0)
    stranger.flush(SOON)
    return stranger


def keyed(values: Sequence[bytes], first: int = 0) -> Messages:
    return [(str(seq).encode(), value) for seq, value in enumerate(values, first)]


STRAYS: dict[str, Messages] = {
    "a gap": [(b"0", b"x"), (b"7", b"x")],
    "no first record": [(b"7", b"x")],
    "two first ones": [(b"0", b"x"), (b"0", b"x")],
    "no number": [(b"", b"x")],
    "a number without end": [(b"1" * 5000, b"x")],
    "a number that Avro has not": [(b"1" * 30, b"x")],
    "no record": [(b"0", b"x"), (b"1", b"x")],
    "another chain": keyed([opening("acme", 0), b"1"]),
}


def test_topics_that_only_look_like_a_chains_keep_no_writer_from_beginning(kafka: Kafka) -> None:
    opened(kafka, "acme", 2)
    for number, messages in enumerate(STRAYS.values()):
        put(kafka, f"stray-{number}", messages)
    for partition in range(PARTITIONS):
        engine = kafka.open(partition)
        engine.open_epoch()
        assert engine.sizes() == {"acme": 2}


@pytest.mark.parametrize("messages", [STRAYS["a gap"], keyed([opening("beta", 1), b"1"])])
def test_no_chain_is_opened_where_messages_lie_that_nothing_tells_of(kafka: Kafka, messages: Messages) -> None:
    engine = kafka.open()
    epoch = engine.open_epoch()
    put(kafka, "beta", messages)
    with pytest.raises(LedgerDamagedError, match="nothing is known"):
        engine.commit(Commit(epoch, [Append("beta", 0, [b"first"])]))
    assert kafka.open().sizes() == {}


@pytest.mark.parametrize("count", [1, 3])
def test_a_chain_that_nothing_tells_of_is_found_however_short_it_is(kafka: Kafka, count: int) -> None:
    put(kafka, "beta", keyed([opening("beta", 0), *numbered(1, count - 1)]))
    engine = kafka.open()
    engine.open_epoch()
    assert engine.sizes() == {"beta": count}


def test_a_writer_does_not_begin_beside_a_transaction_in_a_chain_that_nothing_tells_of(kafka: Kafka) -> None:
    put(kafka, "beta", keyed([opening("beta", 0), b"1"]))
    stranger = transacting(kafka, "beta", [(b"2", b"x")])
    with pytest.raises(TransactionLeftOpenError, match="beta"):
        kafka.open().open_epoch()
    stranger.abort_transaction(SOON)
    engine = kafka.open()
    engine.commit(Commit(engine.open_epoch(), [Append("beta", 2, [b"2"])]))
    assert list(kafka.open().read("beta", 0, 9)) == [opening("beta", 0), *numbered(1, 2)]


def test_a_chain_is_read_up_to_where_it_is_settled_though_a_broker_says_that_it_ends_before(kafka: Kafka) -> None:
    writer, reader = kafka.open(), kafka.open()
    epoch = writer.open_epoch()
    writer.commit(Commit(epoch, [Append("acme", 0, numbered(0, 2))]))
    with ThreadPoolExecutor(1) as pool:
        counting = pool.submit(Survey(reader._records._streams).counts, {"acme": Head(2, 0, 0)}, {"acme": 5})
        assert not wait([counting], 1.0).done
        writer.commit(Commit(epoch, [Append("acme", 2, numbered(2, 1))]))
        assert counting.result(SOON) == {"acme": 3}


def test_an_end_that_a_broker_told_too_early_is_no_damage(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    written = opened(kafka, "acme", 3)
    counts, asked = Survey.counts, []

    def early(survey: Survey, heads: Mapping[str, Head], ends: Mapping[str, int]) -> dict[str, int]:
        asked.append(heads)
        return counts(survey, heads, ends) if len(asked) > 1 else dict.fromkeys(heads, 2)

    monkeypatch.setattr(Survey, "counts", early)
    monkeypatch.setattr(beginning, "_MARKERS", -1)  # so that the topic is read and not reckoned
    engine = kafka.open()
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 3, numbered(3, 1))]))
    assert len(asked) > 1
    assert list(engine.read("acme", 0, 9)) == [*written, *numbered(3, 1)]


def shortened(kafka: Kafka, left: Messages) -> KafkaEngine:
    """A handle on a chain of five records, of which a broker has lost all but these."""
    opened(kafka, "acme", 5)
    delete_topics(kafka.config, kafka.topics.ledger("acme"))
    put(kafka, "acme", left)
    return kafka.open()


@pytest.mark.parametrize("left", [0, 2, 4])
def test_a_writer_does_not_begin_behind_records_that_are_gone(kafka: Kafka, left: int) -> None:
    engine = shortened(kafka, keyed(numbered(0, left)))
    with pytest.raises(LedgerDamagedError, match=f"holds {left} of the 5 records|are gone"):
        engine.open_epoch()


@pytest.mark.parametrize("left", [keyed(numbered(0, 4)), keyed(numbered(1, 4), 1)])
def test_who_reads_records_that_are_gone_is_told_so(kafka: Kafka, left: Messages) -> None:
    with pytest.raises(LedgerDamagedError, match="is gone from Kafka"):
        shortened(kafka, left).read("acme", 0, 5)


def test_a_writer_does_not_make_a_topic_anew_that_is_gone(kafka: Kafka) -> None:
    opened(kafka, "acme", 2)
    topic = kafka.topics.ledger("acme")
    delete_topics(kafka.config, topic)
    with pytest.raises(LedgerDamagedError, match="is gone from Kafka"):
        kafka.open().open_epoch()
    assert topic not in TopicMaker(kafka.config).names()


def test_what_follows_a_chain_and_is_not_its_next_record_ends_the_writer(kafka: Kafka) -> None:
    opened(kafka, "acme", 2)
    stranger = Producer({"bootstrap.servers": kafka.config.servers})
    for key in (b"7", b"8"):
        stranger.produce(kafka.topics.ledger("acme"), b"x", key, partition=0)
    assert stranger.flush(SOON) == 0
    with pytest.raises(LedgerDamagedError, match="not the next record"):
        kafka.open().open_epoch()


def test_what_a_broker_takes_for_messages_that_it_had_is_not_committed(kafka: Kafka) -> None:
    engine = kafka.open()
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, [b"0"])]))
    engine._writer._ends[kafka.topics.ledger("acme"), 0] = 9
    with pytest.raises(CommitLostError, match="earlier writer"):
        engine.commit(Commit(epoch, [Append("acme", 1, [b"1"])]))
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 1, [b"2"])]))
    assert list(kafka.open().read("acme", 0, 9)) == [b"0", b"2"]


@pytest.mark.soak
@pytest.mark.parametrize("lost", [["__transaction_state"], ["__transaction_state", "writers", "replies"]])
def test_a_writer_whose_epoch_was_counted_before_loses_nothing(lost: list[str]) -> None:
    with own_broker(Broker()) as broker:
        kafka = Kafka(broker.config())
        opened(kafka, "acme", 1)
        broker.stop()
        kept = Path(mkdtemp())
        before = [folder for folder in broker.folder.glob("*/*") if any(name in folder.name for name in lost)]
        for folder in before:
            copytree(folder, kept / folder.name)
        broker.start()
        engine = kafka.open()
        engine.commit(Commit(engine.open_epoch(), [Append("acme", 1, [b"1"])]))
        engine.close()
        broker.stop()
        for folder in before:
            rmtree(folder)
            move(kept / folder.name, folder)
        kept.rmdir()
        broker.start()
        fresh, refused = kafka.open(), 0
        while fresh.size("acme") < 3:
            try:
                fresh.commit(Commit(fresh.open_epoch(), [Append("acme", 2, [b"2"])]))
            except EngineError:
                refused += 1
        assert list(kafka.open().read("acme", 0, 9)) == [opening("acme", 0), b"1", b"2"]
        assert refused == 1
        kafka.close()
