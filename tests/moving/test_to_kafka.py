"""From the embedded engine to Kafka and back: the same records, the same roots, one history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.cli.main import run

from producers.deciders.registry import stream_of
from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.kafka.intake import hashed_partition
from producers.errors import LedgerMovedError
from producers.identities import make_envelope
from producers.moving import End, Mover
from producers.moving.errors import TooFewPartitionsError
from producers.moving.survey import partition_of
from producers.sequencer import Sequencer
from schemas.commands import EnrolProducer
from tests.moving.desk import NAME, Breaking, Crash, Desk, decided, fresh_id, is_prefix, records
from tests.support.kafka import broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.engines.port import LogEngine


class KafkaDesk(Desk):
    """A desk whose other place is on Kafka, with a handle for each of its intake partitions."""

    def __init__(self, folder: Path, config: KafkaConfig) -> None:
        super().__init__(folder, KafkaEngine(config))
        self.config = config
        self.handles: dict[int, KafkaEngine] = {}

    def end(self, engine: LogEngine) -> End:
        if not isinstance(engine, KafkaEngine):
            return super().end(engine)
        return End(lambda partition: self.breaking(engine, partition), self.config.partitions)

    def breaking(self, engine: KafkaEngine, partition: int) -> Any:
        return Breaking(engine if partition == 0 else self.handle(partition), self.fuse)

    def handle(self, partition: int) -> KafkaEngine:
        if partition not in self.handles:
            self.handles[partition] = KafkaEngine(self.config, partition)
        return self.handles[partition]

    def restart(self) -> None:
        """What another process has of Kafka."""
        for engine in (self.there, *self.handles.values()):
            engine.close()
        self.there, self.handles = KafkaEngine(self.config), {}

    def open_a_chain(self, partition: int) -> str:
        """A new tenant whose commands that partition's sequencer decides."""
        chain = next(name for name in map("t{}".format, range(99)) if hashed_partition(name, 2) == partition)
        key = self.installation.producer("gateway")
        command = EnrolProducer(key.key_id, key.public_key, "gateway", "gateway", None)
        self.submit(
            self.there,
            make_envelope(
                command, chain=chain, stream=stream_of(command), command_id=fresh_id(), now=self.ledger.clock()
            ),
        )
        Sequencer.of(self.installation, self.handle(partition), partition=partition).step()
        return chain

    def close(self) -> None:
        for engine in self.handles.values():
            engine.close()
        super().close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[KafkaDesk]:
    desk = KafkaDesk(tmp_path, broker().config())
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
    Sequencer.of(desk.installation, desk.handle(1), partition=1).open()
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
