"""Topics that are not as the ledger needs them, or hold what no sequencer wrote."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from producers.engines.errors import LedgerDamagedError
from producers.engines.kafka import KafkaConfig
from producers.engines.kafka.errors import (
    TopicSettingsError,
)
from producers.engines.port import Append, Commit
from tests.engines.handles import SOON, Kafka, command
from tests.support.kafka import PARTITIONS, broker, delete_topics


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
    delete_topics(kafka.config, kafka.topics.ledger("acme"))
    with pytest.raises(LedgerDamagedError):
        kafka.open().read("acme", 0, 1)


def test_an_intake_that_has_gone_back_is_said_aloud_until_it_is_filled_up(kafka: Kafka) -> None:
    before = kafka.open()
    chain = next(name for name in "abcdef" if before.partition_of(name) == 0)
    decided = before.submit([command(chain)] * 3)[-1]
    before.commit(Commit(before.open_epoch(), intake_position=decided))
    delete_topics(kafka.config, kafka.topics.intake)
    anew = kafka.open()
    anew.submit([command(chain)])
    with pytest.raises(LedgerDamagedError, match="before offset 3"):
        anew.wait_intake(decided, SOON)
    assert kafka.open().waiting() == 0
    anew.submit([command(chain)] * 2)
    waiting = anew.submit([command(chain)])[0]
    filled = kafka.open()
    assert [entry.position for entry in filled.intake(filled.intake_position(), 9)] == [waiting]


def test_passwords_stand_in_no_text_of_the_configuration() -> None:
    assert "secret" not in repr(KafkaConfig("h:1", options={"sasl.password": "secret"}))
