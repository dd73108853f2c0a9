"""What Kafka says, as errors of log engines."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from producers.engines.errors import EngineError, FencedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FENCED = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 -- the constants of librdkafka's own errors begin with an underscore
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_PRODUCER_EPOCH,
    }
)


DENIED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001 -- librdkafka's own errors are called so
    }
)


class BrokerError(UnreachableError):
    """Kafka cannot be reached, or cannot answer."""

    code = "kafka_unavailable"
    next_step = "Look at the brokers and at TG_LOG_URL, then try again: nothing that was answered is lost."


class DeniedError(EngineError):
    """Kafka does not let this user do what was asked."""

    code = "kafka_denied"
    next_step = "Set this role's user and password (TG_KAFKA_SASL_…), and give it the rights that docs/kafka.md lists."


class CommitLostError(EngineError):
    """A transaction was aborted: nothing of it is on the ledger."""

    code = "commit_aborted"
    next_step = "Start the writer again: it reads the ledger back and decides again what waits."


class CommitUnknownError(EngineError):
    """Kafka did not say in time whether a transaction is committed."""

    code = "commit_unknown"
    next_step = "Start the writer again: it reads back what is committed, and decides the rest again."


class TransactionLeftOpenError(EngineError):
    """A transaction of somebody else stays open where a writer would write."""

    code = "transaction_left_open"
    next_step = "Find it with kafka-transactions.sh find-hanging, end it with its abort, then start the writer again."


class TopicSettingsError(EngineError):
    """A topic is not as the ledger needs it."""

    code = "kafka_topic_settings"
    next_step = "Set what is named with kafka-configs.sh or kafka-topics.sh; no record is touched until then."


class WrongPartitionError(EngineError):
    """A chain belongs to another intake partition than the writer's."""

    code = "wrong_partition"
    next_step = "Let the sequencer of the partition that its ChainOpened names write this chain."


class MessageTooLargeError(EngineError):
    """A command is larger than the intake takes."""

    code = "command_too_large"
    next_step = "Send it in smaller parts; what is large belongs beside the ledger."


@contextmanager
def typed_errors(doing: str) -> Iterator[None]:
    """Raise errors of this package in the block; ``doing`` names what is tried, e.g. "reading a chain".

    Raises:
        FencedError: a newer writer has the role.
        DeniedError: the user may not do that.
        BrokerError: anything else that Kafka says.
    """
    try:
        yield
    except (KafkaException, SystemError) as error:
        raise translated(kafkas(error), doing) from error


def kafkas(error: KafkaException | SystemError) -> KafkaException:
    """Kafka's own error of one that the binding raised.

    A fatal one is raised within librdkafka's callbacks; whatever is called back next in the same breath then ends in a
    SystemError, with Kafka's as its cause.

    Raises:
        SystemError: it is nothing of that kind.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, KafkaException):
        found = found.__cause__ or found.__context__
    if found is None:
        raise error
    return found


def translated(error: KafkaException, doing: str) -> EngineError:
    """The error of this package for one of Kafka's."""
    reason = reason_of(error)
    if reason.code() in _FENCED:
        return FencedError("A newer writer has taken this intake partition.")
    if reason.code() in DENIED:
        return DeniedError(f"Kafka does not allow {doing} ({reason.name()}).")
    # The name alone: the text may quote hosts, never anything that helps.
    return BrokerError(f"Kafka failed at {doing} ({reason.name()}).")


def reason_of(error: KafkaException) -> KafkaError:
    """What librdkafka says about an exception of its binding."""
    reason = error.args[0]
    return reason if isinstance(reason, KafkaError) else KafkaError(KafkaError._FAIL)  # noqa: SLF001 -- as above
