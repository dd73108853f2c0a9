"""Where topics end now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from producers.engines.kafka.errors import BrokerError, reason_of, typed_errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from confluent_kafka.admin import AdminClient

    from producers.engines.kafka.state import State

Place = tuple[str, int]
"""A topic and a partition."""

_SECONDS = 30.0
_AGAIN_SECONDS = 0.05
_PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError._NOENT,  # noqa: SLF001 -- librdkafka's own errors are called so
        KafkaError._TRANSPORT,  # noqa: SLF001 -- librdkafka's own errors are called so
    }
)


class Ends:
    """Asks the brokers where partitions end."""

    def __init__(self, admin: AdminClient, state: State) -> None:
        self._admin = admin
        self._state = state

    def written(self, places: Collection[Place]) -> dict[Place, int]:
        """The offset behind everything that is written, committed or not."""
        return self._ask(places, IsolationLevel.READ_UNCOMMITTED)

    def settled(self, places: Collection[Place]) -> dict[Place, int]:
        """The offset up to which every transaction has ended."""
        return self._ask(places, IsolationLevel.READ_COMMITTED)

    def _ask(self, places: Collection[Place], isolation: IsolationLevel) -> dict[Place, int]:
        deadline = time.monotonic() + _SECONDS
        with typed_errors("asking for the ends of topics"):
            while True:
                try:
                    return self._ask_once(places, isolation)
                except TimeoutError as error:
                    raise BrokerError("Kafka does not answer in time.") from error
                except KafkaException as error:
                    # A partition that has just been made, or is moving, has no leader for a moment.
                    if reason_of(error).code() not in _PASSING or time.monotonic() > deadline:
                        raise
                self._state.pause(_AGAIN_SECONDS)
                # A client that asks for ends alone would go on with the leader that it knew before.
                self._admin.list_topics(timeout=_SECONDS)

    def _ask_once(self, places: Collection[Place], isolation: IsolationLevel) -> dict[Place, int]:
        self._admin.poll(0)  # Takes what the client logs: nobody else does.
        asked = {TopicPartition(*place): OffsetSpec.latest() for place in places}
        found = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=_SECONDS)
        return {(place.topic, place.partition): int(end.result(_SECONDS).offset) for place, end in found.items()}
