"""A ledger on a real broker with its sequencer, and workers on it: in processes of their own, or in a thread."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from processors.placement.kafka import KafkaRoster
from processors.placement.roster import ANNOUNCE_SECONDS
from processors.placement.standing import Standing, worker_id
from processors.runners.crew import Crew, Kind
from processors.runners.faust_app import make_app, work
from producers.engines.opening import kafka_config, open_engine
from producers.positions import readers
from producers.sequencer import Sequencer
from schemas.events import PackageFailed, PackageRequested, PackageSigned, RunLeaseGranted
from tests.support.kafka import broker
from tests.support.ledgers import ROOT, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.engines.kafka import KafkaConfig
    from tests.runners.processors import Makes

WORKER = "packager"
"""A processor of every worker: what it says of itself tells which workers there are."""


class Ground:
    """A fresh ledger; ``sequencing`` decides what comes in."""

    def __init__(self, folder: Path, servers: str | None = None) -> None:
        folder.mkdir(parents=True)
        lines = (f'log_url = "kafka://{servers or broker().servers}"', f'kafka_prefix = "t{uuid4().hex[:12]}"')
        (folder / "settings.toml").write_text("\n".join(lines))
        self.ledger = Ledger(folder)
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def config(self) -> KafkaConfig:
        return kafka_config(self.ledger.installation.settings)

    @contextmanager
    def sequencing(self) -> Iterator[None]:
        """A sequencer, for the length of a block."""
        stop = threading.Event()
        sequencer = Sequencer.of(self.ledger.installation, self.ledger.engine)
        thread = threading.Thread(target=sequencer.run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self.ledger.engine.ring()
            thread.join()

    @contextmanager
    def working(self, *makes: Makes) -> Iterator[Crew]:
        """A worker in a thread of this process, for the length of a block; there can be one at a time."""
        installation = self.ledger.installation
        engine = open_engine(installation.settings, installation.data_dir)
        crew = Crew(installation, engine, [Kind(each.kind.name, each.kind.role, each) for each in makes])
        loop, stop = asyncio.new_event_loop(), asyncio.Event()

        async def run() -> None:
            await work(make_app(installation.settings, crew), crew, stop)

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
        thread.start()
        try:
            yield crew
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            engine.close()
            loop.close()

    @contextmanager
    def training(self) -> Iterator[str]:
        """A trainer that is there and takes every run, for the length of a block; its id."""
        settings = self.ledger.installation.settings
        roster, gone = KafkaRoster(self.config, settings.lease_seconds), threading.Event()
        standing = Standing(worker_id(self.ledger.installation.producer("worker")), memory=1 << 40)

        def announce() -> None:
            while not gone.wait(ANNOUNCE_SECONDS / 2):
                roster.announce(standing)

        thread = threading.Thread(target=announce)
        thread.start()
        try:
            yield standing.worker
        finally:
            gone.set()
            thread.join()
            roster.close()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """A worker in a process of its own."""
        command = [sys.executable, "-m", "processors.worker", "--data-dir", str(self.ledger.folder)]
        worker = subprocess.Popen(command, cwd=ROOT, env=os.environ, stdin=subprocess.DEVNULL)
        self.workers.append(worker)
        return worker

    def chains_of(self) -> dict[int, set[str]]:
        """The chains of each worker process, as it says itself."""
        found = [each for each in readers(self.ledger.folder) if each.processors == (WORKER,)]
        return {int(each.process.rpartition("/")[2]): set(each.positions) for each in found}

    def shared_by(self, *workers: subprocess.Popen[bytes]) -> bool:
        """Whether these workers have all chains among them, each some, and none twice."""
        parts = self.chains_of()
        chains = sorted(chain for part in parts.values() for chain in part)
        return parts.keys() == {each.pid for each in workers} and all(parts.values()) and chains == self.chains()

    def chains(self) -> list[str]:
        return sorted(self.ledger.engine.chains())

    def outcomes(self, tenant: str) -> dict[bytes, int]:
        """How many outcomes each order of a tenant has."""
        found: dict[bytes, int] = {}
        for recorded in self.ledger.events(tenant):
            match recorded.event:
                case PackageRequested(package_id=name):
                    found[name] = 0
                case PackageSigned(package_id=name) | PackageFailed(package_id=name):
                    found[name] += 1
        return found

    def leases(self, tenant: str) -> list[tuple[str, str]]:
        """The leases of a tenant's runs, in order: run and trainer."""
        granted = [each.event for each in self.ledger.events(tenant) if isinstance(each.event, RunLeaseGranted)]
        return [(each.run_id, each.worker) for each in granted]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.ledger.close()
