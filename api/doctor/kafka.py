"""A ledger on Kafka: brokers that answer, topics that keep what is written, schemas that fit. Nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from api.doctor.findings import Finding, failed, ok, warning
from producers.engines.errors import EngineError
from producers.engines.kafka.registry import SchemaRegistry
from producers.engines.kafka.topics import TopicMaker, Topics
from schemas.codec import EVENTS, event_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from producers.engines.kafka import KafkaConfig

SECONDS = 10.0


def look(config: KafkaConfig) -> Iterator[Finding]:
    """Everything about the schema registry, the brokers and the ledger's topics.

    Raises:
        TopicSettingsError: a topic is not as the ledger needs it.
    """
    if config.registry:
        yield schemas_in(config.registry)
    try:
        cluster = AdminClient(config.admin()).list_topics(timeout=SECONDS)
    except KafkaException as error:
        step = "See that the brokers run and that TG_LOG_URL and the TG_KAFKA_ settings of the connection are theirs."
        yield failed("kafka", f"No broker of {config.servers} answers ({error.args[0].name()}).", step)
        return
    ours = {name: topic for name, topic in cluster.topics.items() if name.startswith(f"{config.prefix}.")}
    if not ours:
        step = (
            "A server makes them at its first start; if there was one, see where TG_LOG_URL and TG_KAFKA_PREFIX lead."
        )
        yield warning("kafka", f"No topic begins with {config.prefix}.", step)
        return
    yield ok("kafka", f"{len(cluster.brokers)} brokers answer, {len(ours)} topics begin with {config.prefix}.")
    yield copies(ours)
    _check(config, ours)
    yield ok("topics", "Their settings keep every record.")


def schemas_in(registry: str) -> Finding:
    """Whether a registry has, or would take, the schemas of all records that this build writes."""
    try:
        lacking = SchemaRegistry(registry).unregistered([event_schema(name).text for name in EVENTS])
    except EngineError as error:
        return failed("registry", error.detail, error.next_step)
    if lacking:
        return ok("registry", f"It answers, and will take the {len(lacking)} schemas that it lacks.")
    return ok("registry", "It has the schemas of all records that this build writes.")


def copies(topics: Mapping[str, Any]) -> Finding:
    """How many brokers have each record."""
    partitions = [partition for topic in topics.values() for partition in topic.partitions.values()]
    fewest = min(len(partition.replicas) for partition in partitions)
    behind = sum(len(partition.isrs) < len(partition.replicas) for partition in partitions)
    if any(partition.leader < 0 for partition in partitions):
        return failed("copies", "A partition has no leader.", "Start the brokers that are away.")
    if behind:
        return warning("copies", f"{behind} partitions lack copies.", "See which broker is away or behind.")
    if fewest < 2:  # noqa: PLR2004 -- one copy is none but itself
        step = "Three brokers, TG_KAFKA_REPLICATION=3 and TG_KAFKA_MIN_ISR=2 keep a ledger that loses one of them."
        return warning("copies", "A topic has one copy: with its broker the ledger is lost.", step)
    return ok("copies", f"Every topic has {fewest} copies at least, all in step.")


def _check(config: KafkaConfig, found: Mapping[str, object]) -> None:
    topics = Topics(config)
    chains = [name.removeprefix(topics.ledger("")) for name in found if name.startswith(topics.ledger(""))]
    known = [*topics.fixed(), *(topics.of_chain(chain) for chain in chains)]
    TopicMaker(config).ensure(topic for topic in known if topic.name in found)  # all are there: none is made
