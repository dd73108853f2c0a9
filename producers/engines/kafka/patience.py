"""Riding out what passes: a broker that comes back, a connection that broke, a partition that moves elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from confluent_kafka import KafkaError, KafkaException

from producers.engines.kafka.errors import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")
PATIENCE_SECONDS = 30.0
"""What takes longer than this has not passed."""
ATTEMPT_SECONDS = 5.0
"""How long one question waits for its answer; a connection that hangs is not waited for at every later one."""
_AGAIN_SECONDS = 0.05
PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NOT_CONTROLLER,
        KafkaError._NOENT,  # noqa: SLF001 -- librdkafka's own errors are called so
        KafkaError._TRANSPORT,  # noqa: SLF001 -- the same
        KafkaError._DESTROY_BROKER,  # noqa: SLF001 -- the same
        KafkaError._TIMED_OUT,  # noqa: SLF001 -- the same
        KafkaError._TIMED_OUT_QUEUE,  # noqa: SLF001 -- the same
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 -- the same
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 -- the same
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 -- the same
    }
)


def ride_out(
    ask: Callable[[], T],
    pause: Callable[[float], None],
    seconds: float = PATIENCE_SECONDS,
    passing: Collection[int] = PASSING,
) -> T:
    """Ask until there is an answer, for so many seconds; ``pause`` waits between, and may raise to give up.

    ``passing``: the codes of Kafka's errors that are worth asking again.

    Raises:
        KafkaException: it does not pass, or not in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except TimeoutError as error:  # The binding's own wait was over before librdkafka's.
            failure = KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 -- so called
            failure.__cause__ = error
        except KafkaException as error:
            failure = error
        if reason_of(failure).code() not in passing or time.monotonic() > deadline:
            raise failure
        pause(_AGAIN_SECONDS)
