"""Dead letters: commands that were set aside, put back into the intake or dropped, each once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.engines.errors import FencedError, NoDeadLetterError
from producers.engines.kafka.errors import BrokerError, reason_of, typed_errors
from producers.engines.kafka.places import partition_of, position_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.state import State
    from producers.engines.kafka.topics import Topics

_MILLISECONDS = 10_000
_SECONDS = 15.0


class DeadLetters:
    """Takes dead letters away. Whoever does so has the partition's letters alone: a second one fences the first."""

    def __init__(self, config: KafkaConfig, topics: Topics, state: State, sync: Callable[[], None]) -> None:
        self._config = config
        self._topics = topics
        self._state = state
        self._sync = sync

    def data(self, position: int) -> bytes | None:
        """The bytes of a dead letter."""
        self._sync()
        with self._state.changed:
            found = self._state.dead_letters.get(position)
        return None if found is None else found[1]

    def remove(self, position: int, *, resubmit: bool) -> int:
        """Take a dead letter away, or back into the intake: its new position there, else 0.

        Raises:
            NoDeadLetterError: there is none (any more).
            BrokerError: Kafka cannot be reached; it is a dead letter still.
        """
        deadline = time.monotonic() + _SECONDS
        while True:
            self._require(position)
            try:
                with typed_errors("taking a dead letter away"):
                    return self._remove(position, resubmit=resubmit)
            except FencedError:  # Somebody else took one away just now: perhaps this one.
                continue
            except BrokerError as error:
                if not _contended(error) or time.monotonic() > deadline:
                    raise

    def _require(self, position: int) -> bytes:
        data = self.data(position)
        if data is None:
            raise NoDeadLetterError(f"There is no dead letter at position {position}.")
        return data

    def _remove(self, position: int, *, resubmit: bool) -> int:
        partition = partition_of(position)
        again: list[int] = []

        def told(error: KafkaError | None, message: Message) -> None:
            if error is None:
                again.append(position_of(partition, int(message.offset() or 0)))

        producer = Producer(self._config.transactional(f"dead-letters.{partition}", _MILLISECONDS))
        try:
            producer.init_transactions(_SECONDS)
            data = self._require(position)  # Whoever was before has ended now, one way or the other.
            producer.begin_transaction()
            if resubmit:
                producer.produce(self._topics.intake, data, partition=partition, on_delivery=told)
            producer.produce(self._topics.dead_letters, None, str(position).encode(), partition=partition)
            producer.flush(_SECONDS)
            producer.commit_transaction(_SECONDS)
        finally:
            producer.purge()
        with self._state.changed:
            self._state.removed(position)
        return again[0] if again else 0


def _contended(error: BrokerError) -> bool:
    """A broker may stumble, and say no more than that, where two begin with one transactional id at one moment."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and reason_of(cause).code() == KafkaError.UNKNOWN
