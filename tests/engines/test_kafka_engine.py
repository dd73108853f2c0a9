"""What only the engine on Kafka has: transactions, partitions, topics with settings, brokers that stop."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger.envelope import Envelope, SignedCommand
from tensorguard.ledger.record import decode_record

from producers.deciders.registry import stream_of
from producers.engines.errors import FencedError, LedgerDamagedError
from producers.engines.kafka import KafkaConfig, KafkaEngine, records, topics
from producers.engines.kafka.errors import (
    BrokerError,
    CommitLostError,
    CommitUnknownError,
    MessageTooLargeError,
    TopicSettingsError,
    WrongPartitionError,
)
from producers.engines.kafka.index import Index
from producers.engines.kafka.intake import hashed_partition
from producers.engines.kafka.topics import Topics
from producers.engines.port import ACCEPTED, Append, Commit, Reply, Snapshot
from producers.identities import make_envelope
from producers.sequencer import Sequencer
from schemas.commands import EnrolProducer
from tests.engines.kits import Unframed
from tests.support.kafka import PARTITIONS, broker
from tests.support.ledgers import Ledger, python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOON = 20.0

DECIDE_FOREVER = """
import sys
from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.port import ACCEPTED, Append, Commit, Reply
from tests.engines.kits import Unframed
engine = KafkaEngine(KafkaConfig(sys.argv[1], sys.argv[2], partitions=2), framing=Unframed())
epoch, size = engine.open_epoch(), engine.size("acme")
while True:
    entries = engine.intake(engine.intake_position(), 20)
    if not entries:
        engine.wait_intake(engine.intake_position(), 1.0)
        continue
    replies = [Reply(e.data.rjust(16), ACCEPTED, "acme", size, size, "", "", bytes(32)) for e in entries]
    commit = Commit(epoch, [Append("acme", size, [e.data for e in entries])], replies, entries[-1].position)
    engine.commit(commit)
    size += len(entries)
    print(size, flush=True)
"""
HANG_IN_A_TRANSACTION = """
import sys, time
from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.port import Append, Commit
from tests.engines.kits import Unframed

class Hanging(Unframed):
    def frame(self, record):
        if record == b"hang":
            engine._writer._producer.flush(10)
            print("hangs", flush=True)
            time.sleep(1000)
        return record

