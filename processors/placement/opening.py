"""Where the roster is: with the ledger on Kafka it is there too, else in the memory of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.placement.roster import LocalRoster
from producers.engines.opening import kafka_config

if TYPE_CHECKING:
    from processors.placement.kafka import KafkaRoster
    from producers.settings import Settings


def kafka_roster(settings: Settings) -> KafkaRoster | None:
    """The roster on Kafka; None if the ledger is not there.

    Raises:
        EngineError: Kafka cannot be reached, or its topic is not as it must be.
    """
    if settings.embedded:
        return None
    from processors.placement.kafka import KafkaRoster  # noqa: PLC0415 -- Kafka's client is loaded where it is used

    return KafkaRoster(kafka_config(settings), settings.lease_seconds)


def local_roster(settings: Settings) -> LocalRoster:
    """A roster in this process, which the exchange tells who is there."""
    return LocalRoster(settings.lease_seconds)
