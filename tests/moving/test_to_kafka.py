"""From the embedded engine to Kafka and back: the same records, the same roots, one history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.errors import LedgerMovedError
from tests.moving.desk import Crash, Desk, decided, is_prefix, records
from tests.support.kafka import broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def config() -> KafkaConfig:
    return broker().config()


@pytest.fixture
def desk(tmp_path: Path, config: KafkaConfig) -> Iterator[Desk]:
    desk = Desk(tmp_path, KafkaEngine(config))
    desk.work(desk.here)
    yield desk
    desk.close()


def test_a_ledger_moves_to_kafka_is_written_there_and_moves_back(desk: Desk) -> None:
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


def test_a_move_to_kafka_that_is_broken_off_is_taken_up_by_another_process(desk: Desk, config: KafkaConfig) -> None:
    for write in (1, 2, 3):  # Each time a little further: what was done stands.
        desk.fuse.left = write + 0.5
        with pytest.raises(Crash):
            desk.move()
        desk.there.close()
        desk.there = KafkaEngine(config)
    desk.fuse.left = float("inf")
    desk.move("another-name")
    assert desk.names(desk.there).count("LedgerMoved") == desk.names(desk.there).count("LedgerContinued") == 1
    assert is_prefix(desk.here, desk.there)
    assert decided(desk.here).items() <= decided(desk.there).items()
    desk.work(desk.there)
    desk.verify(desk.there)