engine = KafkaEngine(KafkaConfig(sys.argv[1], sys.argv[2], partitions=2), framing=Hanging())
epoch = engine.open_epoch()
engine.commit(Commit(epoch, [Append("acme", 0, [b"kept"])]))
engine.commit(Commit(epoch, [Append("acme", 1, [b"lost", b"lost", b"hang"])]))
"""


class Kafka:
    """Handles on one ledger of the shared broker."""

    def __init__(self) -> None:
        self.config = broker().config()
        self.topics = Topics(self.config)
        self._open: list[KafkaEngine] = []

    def open(self, partition: int | None = None, framing: Unframed | None = None, **options: str) -> KafkaEngine:
        config = replace(self.config, options={name.replace("_", "."): value for name, value in options.items()})
        engine = KafkaEngine(config, partition, framing or Unframed())
        self._open.append(engine)
        return engine

    def close(self) -> None:
        for engine in self._open:
            engine.close()


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    kafka = Kafka()
    yield kafka
    kafka.close()


class Breaking(Unframed):
    """Breaks off in the middle of a commit."""

    def frame(self, record: bytes) -> bytes:
        if record == b"break":
            raise RuntimeError
        return record


def numbered(start: int, count: int) -> list[bytes]:
    return [str(seq).encode() for seq in range(start, start + count)]


def reply(number: int) -> Reply:
    return Reply(number.to_bytes(16, "big"), ACCEPTED, "acme", number, number, "", "", bytes(32))


def command(chain: str) -> bytes:
    envelope = Envelope(chain, chain, "s", None, bytes(16), "C", bytes(32), 1, 2, None, None, None, b"")
    return SignedCommand(envelope.to_bytes(), bytes(32), 0, 1, (), bytes(64)).to_bytes()


def test_of_two_writers_on_a_partition_one_writes_and_the_other_is_fenced(kafka: Kafka) -> None:
    first, second = kafka.open(), kafka.open()
    begun, written = threading.Event(), list[bytes]()

    def write(engine: KafkaEngine, name: bytes, commits: int) -> int:
        epoch, size = engine.open_epoch(), engine.size("acme")
        for number in range(commits):
            record = name + str(number).encode()
            engine.commit(Commit(epoch, [Append("acme", size, [record])]))
            written.append(record)
            size += 1
            begun.set()
        return size

    with ThreadPoolExecutor(1) as pool:
        fenced = pool.submit(write, first, b"first", 10_000)
        assert begun.wait(SOON)
        size = write(second, b"second", 10)
        with pytest.raises(FencedError):
            fenced.result(SOON)
    assert list(kafka.open().read("acme", 0, size + 1)) == written
    with pytest.raises(FencedError):
        first.commit(Commit(1, [Append("acme", size, [b"late"])]))


def test_a_killed_writer_loses_nothing_that_it_decided_and_doubles_nothing(kafka: Kafka) -> None:
    engine = kafka.open()
    submitted = numbered(0, 900)
    for start in range(0, 900, 300):
        engine.submit(submitted[start : start + 300])
        process = python(DECIDE_FOREVER, kafka.config.servers, kafka.config.prefix)
        assert process.stdout is not None
        for _ in range(4):
            line = process.stdout.readline()
        process.kill()
        acknowledged = int((line + process.stdout.read()).split()[-1])
        process.wait(10)
        assert engine.size("acme") >= acknowledged
    process = python(DECIDE_FOREVER, kafka.config.servers, kafka.config.prefix)
    assert engine.wait({"acme": 899}, SOON)
    process.kill()
    process.wait(10)
    assert list(engine.read("acme", 0, 1000)) == submitted
    assert engine.intake_position() == 900
    assert engine.reply(b"899".rjust(16)) is not None


def test_a_commit_that_breaks_off_is_aborted_and_never_visible(kafka: Kafka) -> None:
    engine = kafka.open(framing=Breaking())
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, [b"a"])]))
    with pytest.raises(RuntimeError):
        engine.commit(Commit(epoch, [Append("acme", 1, [b"x", b"break"]), Append("beta", 0, [b"x"])], [reply(1)]))
    assert kafka.open().sizes() == {"acme": 1}
    with pytest.raises(FencedError):
        engine.commit(Commit(epoch, [Append("acme", 1, [b"b"])]))
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 1, [b"b"])]))
    other = kafka.open()
    assert (list(other.read("acme", 0, 9)), other.reply(reply(1).command_id)) == ([b"a", b"b"], None)


def test_a_writer_killed_within_its_transaction_leaves_nothing_of_it(kafka: Kafka) -> None:
    process = python(HANG_IN_A_TRANSACTION, kafka.config.servers, kafka.config.prefix)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "hangs"
    engine = kafka.open()
    assert list(engine.read("acme", 0, 9)) == [b"kept"]
    process.kill()
    process.wait(10)
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 1, [b"next"])]))
    assert list(kafka.open().read("acme", 0, 9)) == [b"kept", b"next"]


def test_a_broker_that_stops_for_longer_than_a_transaction_ends_the_writer_clearly(kafka: Kafka) -> None:
    engine = kafka.open(transaction_timeout_ms="1000")
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, [b"a"])]))
    broker().signal(signal.SIGSTOP)
    try:
        with pytest.raises((CommitLostError, CommitUnknownError, FencedError)) as ended:
            engine.commit(Commit(epoch, [Append("acme", 1, [b"b"])]))
    finally:
        broker().signal(signal.SIGCONT)
    assert ended.value.next_step
    fresh = kafka.open()
    again, size = fresh.open_epoch(), fresh.size("acme")
    fresh.commit(Commit(again, [Append("acme", size, [b"c"])]))
    assert list(kafka.open().read("acme", 0, 9)) == [b"a", b"b", b"c"][:: 1 if size == 2 else 2]
    with pytest.raises(FencedError):
        engine.commit(Commit(epoch, [Append("acme", size + 1, [b"d"])]))


def test_a_broker_that_is_killed_and_started_again_has_everything_and_handles_go_on(kafka: Kafka) -> None:
    engine, reader = kafka.open(), kafka.open()
    engine.submit([b"entry"])
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [b"a"])], [reply(0)]))
    engine.publish_checkpoint("acme", b"note")
    assert reader.size("acme") == 1
    broker().stop()
    broker().start()
    fresh = kafka.open()
    assert [entry.data for entry in fresh.intake(0, 9)] == [b"entry"]
    assert (fresh.checkpoint("acme"), fresh.reply(reply(0).command_id)) == (b"note", reply(0))
    fresh.commit(Commit(fresh.open_epoch(), [Append("acme", 1, [b"b"])]))
    assert reader.wait({"acme": 1}, SOON)
    assert list(reader.read("acme", 0, 9)) == [b"a", b"b"]
    assert reader.submit([b"more"])[0] > 1


@pytest.mark.parametrize(
    ("topic", "partitions", "settings", "said"),
    [
        ("intake", 3, {"cleanup.policy": "delete"}, "partitions=2"),
        ("intake", PARTITIONS, {"cleanup.policy": "compact"}, "cleanup.policy=delete"),
        ("writers", PARTITIONS, {"cleanup.policy": "delete"}, "cleanup.policy=compact"),
        ("dead-letters", PARTITIONS, {"cleanup.policy": "delete"}, "cleanup.policy=compact"),
        ("checkpoints", 2, {"cleanup.policy": "compact"}, "partitions=1"),
        ("replies", PARTITIONS, {"min.insync.replicas": "2"}, "min.insync.replicas=1"),
    ],
)
def test_a_topic_with_other_settings_is_refused_by_what_to_set(
    kafka: Kafka, topic: str, partitions: int, settings: dict[str, str], said: str
) -> None:
    make(f"{kafka.config.prefix}.{topic}", partitions, settings)
    with pytest.raises(TopicSettingsError, match=said):
        kafka.open()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cleanup.policy": "compact"}, "cleanup.policy=delete"),
        ({"retention.ms": "1000000", "retention.bytes": "-1"}, "retention.ms=-1"),
        ({"retention.ms": "-1", "retention.bytes": "1000000"}, "retention.bytes=-1"),
    ],
)
def test_a_chains_topic_that_would_forget_is_refused_before_its_first_record(
    kafka: Kafka, settings: dict[str, str], said: str
) -> None:
    make(kafka.topics.ledger("acme"), 1, settings)
    engine = kafka.open()
    epoch = engine.open_epoch()
    with pytest.raises(TopicSettingsError, match=said):
        engine.commit(Commit(epoch, [Append("acme", 0, [b"a"])]))
    assert engine.sizes() == {}


def make(name: str, partitions: int, settings: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": broker().servers})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
    admin.create_topics([topic])[name].result(SOON)


def test_records_are_found_among_markers_and_aborted_ones_from_anywhere(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "NEAR", 4)
    engine = kafka.open(framing=Breaking())
    epoch, size = engine.open_epoch(), 0
    for round_ in range(40):
        count = 1 + round_ % 7
        engine.commit(Commit(epoch, [Append("acme", size, numbered(size, count))]))
        size += count
        if round_ % 10 == 5:
            with pytest.raises(RuntimeError):
                engine.commit(Commit(epoch, [Append("acme", size, [b"x"] * 40 + [b"break"])]))
            epoch = engine.open_epoch()
    for start in (size - 1, size // 2, 3, 0, size // 3, size - 2):
        assert list(kafka.open().read("acme", start, 5)) == numbered(start, min(5, size - start))
        assert list(engine.read("acme", start, 5)) == numbered(start, min(5, size - start))
    assert kafka.open().size("acme") == size
    assert list(engine.read("acme", 0, size)) == numbered(0, size)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.data())
def test_the_index_never_excludes_where_a_record_lies(gaps: list[int], data: st.DataObject) -> None:
    offsets, offset = list[int](), -1
    for gap in gaps:
        offset += 1 + gap
        offsets.append(offset)
    index, end = Index(), offset + 1 + data.draw(st.integers(0, 5))
    for seq in data.draw(st.lists(st.integers(0, len(gaps) - 1))):
        index.note(seq, offsets[seq])
    for seq, place in enumerate(offsets):
        low, high = index.gaps(seq, len(gaps), end)
        assert low <= place - seq <= high


def test_a_message_of_somebody_else_in_a_chains_topic_is_not_a_record(kafka: Kafka) -> None:
    engine = kafka.open()
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, [b"a"])]))
    intruder = Producer({"bootstrap.servers": kafka.config.servers})
    intruder.produce(kafka.topics.ledger("acme"), b"forged", b"7")
    intruder.flush(SOON)
    assert list(kafka.open().read("acme", 0, 9)) == [b"a"]
    engine.commit(Commit(epoch, [Append("acme", 1, [b"b"])]))
    with pytest.raises(LedgerDamagedError):
        kafka.open().read("acme", 0, 9)


def test_a_message_of_somebody_else_beside_the_ledger_is_said_aloud(kafka: Kafka) -> None:
    kafka.open()
    intruder = Producer({"bootstrap.servers": kafka.config.servers})
    intruder.produce(kafka.topics.replies, b"forged", partition=1)
    intruder.flush(SOON)
    with pytest.raises(LedgerDamagedError):
        kafka.open().wait({}, SOON)


def test_a_chain_whose_topic_is_gone_is_damaged(kafka: Kafka) -> None:
    engine = kafka.open()
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [b"a"])]))
    admin = AdminClient({"bootstrap.servers": kafka.config.servers})
    admin.delete_topics([kafka.topics.ledger("acme")])[kafka.topics.ledger("acme")].result(SOON)
    with pytest.raises(LedgerDamagedError):
        kafka.open().read("acme", 0, 1)


def test_a_command_goes_to_the_partition_of_its_chain(kafka: Kafka) -> None:
    chains = ["acme", "beta", "gamma", "delta", "epsilon"]
    assert {hashed_partition(chain, PARTITIONS) for chain in chains} == {0, 1}
    handles = [kafka.open(partition) for partition in range(PARTITIONS)]
    elsewhere = next(chain for chain in chains if hashed_partition(chain, PARTITIONS) == 0)
    handles[1].commit(Commit(handles[1].open_epoch(), [Append(elsewhere, 0, [b"a"])]))
    submitter = kafka.open()
    commands = {chain: command(chain) for chain in chains}
    submitter.submit([*commands.values(), b"no command"])
    expected: list[list[bytes]] = [[], []]
    for chain, data in commands.items():
        expected[1 if chain == elsewhere else hashed_partition(chain, PARTITIONS)].append(data)
    expected[0].append(b"no command")
    assert submitter.partition_of(elsewhere) == 1
    assert [[entry.data for entry in handle.intake(0, 9)] for handle in handles] == expected


def test_a_copied_command_opens_its_chain_in_one_partition_alone(kafka: Kafka, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "data")
    chain = next(name for name in ("acme", "beta", "gamma") if hashed_partition(name, PARTITIONS) == 1)
    enrol = EnrolProducer(ledger.authority.key_id, ledger.authority.public_key, "gateway", "gateway", None)
    given = {"stream": stream_of(enrol), "command_id": bytes(16), "now": ledger.clock()}
    signed = ledger.authority.sign([make_envelope(enrol, chain=chain, **given).to_bytes()])[0].to_bytes()
    copier = Producer({"bootstrap.servers": kafka.config.servers})
    for partition in range(PARTITIONS):
        copier.produce(kafka.topics.intake, signed, partition=partition)
    handles = [KafkaEngine(kafka.config, partition) for partition in range(PARTITIONS)]
    copier.flush(SOON)
    for partition, handle in enumerate(handles):
        assert Sequencer.of(ledger.installation, handle, partition=partition).step() == 1
    assert [letter.position for letter in handles[1].quarantined()] == [1]
    opened = decode_record(handles[0].read(chain, 0, 1)[0], {})
    assert (opened.event, opened.field("intake_partition", int)) == ("ChainOpened", 1)
    for handle in handles:
        handle.close()
    ledger.close()


def test_partitions_have_writers_and_positions_of_their_own(kafka: Kafka) -> None:
    zero, one = kafka.open(0), kafka.open(1)
    one.submit([command(next(c for c in "abcdefgh" if hashed_partition(c, PARTITIONS) == 1)), b"none"])
    first, second = zero.open_epoch(), one.open_epoch()
    entry = one.intake(one.intake_position(), 9)[0]
    one.commit(Commit(second, [Append("acme", 0, [b"a"])], [reply(0)], entry.position))
    zero.commit(Commit(first, [Append("beta", 0, [b"x"])]))
    assert (one.intake_position(), zero.intake_position()) == (entry.position, 0)
    assert zero.wait_decided(entry.position, SOON)
    assert zero.sizes() == one.sizes() == {"acme": 1, "beta": 1}
    assert zero.waiting() == 1
    with pytest.raises(WrongPartitionError):
        zero.commit(Commit(first, [Append("acme", 1, [b"b"])]))
    with pytest.raises(WrongPartitionError):
        zero.commit(Commit(first, intake_position=entry.position))
    zero.commit(Commit(first, [Append("beta", 1, [b"y"])]))


def test_more_replies_than_a_message_holds_are_all_found(kafka: Kafka) -> None:
    engine = kafka.open()
    replies = [reply(number) for number in range(2500)]
    engine.commit(Commit(engine.open_epoch(), replies=replies))
    reader = kafka.open()
    assert [reader.wait_reply(each.command_id, SOON) for each in replies] == replies


def test_a_snapshot_may_be_larger_than_a_message(kafka: Kafka) -> None:
    engine = kafka.open()
    data = bytes(range(256)) * 12_000
    for size in (1, 2, 3):
        engine.save_snapshot(Snapshot("acme", size, bytes(32), data + bytes([size])))
    engine.save_snapshot(Snapshot("beta", 1, bytes(32), b""))
    assert kafka.open().load_snapshot("acme") == Snapshot("acme", 3, bytes(32), data + b"\x03")
    assert kafka.open().load_snapshot("beta") == Snapshot("beta", 1, bytes(32), b"")


def test_a_snapshot_that_is_half_written_is_not_given_back(kafka: Kafka) -> None:
    engine = kafka.open()
    engine.save_snapshot(Snapshot("acme", 1, bytes(32), b"old"))
    engine._notices._send(kafka.topics.snapshots, [(b"acme/1/0", bytes(16) + b"half")])
    loaded = kafka.open().load_snapshot("acme")
    assert loaded is not None
    assert loaded.data == b"old"


def test_a_command_over_the_limit_of_a_message_is_refused(kafka: Kafka) -> None:
    engine = kafka.open()
    with pytest.raises(MessageTooLargeError):
        engine.submit([b"x" * 2_000_000])
    assert engine.submit([b"small"]) == [1]


def test_closing_wakes_who_waits(kafka: Kafka) -> None:
    engine = kafka.open()
    waits: list[Callable[[], object]] = [
        lambda: engine.wait({}, 600),
        lambda: engine.wait_intake(0, 600),
        lambda: engine.wait_reply(bytes(16), 600),
        lambda: engine.wait_decided(5, 600),
        lambda: engine.wait_checkpoint("acme", None, 600),
    ]
    with ThreadPoolExecutor(len(waits)) as pool:
        waiting = [pool.submit(wait) for wait in waits]
        engine.intake(0, 1)
        engine.close()
        assert not any(future.result(SOON) for future in waiting)
    with pytest.raises(BrokerError):
        engine.sizes()


def test_a_cluster_that_cannot_be_reached_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_CONNECT_SECONDS", 0.3)
    with pytest.raises(BrokerError, match="TG_LOG_URL"):
        KafkaEngine(KafkaConfig("127.0.0.1:1"))


def test_passwords_stand_in_no_text_of_the_configuration() -> None:
    assert "secret" not in repr(KafkaConfig("h:1", options={"sasl.password": "secret"}))


def test_recent_records_are_bounded_and_what_is_forgotten_is_read_again(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_WINDOW_RECORDS", 8)
    monkeypatch.setattr(records, "_ALL_BYTES", 40)
    engine = kafka.open()
    chains = ["acme", "beta", "gamma"]
    appends = [Append(chain, 0, numbered(0, 60)) for chain in chains]
    engine.commit(Commit(engine.open_epoch(), appends))
    reader = kafka.open()
    for start in (0, 20, 40, 10, 59, 0):
        for chain in chains:
            assert list(reader.read(chain, start, 20)) == numbered(start, min(20, 60 - start))
    assert sum(stream.held for stream in reader._records._streams.values()) <= 40
