"""What a handle on Kafka gives back: records wherever they lie, replies, snapshots; bounded in memory."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from producers.engines.kafka import follower, messages, records, state, stream, streams
from producers.engines.kafka.errors import (
    BrokerError,
    MessageTooLargeError,
)
from producers.engines.kafka.follower import LATELY_SECONDS
from producers.engines.kafka.index import Index
from producers.engines.port import Append, Commit, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.engines.handles import SOON, Breaking, Kafka, numbered, reply


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
        near = index.near(seq)
        assert near is None or near <= place


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


def test_recent_records_are_bounded_and_what_is_forgotten_is_read_again(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_WINDOW_RECORDS", 8)
    monkeypatch.setattr(streams, "_ALL_BYTES", 40)
    engine = kafka.open()
    chains = ["acme", "beta", "gamma"]
    appends = [Append(chain, 0, numbered(0, 60)) for chain in chains]
    engine.commit(Commit(engine.open_epoch(), appends))
    reader = kafka.open()
    for start in (0, 20, 40, 10, 59, 0):
        for chain in chains:
            assert list(reader.read(chain, start, 20)) == numbered(start, min(20, 60 - start))
    assert reader._records._streams.held <= 40


@pytest.mark.parametrize("last", [0, 3])
def test_of_replies_those_of_late_are_read_and_the_last_ones(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    monkeypatch.setattr(follower, "_LAST", last)
    kafka.open().open_epoch()
    now = time.time()
    producer = Producer({"bootstrap.servers": kafka.config.servers, "transactional.id": kafka.config.prefix})
    producer.init_transactions(SOON)
    producer.begin_transaction()
    for number, age in enumerate((2 * LATELY_SECONDS, 2 * LATELY_SECONDS, LATELY_SECONDS / 2)):
        [told] = messages.encode_commit(Commit(1, replies=[reply(number)]))
        producer.produce(kafka.topics.replies, told, partition=0, timestamp=int((now - age) * 1000))
    producer.commit_transaction(SOON)
    reader = kafka.open()
    known = [reader.reply(reply(number).command_id) for number in range(3)]
    assert known == [None, reply(1) if last else None, reply(2)]  # Behind them stands a marker.


def test_replies_are_bounded_in_number_and_the_oldest_are_let_go(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_REPLIES", 3)
    writer, reader = kafka.open(), kafka.open()
    epoch = writer.open_epoch()
    for number in range(5):
        writer.commit(Commit(epoch, replies=[reply(number)]))
    for handle in (writer, reader):
        known = [handle.reply(reply(number).command_id) for number in range(5)]
        assert known == [None, None, reply(2), reply(3), reply(4)]
