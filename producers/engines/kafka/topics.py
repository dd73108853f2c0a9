"""The topics of a ledger: their names, the settings that they are made with and held to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from producers.engines.errors import LedgerDamagedError
from producers.engines.kafka.errors import DENIED, BrokerError, TopicSettingsError, reason_of, typed_errors
from producers.engines.kafka.patience import ride_out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka.admin import TopicMetadata

    from producers.engines.kafka.config import KafkaConfig

_log = structlog.get_logger("kafka")
_DAY_MS = 24 * 3_600 * 1_000
REPLIES_MS = _DAY_MS
_INTAKE_MS = 7 * _DAY_MS
_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
# Small segments: a reader's start reads all of a compacted topic, and the newest segment is never compacted.
_NEWEST = {"cleanup.policy": "compact", "segment.bytes": "16777216", "min.cleanable.dirty.ratio": "0.1"}
# Only whole segments are deleted: what is to be kept for a day must not lie in one of a week.
_LATELY = {"cleanup.policy": "delete", "retention.ms": str(REPLIES_MS), "segment.ms": "3600000"}
# Of heartbeats the newest few count; brokers stamp them by one clock.
_BRIEFLY = {
    "cleanup.policy": "delete",
    "retention.ms": "3600000",
    "segment.ms": "600000",
    "message.timestamp.type": "LogAppendTime",
}
_SECONDS = 30.0
_CONNECT_SECONDS = 15.0
_FIRST_SECONDS = 3.0
_AGAIN_SECONDS = 0.02
# A topic that was made a moment ago is not known to every broker yet.
_UNKNOWN = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART})


@dataclass(frozen=True)
class Topic:
    """A topic: how many partitions it has, and its settings. Those of ``checked`` must be so in one that exists."""

    name: str
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)
    checked: tuple[str, ...] = ("cleanup.policy", "retention.ms", "retention.bytes", "min.insync.replicas")


class Topics:
    """The topics of one ledger."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._ledgers = f"{config.prefix}.ledger."
        self.partitions = config.partitions
        self.intake = f"{config.prefix}.intake"
        self.replies = f"{config.prefix}.replies"
        self.writers = f"{config.prefix}.writers"
        self.checkpoints = f"{config.prefix}.checkpoints"
        self.snapshots = f"{config.prefix}.snapshots"
        self.dead_letters = f"{config.prefix}.dead-letters"
        self.workers = f"{config.prefix}.workers"

    def ledger(self, chain: str) -> str:
        """The topic of a chain."""
        return self._ledgers + chain

    def chain_of(self, name: str) -> str | None:
        """The chain whose topic it is; None if it is another one."""
        return name.removeprefix(self._ledgers) if name.startswith(self._ledgers) else None

    def fixed(self) -> list[Topic]:
        """Every topic but those of chains. Partition p of what a writer writes is that of intake partition p."""
        many = self.partitions
        return [
            self._topic(self.intake, many, {"cleanup.policy": "delete", "retention.ms": str(_INTAKE_MS)}, atleast=True),
            self._topic(self.replies, many, _LATELY, atleast=True),
            self._topic(self.writers, many, _NEWEST),
            self._topic(self.dead_letters, many, _NEWEST),
            self._topic(self.checkpoints, 1, _NEWEST),
            self._topic(self.snapshots, 1, _NEWEST),
            self.of_workers(),
        ]

    def of_workers(self) -> Topic:
        """The topic in which trainers say that they are there."""
        return self._topic(self.workers, 1, _BRIEFLY, atleast=True)

    def of_chain(self, chain: str) -> Topic:
        """The topic of a chain: one partition, nothing ever deleted."""
        return self._topic(self.ledger(chain), 1, _FOR_EVER)

    def _topic(self, name: str, partitions: int, settings: Mapping[str, str], *, atleast: bool = False) -> Topic:
        """``atleast``: an operator may keep messages longer, so how long is not checked."""
        checked = ["cleanup.policy", "min.insync.replicas"]
        if not atleast:
            checked += [name for name in ("retention.ms", "retention.bytes") if name in settings]
        wanted = {"min.insync.replicas": str(self._config.min_isr), **settings}
        return Topic(name, partitions, wanted, tuple(checked))


