"""Three brokers with a copy of everything each. The first is the controller as well: it is not to be killed."""

from __future__ import annotations

import re
import secrets
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.support.kafka import Broker, Cluster, require_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.engines.kafka import KafkaConfig

_COPIES = (
    "offsets.topic.replication.factor=3",
    "transaction.state.log.replication.factor=3",
    "transaction.state.log.min.isr=2",
    "broker.heartbeat.interval.ms=500",
    "broker.session.timeout.ms=3000",
    "replica.lag.time.max.ms=5000",
)


class ThreeBrokers(Cluster):
    """A cluster on this machine; ``nodes`` are its brokers."""

    def __init__(self) -> None:
        first = Broker(_COPIES)
        self.nodes = [first, *(_further(first, number) for number in (2, 3))]
        super().__init__(",".join(node.servers for node in self.nodes))

    def start(self) -> None:
        """Start them all; the first one gives the cluster its name."""
        first, *others = self.nodes
        first.start()
        named = re.search(r"cluster\.id=(\S+)", (first.folder / "logs" / "meta.properties").read_text())
        assert named is not None
        for number, node in enumerate(others, 2):
            logs = node.folder / "logs"
            logs.mkdir()
            directory = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
            (logs / "meta.properties").write_text(
                f"version=1\ncluster.id={named[1]}\nnode.id={number}\ndirectory.id={directory}\n"
            )
            node.start()

    def copied(self, **options: str) -> KafkaConfig:
        """A ledger of its own, of which two copies at least are written."""
        given = {name.replace("_", "."): value for name, value in options.items()}
        return replace(self.config(options=given), replication=3, min_isr=2)

    def close(self) -> None:
        """End them all and remove their data."""
        for node in self.nodes:
            node.close()


def _further(first: Broker, number: int) -> Broker:
    made = Broker()
    made.settings = (
        *_COPIES,
        "process.roles=broker",
        f"node.id={number}",
        f"listeners=PLAINTEXT://127.0.0.1:{made.port}",
        f"controller.quorum.bootstrap.servers=127.0.0.1:{first.controller}",
    )
    return made


@contextmanager
def three_brokers() -> Iterator[ThreeBrokers]:
    """A cluster whose second and third broker the test may kill."""
    require_tools()
    made = ThreeBrokers()
    try:
        made.start()
        yield made
    finally:
        made.close()
