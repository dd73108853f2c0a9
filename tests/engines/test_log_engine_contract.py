"""What every log engine promises, on every engine that there is."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest

from producers.engines.errors import FencedError, HeadMovedError, NoDeadLetterError
from producers.engines.port import (
    ACCEPTED,
    REFUSED,
    REJECTED,
    Append,
    Commit,
    LogEngine,
    Quarantined,
    Reply,
    Snapshot,
)
from tests.engines.kits import EngineKit
from tests.support.records import some_record

SOON = 10.0
AT_ONCE = 0.0
BRIEFLY = 0.05
A, B, C, R, X = map(some_record, "abcrx")


@pytest.fixture
def engine(kit: EngineKit) -> LogEngine:
    return kit.open()


def reply(number: int, outcome: str = ACCEPTED, chain: str = "acme") -> Reply:
    return Reply(number.to_bytes(16, "big"), outcome, chain, 0, 0, "", "", sha256(b"body").digest())


def test_a_new_ledger_is_empty(engine: LogEngine) -> None:
    assert list(engine.chains()) == []
    assert engine.size("acme") == 0
    assert list(engine.read("acme", 0, 10)) == []
    assert list(engine.intake(0, 10)) == []
    assert engine.intake_position() == 0
    assert engine.waiting() == 0
    assert engine.epoch() == 0
    assert engine.reply(bytes(16)) is None
    assert engine.checkpoint("acme") is None
    assert engine.load_snapshot("acme") is None
    assert list(engine.quarantined()) == []


def test_committed_records_are_read_back_in_order_and_in_slices(engine: LogEngine) -> None:
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, [A, B]), Append("beta", 0, [X])]))
    engine.commit(Commit(epoch, [Append("acme", 2, [C])]))
    assert list(engine.chains()) == ["acme", "beta"]
    assert (engine.size("acme"), engine.size("beta")) == (3, 1)
    assert list(engine.read("acme", 0, 10)) == [A, B, C]
    assert list(engine.read("acme", 1, 1)) == [B]
    assert list(engine.read("acme", 3, 1)) == []


def test_a_commit_on_a_moved_head_writes_nothing_at_all(engine: LogEngine) -> None:
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, [A])]))
    position = engine.submit([b"entry"])[0]
    late = [Append("beta", 0, [X]), Append("acme", 0, [B])]
    with pytest.raises(HeadMovedError):
        engine.commit(Commit(epoch, late, [reply(1)], position, [Quarantined(position, "poison", 1)]))
    assert list(engine.chains()) == ["acme"]
    assert engine.size("acme") == 1
    assert engine.reply(reply(1).command_id) is None
    assert [entry.data for entry in engine.intake(0, 10)] == [b"entry"]
    assert list(engine.quarantined()) == []


def test_a_newer_epoch_fences_the_older_writer(kit: EngineKit) -> None:
    old, new = kit.open(), kit.open()
    first, second = old.open_epoch(), new.open_epoch()
    assert second > first
    assert old.epoch() == second
    with pytest.raises(FencedError):
        old.commit(Commit(first, [Append("acme", 0, [A])]))
    new.commit(Commit(second, [Append("acme", 0, [B])]))
    assert list(old.read("acme", 0, 10)) == [B]


def test_the_intake_keeps_the_order_of_submission(engine: LogEngine) -> None:
    positions = [*engine.submit([b"a", b"b"]), *engine.submit([b"c"])]
    assert positions == sorted(set(positions))
    assert [(entry.position, entry.data) for entry in engine.intake(0, 10)] == list(
        zip(positions, [b"a", b"b", b"c"], strict=True)
    )
    assert [entry.data for entry in engine.intake(positions[0], 1)] == [b"b"]
    assert list(engine.submit([])) == []


def test_decided_entries_leave_the_intake_and_their_positions_never_come_back(kit: EngineKit) -> None:
    engine = kit.open()
    last = engine.submit([b"a", b"b"])[-1]
    engine.commit(Commit(engine.open_epoch(), intake_position=last))
    assert list(engine.intake(0, 10)) == []
    assert kit.open().intake_position() == last
    assert kit.open().submit([b"c"])[0] > last


def test_chains_that_are_asked_for_together_are_read_as_they_are(kit: EngineKit) -> None:
    writer = kit.open()
    epoch = writer.open_epoch()
    chains = [f"chain-{number}" for number in range(5)]
    records = {chain: [some_record(f"{chain} {seq}") for seq in range(4)] for chain in chains}
    for seq in range(4):
        writer.commit(Commit(epoch, [Append(chain, seq, [records[chain][seq]]) for chain in chains]))
    reader = kit.open()
    reader.prefetch({**dict.fromkeys(chains, 0), chains[1]: 2, "no-such-chain": 0})
    reader.prefetch({chains[2]: 3})
    assert {chain: list(reader.read(chain, 0, 9)) for chain in chains} == records
    writer.commit(Commit(epoch, [Append(chains[0], 4, [A]), Append(chains[3], 4, [B])]))
    reader.prefetch({chains[0]: 4, chains[3]: 4})
    assert [list(reader.read(chain, 4, 9)) for chain in (chains[0], chains[3])] == [[A], [B]]


def test_every_thread_that_submits_gets_the_positions_of_its_own_entries(engine: LogEngine) -> None:
    def submit(number: int) -> list[tuple[int, bytes]]:
        data = [f"{number}-{i}".encode() for i in range(5)]
        return list(zip(engine.submit(data), data, strict=True))

    with ThreadPoolExecutor(16) as pool:
        handed_in = [pair for pairs in pool.map(submit, range(64)) for pair in pairs]
    assert sorted(handed_in) == [(entry.position, entry.data) for entry in engine.intake(0, 1000)]


def test_a_reply_is_found_by_its_command(engine: LogEngine) -> None:
    said = Reply(b"c" * 16, REJECTED, "acme", 4, 4, "run_closed", "The run is closed.", b"d" * 32)
    engine.commit(Commit(engine.open_epoch(), replies=[said, reply(2)]))
    assert engine.reply(said.command_id) == said
    assert engine.reply(said.command_id, "acme") == said
    assert engine.reply(said.command_id, "beta") is None


def test_equal_command_ids_on_two_chains_have_a_reply_each(engine: LogEngine) -> None:
    ours, theirs = reply(1, ACCEPTED, "acme"), reply(1, REJECTED, "beta")
    engine.commit(Commit(engine.open_epoch(), replies=[ours, theirs]))
    assert engine.reply(ours.command_id, "acme") == ours
    assert engine.reply(ours.command_id, "beta") == theirs


@pytest.mark.parametrize(
    ("first", "then", "stands"),
    [
        (REFUSED, ACCEPTED, ACCEPTED),
        (REFUSED, REJECTED, REJECTED),
        (ACCEPTED, REFUSED, ACCEPTED),
        (REJECTED, REFUSED, REJECTED),
        (ACCEPTED, REJECTED, ACCEPTED),
    ],
)
def test_a_decision_stands_and_a_refusal_gives_way(engine: LogEngine, first: str, then: str, stands: str) -> None:
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, replies=[reply(1, first)]))
    engine.commit(Commit(epoch, replies=[reply(1, then)]))
    found = engine.reply(reply(1).command_id)
    assert found is not None
    assert found.outcome == stands


def set_aside(engine: LogEngine, *entries: bytes) -> list[int]:
    """Dead letters of these bytes, set aside one microsecond after another, behind an entry that was decided."""
    positions = engine.submit([b"good", *entries])
    poisoned = [Quarantined(position, "poison", at) for at, position in enumerate(positions[1:], 1)]
    engine.commit(Commit(engine.open_epoch(), intake_position=positions[-1], quarantined=poisoned))
    return list(positions[1:])


def test_dead_letters_are_listed_with_their_reason_and_time(kit: EngineKit) -> None:
    engine = kit.open()
    first, second = set_aside(engine, b"one", b"two")
    listed = [Quarantined(first, "poison", 1), Quarantined(second, "poison", 2)]
    assert list(engine.quarantined()) == listed
    assert list(kit.open().quarantined()) == listed
    assert list(engine.intake(0, 10)) == []


def test_a_dead_letter_keeps_the_very_bytes_that_were_submitted(kit: EngineKit) -> None:
    data = bytes(range(256))
    position = set_aside(kit.open(), data)[0]
    assert kit.open().dead_letter(position) == data
    assert kit.open().dead_letter(position - 1) is None
    assert kit.open().dead_letter(position + 1) is None


def test_a_retried_dead_letter_waits_in_the_intake_behind_the_others(kit: EngineKit) -> None:
    engine = kit.open()
    first, second = set_aside(engine, b"one", b"two")
    newest = engine.submit([b"new"])[0]
    again = kit.open().retry(first)
    assert again > newest
    waiting = [(entry.position, entry.data) for entry in engine.intake(engine.intake_position(), 10)]
    assert waiting == [(newest, b"new"), (again, b"one")]
    assert [letter.position for letter in engine.quarantined()] == [second]
    assert engine.dead_letter(first) is None


def test_a_retry_that_fails_again_is_a_dead_letter_at_its_new_position(engine: LogEngine) -> None:
    first = set_aside(engine, b"one")[0]
    again = engine.retry(first)
    failed = Quarantined(again, "poison still", 7)
    engine.commit(Commit(engine.open_epoch(), intake_position=again, quarantined=[failed]))
    assert list(engine.quarantined()) == [failed]
    assert engine.dead_letter(again) == b"one"


def test_a_dropped_dead_letter_is_gone_for_good(kit: EngineKit) -> None:
    engine = kit.open()
    first, second = set_aside(engine, b"one", b"two")
    engine.drop(first)
    assert [letter.position for letter in kit.open().quarantined()] == [second]
    assert kit.open().dead_letter(first) is None
    assert list(engine.intake(0, 10)) == []


@pytest.mark.parametrize("act", ["retry", "drop"])
def test_what_is_no_dead_letter_can_be_neither_retried_nor_dropped(engine: LogEngine, act: str) -> None:
    first, second = set_aside(engine, b"one", b"two")
    waiting = engine.submit([b"new"])[0]
    getattr(engine, act)(first)
    for position in (first, waiting, waiting + 100, 0, -1, 1 << 62):
        with pytest.raises(NoDeadLetterError, match=str(position)):
            getattr(engine, act)(position)
    assert [letter.position for letter in engine.quarantined()] == [second]


def test_a_dead_letter_is_retried_once_however_many_try(kit: EngineKit) -> None:
    position = set_aside(kit.open(), b"one")[0]
    handles = [kit.open() for _ in range(4)]

    def retry(engine: LogEngine) -> int | None:
        try:
            return engine.retry(position)
        except NoDeadLetterError:
            return None

    with ThreadPoolExecutor(4) as pool:
        again = [found for found in pool.map(retry, handles) if found is not None]
    assert len(again) == 1
    assert [(entry.position, entry.data) for entry in handles[0].intake(position, 10)] == [(again[0], b"one")]


def test_a_retry_wakes_who_waits_for_the_intake(kit: EngineKit) -> None:
    here, there = kit.open(), kit.open()
    position = set_aside(there, b"one")[0]
    with ThreadPoolExecutor(1) as pool:
        started = time.monotonic()
        waiting = pool.submit(here.wait_intake, here.intake_position(), SOON)
        there.retry(position)
        assert waiting.result()
        assert time.monotonic() - started < SOON


def test_the_intake_says_how_many_entries_wait(kit: EngineKit) -> None:
    engine = kit.open()
    assert engine.waiting() == 0
    positions = engine.submit([b"a", b"b", b"c"])
    assert kit.open().waiting() == 3
    engine.commit(Commit(engine.open_epoch(), intake_position=positions[1]))
    assert engine.waiting() == 1


def test_waiting_ends_at_once_when_there_is_something(engine: LogEngine) -> None:
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [A])], [reply(1)]))
    position = engine.submit([b"entry"])[0]
    assert engine.wait({}, SOON)
    assert engine.wait_intake(position - 1, SOON)
    assert engine.wait_reply(reply(1).command_id, SOON) == reply(1)
    engine.commit(Commit(engine.epoch(), intake_position=position))
    assert engine.wait_decided(position, SOON)


def test_waiting_ends_without_result_when_time_is_over(engine: LogEngine) -> None:
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [A])]))
    started = time.monotonic()
    assert not engine.wait({"acme": 1}, BRIEFLY)
    assert not engine.wait_intake(0, BRIEFLY)
    assert engine.wait_reply(bytes(16), BRIEFLY) is None
    assert not engine.wait_decided(engine.submit([b"entry"])[0], BRIEFLY)
    assert engine.wait_checkpoint("acme", None, AT_ONCE) is None
    assert time.monotonic() - started >= 4 * BRIEFLY


def test_waiters_are_woken_by_what_another_handle_does(kit: EngineKit) -> None:
    here, there = kit.open(), kit.open()
    entry = there.submit([b"entry"])[0]
    with ThreadPoolExecutor(5) as pool:
        started = time.monotonic()
        waiting: list[Future[Any]] = [
            pool.submit(here.wait, {}, SOON),
            pool.submit(here.wait_intake, entry, SOON),
            pool.submit(here.wait_decided, entry, SOON),
            pool.submit(here.wait_reply, reply(1).command_id, SOON),
            pool.submit(here.wait_checkpoint, "acme", None, SOON),
        ]
        there.submit([b"another"])
        there.commit(Commit(there.open_epoch(), [Append("acme", 0, [A])], [reply(1)], entry))
        there.publish_checkpoint("acme", b"note")
        assert [future.result() for future in waiting] == [True, True, True, reply(1), b"note"]
        assert time.monotonic() - started < SOON


def test_a_chain_that_was_not_named_counts_as_unseen(engine: LogEngine) -> None:
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [A]), Append("beta", 0, [X])]))
    assert engine.wait({"acme": 1}, AT_ONCE)
    assert not engine.wait({"acme": 1, "beta": 1}, AT_ONCE)


def test_a_reader_who_sees_a_reply_sees_its_records(kit: EngineKit) -> None:
    writer, reader, done = kit.open(), kit.open(), threading.Event()
    unseen: list[int] = []

    def look() -> None:
        number = 0
        while not done.is_set():
            found = reader.wait_reply(reply(number).command_id, BRIEFLY)
            if found is not None:
                if reader.size("acme") <= number:
                    unseen.append(number)
                number += 1

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        epoch = writer.open_epoch()
        for number in range(100):
            writer.commit(Commit(epoch, [Append("acme", number, [R])], [reply(number)]))
        done.set()
        looking.result()
    assert unseen == []


def test_every_handle_has_the_sizes_of_the_newest_commit(kit: EngineKit) -> None:
    writer, readers = kit.open(), [kit.open(), kit.open()]
    epoch = writer.open_epoch()
    for number in range(10):
        writer.commit(Commit(epoch, [Append("acme", number, [R]), Append(f"new-{number}", 0, [R])]))
        newest = {"acme": number + 1, **{f"new-{each}": 1 for each in range(number + 1)}}
        assert [dict(handle.sizes()) for handle in (writer, *readers)] == [newest] * 3


def test_the_newest_snapshot_is_given_back_as_it_was_stored(kit: EngineKit) -> None:
    engine = kit.open()
    engine.save_snapshot(Snapshot("acme", 10, b"1" * 32, b"old"))
    newest = Snapshot("acme", 20, b"wrong digest, but not the engine's business"[:32], b"new")
    engine.save_snapshot(newest)
    assert kit.open().load_snapshot("acme") == newest
    assert engine.load_snapshot("beta") is None


def test_the_newest_published_checkpoint_replaces_the_one_before(kit: EngineKit) -> None:
    engine = kit.open()
    engine.publish_checkpoint("acme", b"one")
    engine.publish_checkpoint("acme", b"two")
    engine.publish_checkpoint("beta", b"three")
    assert (kit.open().checkpoint("acme"), kit.open().checkpoint("beta")) == (b"two", b"three")


@pytest.mark.parametrize("name", ["../keys/kek", "/etc/hostname", "signer.json", "", ".", "ACME"])
def test_what_is_no_chain_name_has_no_checkpoint(engine: LogEngine, name: str) -> None:
    assert engine.checkpoint(name) is None


def test_everything_is_there_for_the_next_handle(kit: EngineKit) -> None:
    engine = kit.open()
    epoch = engine.open_epoch()
    engine.submit([b"first", b"second"])
    engine.commit(Commit(epoch, [Append("acme", 0, [A])], [reply(1)], intake_position=1))
    engine.close()
    again = kit.open()
    assert (list(again.read("acme", 0, 9)), again.reply(reply(1).command_id)) == ([A], reply(1))
    assert ([entry.data for entry in again.intake(0, 9)], again.epoch()) == ([b"second"], epoch)
