"""From the embedded engine to Kafka and back: the same records, the same roots, one history."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from tensorguard.cli.main import run

from producers.engines.kafka import KafkaEngine
from producers.errors import LedgerMovedError
from producers.moving import End, Mover
from producers.moving.errors import TooFewPartitionsError
from producers.moving.survey import partition_of
from producers.sequencer import Sequencer
from tests.moving.desk import NAME, Crash, decided, is_prefix, records
from tests.moving.kafka_desk import KafkaDesk
from tests.support.kafka import broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[KafkaDesk]:
    desk = KafkaDesk(tmp_path, broker().config(), broker().config())
    desk.work(desk.here)
    yield desk
    desk.close()


def test_a_ledger_moves_to_kafka_is_written_there_and_moves_back(desk: KafkaDesk) -> None:
    desk.copy()
    assert records(desk.there) == records(desk.here)
    assert decided(desk.there) == decided(desk.here)
    asked = desk.work(desk.here)
    desk.move()
    with pytest.raises(LedgerMovedError):
        desk.sequencer(desk.here).open()
    before = records(desk.there)
    desk.decide(desk.there, *asked)
    assert records(desk.there) == before
    desk.work(desk.there)
    desk.verify(desk.there)
    desk.mover(desk.there, desk.here).move("here-2")
    desk.work(desk.here)
    with pytest.raises(LedgerMovedError):
        desk.sequencer(desk.there).open()
    assert is_prefix(desk.there, desk.here)
    desk.verify(desk.here)


def test_chains_keep_their_intake_partitions_and_one_writer_takes_them_all(desk: KafkaDesk) -> None:
    desk.move()
    chain = desk.open_a_chain(1)
    desk.mover(desk.there, desk.here).move("here-2")
    assert desk.names(desk.there, chain)[-1] == "LedgerMoved"
    desk.decide(desk.here, desk.ledger.issue(chain=chain))
    assert desk.names(desk.here, chain)[-1] == "ApiKeyIssued"
    desk.verify(desk.here)
    narrow = KafkaEngine(replace(broker().config(), partitions=1))
    mover = Mover(desk.installation, desk.end(desk.here), End(lambda _: narrow, 1), desk.sign)
    with pytest.raises(TooFewPartitionsError):
        mover.move("narrow-1")
    assert records(narrow) == {}
    narrow.close()
    desk.restart()
    desk.move("there-3")
    assert [partition_of(desk.there, name) for name in sorted(desk.there.chains())] == [0, 0, 1]
    Sequencer.of(desk.installation, desk.place.handle(1), partition=1).open()
    desk.verify(desk.there)


def test_a_move_to_kafka_that_is_broken_off_is_taken_up_by_another_process(desk: KafkaDesk) -> None:
    for write in (1, 2, 3):  # Each time a little further: what was done stands.
        desk.fuse.left = write + 0.5
        with pytest.raises(Crash):
            desk.move()
        desk.restart()
    desk.fuse.left = float("inf")
    desk.move("another-name")
    assert desk.names(desk.there).count("LedgerMoved") == desk.names(desk.there).count("LedgerContinued") == 1
    assert is_prefix(desk.here, desk.there)
    assert decided(desk.here).items() <= decided(desk.there).items()
    desk.work(desk.there)
    desk.verify(desk.there)


def test_an_operator_moves_a_ledger_to_kafka_by_its_url(desk: KafkaDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_KAFKA_PREFIX", desk.config.prefix)
    monkeypatch.setenv("TG_KAFKA_PARTITIONS", str(desk.config.partitions))
    data = desk.ledger.folder
    ends = ["--from", f"sqlite:///{data / 'ledger.db'}", "--to", f"kafka://{desk.config.servers}"]
    assert run(["ledger", "copy", "--data-dir", str(data), *ends, "--name", NAME]) == 0
    assert desk.names(desk.there)[-1] == "LedgerContinued"
    desk.audit(desk.there, require_signed=True)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 8))])
def test_a_move_from_one_kafka_to_another_is_taken_up_wherever_it_was_broken_off(desk: KafkaDesk, seed: int) -> None:
    random, broken = Random(seed), 0
    desk.move()
    chain, asked = desk.open_a_chain(1), desk.work(desk.there)
    desk.mover(desk.there, desk.further.handle()).copy()
    assert records(desk.further.handle()) == records(desk.there)
    assert decided(desk.further.handle()) == decided(desk.there)
    for _ in range(3):
        desk.fuse.left = random.randint(3, 20) / 2  # Behind some of them, one of two partitions has ended.
        with suppress(Crash):
            desk.mover(desk.there, desk.further.handle()).move(f"further-{broken}")
            break
        broken += 1
        desk.restart()
        assert is_prefix(desk.there, desk.further.handle()) or is_prefix(desk.further.handle(), desk.there)
    assert broken, "nothing was broken off"
    desk.fuse.left = float("inf")
    desk.restart()
    further = desk.further.handle()
    if "LedgerContinued" not in desk.names(further, chain):
        desk.mover(desk.there, further).move("another-name")
    for partition in range(desk.config.partitions):
        with pytest.raises(LedgerMovedError):
            Sequencer.of(desk.installation, desk.place.handle(partition), partition=partition).open()
    for name in desk.there.chains():
        ends = [desk.names(further, name).count(event) for event in ("LedgerMoved", "LedgerContinued")]
        assert ends[0] == ends[1]
    assert is_prefix(desk.there, further)
    before = records(further)
    desk.decide(further, *asked)
    assert records(further) == before
    desk.work(further)
    desk.verify(further)
