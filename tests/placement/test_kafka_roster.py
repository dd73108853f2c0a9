"""What only the roster on Kafka has to stand."""

from __future__ import annotations

import signal
import time
from contextlib import closing

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from processors.placement.kafka import KafkaRoster
from processors.placement.standing import Standing
from producers.engines.kafka.topics import Topics
from tests.placement.kits import eventually
from tests.support.kafka import broker, own_broker


def test_what_is_no_standing_of_its_sender_is_left_out() -> None:
    config = broker().config()
    with closing(KafkaRoster(config)) as roster:
        producer, topic = Producer(config.producer()), Topics(config).workers
        for key, value in ((b"w1", b"[]"), (b"w1", Standing("w2").to_bytes()), (None, None), (b"\xff", b"\xff")):
            producer.produce(topic, value, key)
        producer.produce(topic, Standing("w3").to_bytes(), b"w3")
        assert producer.flush(30) == 0
        assert eventually(roster, lambda: list(roster.standings()) == [Standing("w3")])


def test_the_topic_is_kept_briefly_and_stamped_by_the_broker() -> None:
    config = broker().config()
    topic = Topics(config).workers
    KafkaRoster(config).close()
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = AdminClient(config.admin())
    settings = admin.describe_configs([resource])[resource].result(30)
    wanted = {"cleanup.policy": "delete", "retention.ms": "3600000", "message.timestamp.type": "LogAppendTime"}
    assert {name: settings[name].value for name in wanted} == wanted


@pytest.mark.parametrize("skew", [-3600.0, 3600.0], ids=["an hour behind", "an hour ahead"])
def test_a_clock_that_goes_wrong_makes_nobody_lost(skew: float) -> None:
    config = broker().config()
    with closing(KafkaRoster(config)) as speaker:
        speaker.announce(Standing("w1"))
        with closing(KafkaRoster(config, clock=lambda: time.time() + skew)) as reader:

            def there() -> bool:
                speaker.announce(Standing("w1"))
                return [standing.worker for standing in reader.standings()] == ["w1"]

            assert eventually(reader, there)
            assert not reader.lost("w1")
            assert not reader.lost("w2")


def test_a_pause_of_the_broker_makes_nobody_lost_and_trainers_are_heard_again() -> None:
    with own_broker() as own:
        config = own.config()
        with closing(KafkaRoster(config)) as speaker, closing(KafkaRoster(config, 0.5)) as reader:
            speaker.announce(Standing("w1"))
            speaker.announce(Standing("w2"))
            assert eventually(reader, lambda: len(reader.standings()) == 2)
            own.signal(signal.SIGSTOP)
            speaker.announce(Standing("w2", runs=1))
            assert eventually(reader, lambda: not reader.standings())
            own.signal(signal.SIGCONT)

            def heard() -> bool:
                speaker.announce(Standing("w1"))
                return any(standing.worker == "w1" for standing in reader.standings())

            assert eventually(reader, heard)
            assert not reader.lost("w1")


def test_nobody_is_known_before_all_that_was_said_is_read() -> None:
    config = broker().config()
    with closing(KafkaRoster(config)) as speaker:
        for number in range(50):
            speaker.announce(Standing(f"w{number:02}"))
        with closing(KafkaRoster(config)) as reader:
            assert eventually(reader, lambda: bool(reader.standings()))
            assert eventually(reader, lambda: len(reader.standings()) == 50)
