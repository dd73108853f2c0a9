"""A desk whose other places are on Kafka, with a handle for each intake partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producers.deciders.registry import stream_of
from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.kafka.intake import hashed_partition
from producers.identities import make_envelope
from producers.moving import End
from producers.sequencer import Sequencer
from schemas.commands import EnrolProducer
from tests.moving.desk import Breaking, Desk, Fuse, fresh_id

if TYPE_CHECKING:
    from pathlib import Path

    from producers.engines.port import LogEngine


class KafkaPlace:
    """A ledger on Kafka, with as many handles as it has intake partitions."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self._handles: dict[int, KafkaEngine] = {}

    def handle(self, partition: int = 0) -> KafkaEngine:
        if partition not in self._handles:
            self._handles[partition] = KafkaEngine(self.config, partition)
        return self._handles[partition]

    def end(self, fuse: Fuse) -> End:
        """What a mover has of it: handles whose writes burn a fuse."""

        def breaking(partition: int) -> Any:
            return Breaking(self.handle(partition), fuse)

        return End(breaking, self.config.partitions)

    def close(self) -> None:
        """Give the handles back; the next ones are those of another process."""
        for engine in self._handles.values():
            engine.close()
        self._handles = {}


class KafkaDesk(Desk):
    """A desk whose other place is on Kafka, and a further one of a name of its own."""

    def __init__(self, folder: Path, config: KafkaConfig, further: KafkaConfig | None = None) -> None:
        self.place = KafkaPlace(config)
        self.further = KafkaPlace(further or config)
        super().__init__(folder, self.place.handle())
        self.config = config

    def end(self, engine: LogEngine) -> End:
        for place in (self.place, self.further):
            if engine in place._handles.values():
                return place.end(self.fuse)
        return super().end(engine)

    def restart(self) -> None:
        """What another process has of Kafka."""
        self.place.close()
        self.further.close()
        self.there = self.place.handle()

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
        Sequencer.of(self.installation, self.place.handle(partition), partition=partition).step()
        return chain

    def close(self) -> None:
        self.place.close()
        self.further.close()
        super().close()
