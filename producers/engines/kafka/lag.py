"""How far a partition of the intake is decided, told to Kafka's own tools: nothing of ours reads it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition

from producers.engines.kafka.places import offset_after

if TYPE_CHECKING:
    from producers.engines.kafka.config import KafkaConfig


class Lag:
    """The committed offset of a sequencer's group, from which tools reckon its lag.

    What counts is the position that stands in the commit itself; this one is told behind it, and nobody waits for that.
    """

    def __init__(self, config: KafkaConfig, topic: str, partition: int) -> None:
        self._config = config
        self._place = (topic, partition)
        self._group = f"sequencer.{partition}"
        self._consumer: Consumer | None = None

    def tell(self, position: int) -> None:
        """Everything up to a position is decided."""
        if self._consumer is None:
            self._consumer = Consumer(self._config.consumer(self._group, reset="earliest"))
        with suppress(KafkaException):  # The next commit tells it again.
            self._consumer.commit(offsets=[TopicPartition(*self._place, offset_after(position))], asynchronous=True)
            self._consumer.poll(0)  # Takes what the client logs: nobody else does.

    def close(self) -> None:
        """Give the client back."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