class TopicMaker:
    """Makes topics that are missing and checks those that exist."""

    def __init__(self, config: KafkaConfig) -> None:
        self._servers = config.servers
        self._replication = config.replication
        self._said: KafkaError | None = None
        self.admin = AdminClient(config.admin() | {"error_cb": self._hear})

    def ensure(self, topics: Iterable[Topic]) -> None:
        """Have topics with their settings; any number of processes may do so at once.

        Raises:
            TopicSettingsError: one exists with other settings.
            BrokerError: Kafka cannot be reached or does not allow it.
        """
        wanted = {topic.name: topic for topic in topics}
        with typed_errors("making topics"):
            existing = self._existing()
            made = self._make([topic for name, topic in wanted.items() if name not in existing])
            self._check([topic for name, topic in wanted.items() if name not in made])

    def check(self, topics: Iterable[Topic]) -> None:
        """Hold topics to their settings that were made long ago: none is made anew.

        Raises:
            LedgerDamagedError: one is gone.
            TopicSettingsError: one has other settings.
            BrokerError: Kafka cannot be reached or does not allow it.
        """
        wanted = list(topics)
        with typed_errors("checking topics"):
            try:
                self._check(wanted)
            except KafkaException as error:
                gone = sorted({topic.name for topic in wanted}.difference(self._existing()))
                if reason_of(error).code() not in _UNKNOWN or not gone:
                    raise
                raise LedgerDamagedError(f"Topic {gone[0]} is gone from Kafka.") from error

    def names(self) -> list[str]:
        """The names of all topics there are.

        Raises:
            BrokerError: Kafka cannot be reached.
        """
        with typed_errors("listing topics"):
            return sorted(self._existing())

    def _existing(self) -> dict[str, int]:
        listed = ride_out(self._listed, time.sleep, _CONNECT_SECONDS)
        return {name: len(topic.partitions) for name, topic in listed.items()}

    def _listed(self) -> dict[str, TopicMetadata]:
        """All topics; while no broker answers, an operator is told so at once."""
        self._said = None
        try:
            return self.admin.list_topics(timeout=min(_FIRST_SECONDS, _CONNECT_SECONDS)).topics
        except KafkaException as error:
            self.admin.poll(0)
            reason = self._said or reason_of(error)
            if reason.code() in DENIED:
                raise KafkaException(reason) from error
            _log.warning("kafka_awaited", servers=self._servers, reason=reason.name(), next_step=BrokerError.next_step)
            raise

    def _hear(self, error: KafkaError) -> None:
        """What librdkafka says of its connections; of a login that fails nothing else is heard."""
        if error.code() in DENIED:
            self._said = error

    def _make(self, topics: list[Topic]) -> set[str]:
        """Make topics; the names of those that nobody else has made meanwhile."""
        if not topics:
            return set()
        new = [
            NewTopic(t.name, num_partitions=t.partitions, replication_factor=self._replication, config=dict(t.settings))
            for t in topics
        ]
        made = set()
        for name, making in self.admin.create_topics(new, operation_timeout=_SECONDS, request_timeout=_SECONDS).items():
            try:
                making.result(_SECONDS)
                made.add(name)
            except KafkaException as error:
                if reason_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        return made

    def _check(self, topics: list[Topic]) -> None:
        if not topics:
            return
        described = ride_out(lambda: self._described(topics), time.sleep, _CONNECT_SECONDS, _UNKNOWN)
        partitions = self._partitions([topic.name for topic in topics])
        for topic in topics:
            _hold(topic, described[topic.name], partitions[topic.name])

    def _described(self, topics: list[Topic]) -> dict[str, dict[str, str | None]]:
        resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
        answers = self.admin.describe_configs(resources, request_timeout=_SECONDS)
        described = {resource.name: answers[resource].result(_SECONDS) for resource in resources}
        return {topic: {name: entry.value for name, entry in found.items()} for topic, found in described.items()}

    def _partitions(self, names: list[str]) -> dict[str, int]:
        """How many partitions topics have, once they are listed."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        while not (existing := self._existing()).keys() >= set(names):
            if time.monotonic() > deadline:
                raise BrokerError("Kafka does not list the topics that it says there are.")
            time.sleep(_AGAIN_SECONDS)
        return existing


def _hold(topic: Topic, settings: Mapping[str, str | None], partitions: int) -> None:
    wrong = [
        f"{name}={topic.settings[name]} (it is {settings.get(name)})"
        for name in topic.checked
        if settings.get(name) != topic.settings[name]
    ]
    if partitions != topic.partitions:
        wrong.insert(0, f"partitions={topic.partitions} (it has {partitions})")
    if wrong:
        raise TopicSettingsError(f"Topic {topic.name} needs {', '.join(wrong)}.")
