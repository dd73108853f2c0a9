"""Where the brokers are, how the topics are called, and the settings of each kind of client."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# What librdkafka itself says of connections and retries is kept for who asks: errors that matter are raised as ours.
_CLIENT_LOG = logging.getLogger("librdkafka")
_CLIENT_LOG.addHandler(logging.NullHandler())
_CLIENT_LOG.propagate = False

_WARNINGS = 4
FETCH_WAIT_MS = 100
TRANSACTION_MS = 30_000
DELIVERY_MS = 30_000
# A broker that comes back is found within a second or so; a connection that went away without a word is noticed.
_CONNECTIONS = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1000, "socket.keepalive.enable": True}
# The broker turns a transaction away while it still marks the end of the one before: that takes milliseconds.
_SOON_AGAIN = {"retry.backoff.ms": 5, "retry.backoff.max.ms": 200}
_OWN = frozenset(
    {
        "bootstrap.servers",
        "enable.idempotence",
        "acks",
        "transactional.id",
        "isolation.level",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "enable.partition.eof",
        "group.id",
    }
)
_PRODUCERS = frozenset({"transaction.timeout.ms", "message.timeout.ms", "linger.ms", "compression.type", "batch.size"})
_CONSUMERS = frozenset({"fetch.wait.max.ms", "session.timeout.ms", "fetch.message.max.bytes", "client.rack"})


@dataclass(frozen=True)
class KafkaConfig:
    """A ledger on Kafka.

    ``servers``: host:port, several by commas. ``prefix``: what its topics' names begin with. ``partitions``: of the
    intake, each for one sequencer. ``replication`` and ``min_isr``: of every topic. ``options``: settings of librdkafka
    (SASL, TLS, timeouts). ``registry``: the URL of a schema registry.
    """

    servers: str
    prefix: str = "tg"
    partitions: int = 8
    replication: int = 1
    min_isr: int = 1
    options: Mapping[str, str] = field(default_factory=dict, repr=False)  # Passwords stand in it.
    registry: str | None = field(default=None, repr=False)  # The same.

    @property
    def transaction_seconds(self) -> float:
        """How long a transaction may stay open before the broker ends it."""
        return int(self.options.get("transaction.timeout.ms", TRANSACTION_MS)) / 1000

    def admin(self) -> dict[str, Any]:
        """Settings of a client that makes and checks topics."""
        return self._shared(_PRODUCERS | _CONSUMERS)

    def consumer(self, group: str, *, reset: str) -> dict[str, Any]:
        """Settings of a reader of committed messages; ``reset``: where it goes on when its place is gone."""
        return {
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "queued.max.messages.kbytes": 16_384,
            **self._shared(_PRODUCERS),
            "group.id": f"{self.prefix}.{group}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": reset,
        }

    def producer(self) -> dict[str, Any]:
        """Settings of a producer whose messages arrive once, in order, on all replicas in sync."""
        timeout = self.options.get("message.timeout.ms", str(DELIVERY_MS))
        return {
            "linger.ms": 0,
            **self._shared(_CONSUMERS | {"transaction.timeout.ms"}),
            "message.timeout.ms": timeout,
            "enable.idempotence": True,
            "acks": "all",
        }

    def transactional(self, role: str, milliseconds: int | None = None) -> dict[str, Any]:
        """Settings of a writer of transactions: a second one of the same role fences the first."""
        timeout = milliseconds or int(self.transaction_seconds * 1000)
        return {
            **self.producer(),
            **_SOON_AGAIN,
            "transactional.id": f"{self.prefix}.{role}",
            "transaction.timeout.ms": timeout,
            "message.timeout.ms": timeout,
        }

    def _shared(self, without: frozenset[str]) -> dict[str, Any]:
        chosen = {name: value for name, value in self.options.items() if name not in without | _OWN}
        return {
            "bootstrap.servers": self.servers,
            "logger": _CLIENT_LOG,
            "log_level": _WARNINGS,
            **_CONNECTIONS,
            **chosen,
        }
