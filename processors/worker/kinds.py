"""The processors of a worker. Each chain has its own; none keeps what another chain's needs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from processors.catalogue import size_of
from processors.exporter.exporter import Exporter
from processors.exporter.workbench import Workbench as ExportBench
from processors.packager.packager import Packager
from processors.packager.workbench import Workbench
from processors.placement.dispatcher import GATHER_SECONDS, Dispatcher
from processors.placement.grants import Grants
from processors.placement.kafka import KafkaRoster
from processors.retention import Retention
from processors.runners.crew import Kind
from processors.workshop import in_turn
from producers.engines.opening import kafka_config

if TYPE_CHECKING:
    from producers.installation import Installation


def kinds_of(installation: Installation) -> list[Kind]:
    """Every kind, on an installation's stores and keys. Packages and exports are made one at a time: they need memory.

    Raises:
        KeyFileError, KeyProviderError: a key is not there, or does not open.
        EngineError: Kafka cannot be reached, or the roster's topic is not as it must be.
    """
    settings = installation.settings
    packages, exports = Workbench.of(installation), ExportBench.of(installation)
    roster, size = KafkaRoster(kafka_config(settings), settings.lease_seconds), partial(size_of, installation)
    gather = GATHER_SECONDS if settings.trainers > 1 else 0.0
    dispatcher = partial(Dispatcher, roster, size, grants=Grants(), gather_seconds=gather)
    packaging, exporting = (in_turn(installation.data_dir, kind.name) for kind in (Packager, Exporter))
    return [
        Kind(Dispatcher.name, Dispatcher.role, dispatcher, threads=2),
        Kind(Retention.name, Retention.role, Retention.maker(installation), threads=2),
        Kind(Packager.name, Packager.role, lambda _: Packager(packages, packaging)),
        Kind(Exporter.name, Exporter.role, lambda _: Exporter(exports, exporting)),
    ]
