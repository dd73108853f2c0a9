"""Which engine keeps the ledger: the one place that looks at where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.engines.connection import connection_options
from producers.settings.values import servers_of

if TYPE_CHECKING:
    from pathlib import Path

    from producers.engines.kafka import KafkaConfig
    from producers.engines.port import LogEngine
    from producers.settings import Settings


def open_engine(settings: Settings, data_dir: Path, nap: float = 0.0, partition: int | None = None) -> LogEngine:
    """A handle on the ledger of a data directory.

    ``nap``: seconds that this process may learn later of what others wrote to an embedded ledger, so as to be woken
    less often. ``partition``: which partition of the intake the handle can decide; 0 if there is one alone.

    Raises:
        EngineError: the ledger cannot be opened.
        SettingsError: the settings of its connection contradict each other.
    """
    path = settings.ledger_path(data_dir)
    if path is not None:
        from producers.engines.sqlite import SqliteEngine  # noqa: PLC0415 -- an engine is loaded where it is used

        return SqliteEngine(path, nap)
    from producers.engines.kafka import KafkaEngine  # noqa: PLC0415

    return KafkaEngine(kafka_config(settings), partition)


def kafka_config(settings: Settings) -> KafkaConfig:
    """What a ledger on Kafka is reached by, and made with.

    Raises:
        SettingsError: the settings of the connection contradict each other.
    """
    from producers.engines.kafka import KafkaConfig  # noqa: PLC0415 -- as above

    return KafkaConfig(
        servers=servers_of(settings.log_url or ""),
        prefix=settings.kafka_prefix,
        partitions=settings.kafka_partitions,
        replication=settings.kafka_replication,
        min_isr=settings.kafka_min_isr,
        options=connection_options(settings),
        registry=settings.kafka_registry.get_secret_value() if settings.kafka_registry else None,
    )
