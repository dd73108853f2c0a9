"""One writer for each partition of the intake: transactions, fencing, and writers that are killed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from tensorguard.ledger.record import decode_record

from producers.deciders.registry import stream_of
from producers.engines.errors import FencedError
from producers.engines.kafka import KafkaEngine
from producers.engines.kafka.errors import (
    BrokerError,
    CommitLostError,
    CommitUnknownError,
    TransactionLeftOpenError,
    WrongPartitionError,
)
from producers.engines.kafka.intake import hashed_partition
from producers.engines.kafka.letters import DeadLetters
from producers.engines.kafka.topics import TopicMaker
from producers.engines.port import Append, Commit, Quarantined
from producers.identities import make_envelope
from producers.sequencer import Sequencer
from schemas.commands import EnrolProducer
from tests.support.kafka import PARTITIONS
from tests.support.ledgers import Ledger, python

if TYPE_CHECKING:
    from pathlib import Path

from tests.engines.handles import SOON, Breaking, Kafka, command, numbered, reply

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
        with pytest.raises((FencedError, CommitLostError, CommitUnknownError)):
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


def left_open(kafka: Kafka, key: bytes) -> Producer:
    """Somebody whose transaction has written to a chain's topic and has not ended."""
    stranger = Producer({"bootstrap.servers": kafka.config.servers, "transactional.id": f"{kafka.config.prefix}.other"})
    stranger.init_transactions(SOON)
    stranger.begin_transaction()
    stranger.produce(kafka.topics.ledger("acme"), b"b", key, partition=0)
    stranger.flush(SOON)
    return stranger


def test_a_writer_does_not_begin_beside_a_transaction_that_is_no_sequencers(kafka: Kafka) -> None:
    engine = kafka.open()
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [b"a"])]))
    stranger = left_open(kafka, b"1")
    with pytest.raises(TransactionLeftOpenError, match="acme"):
        kafka.open().open_epoch()
    stranger.abort_transaction(SOON)
    fresh = kafka.open()
    fresh.commit(Commit(fresh.open_epoch(), [Append("acme", 1, [b"c"])]))
    assert list(kafka.open().read("acme", 0, 9)) == [b"a", b"c"]


def test_a_chain_is_not_opened_beside_a_transaction_that_was_left_open(kafka: Kafka) -> None:
    engine = kafka.open()
    epoch = engine.open_epoch()
    TopicMaker(kafka.config).ensure([kafka.topics.of_chain("acme")])
    stranger = left_open(kafka, b"0")
    with pytest.raises(TransactionLeftOpenError, match="acme"):
        engine.commit(Commit(epoch, [Append("acme", 0, [b"a"])]))
    stranger.abort_transaction(SOON)
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [b"c"])]))
    assert list(kafka.open().read("acme", 0, 9)) == [b"c"]


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


@pytest.mark.parametrize(("code", "tries"), [(KafkaError.UNKNOWN, 2), (KafkaError.INVALID_CONFIG, 1)])
def test_a_broker_that_stumbles_over_two_at_once_is_asked_again(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, code: int, tries: int
) -> None:
    engine, remove, tried = kafka.open(), DeadLetters._remove, []
    at = engine.submit([b"poison"])[0]
    engine.commit(Commit(engine.open_epoch(), [], [], at, [Quarantined(at, "poison", 0)]))

    def stumbling(letters: DeadLetters, position: int, *, resubmit: bool) -> int:
        tried.append(position)
        if len(tried) == 1:
            raise KafkaException(KafkaError(code))
        return remove(letters, position, resubmit=resubmit)

    monkeypatch.setattr(DeadLetters, "_remove", stumbling)
    with suppress(BrokerError):
        engine.drop(at)
    assert tried == [at] * tries
    assert len(engine.quarantined()) == 2 - tries
