"""The runner on Kafka: a Faust app per worker, whose group shares the chains of a ledger among its workers.

Faust says which chains are this worker's, and when one has something new; each is read by the ledger's own reader,
which brings committed records alone, in order, and notices what is no record. A chain that is given to a worker is
folded from its first record, so nothing rests on the group's offsets, and none are committed. Delivery is at least
once, and an intent's command id follows from its trigger and kind: what is done twice has effect once.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import faust
import structlog
from aiokafka.errors import KafkaError
from tensorguard.errors import TensorGuardError

from processors.errors import WorkerEndedError
from processors.runners.faust_login import credentials
from processors.runners.faust_logs import quiet
from processors.runners.faust_transport import LedgerTransport
from producers.engines.opening import kafka_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from faust.types import TP

    from processors.runners.crew import Crew
    from producers.engines.kafka import KafkaConfig
    from producers.settings import Settings

GROUP = "workers"
CHAIN = r"[a-z0-9][a-z0-9-]{0,62}"
REMIND_SECONDS = 1.0
AWAY_SECONDS = 60.0
"""How long the ledger may be out of reach before a worker ends; its supervisor starts it again."""
CHECK_SECONDS = 30.0
LEAVING_SECONDS = 4.0
NEW_CHAINS_MS = 2_000
"""How often a worker looks for topics of chains that it does not know."""
_TIMES: dict[str, Any] = {
    "broker_session_timeout": 10.0,
    "broker_heartbeat_interval": 1.0,
    "broker_rebalance_timeout": 30.0,
    "broker_request_timeout": 40.0,
}
_BYTES: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
log = structlog.get_logger(__name__)


class LedgerApp(faust.App):
    """A member of a ledger's group of workers; it writes nothing to Kafka, keeps no tables and serves no pages."""

    def __init__(self, config: KafkaConfig, crew: Crew) -> None:
        super().__init__(
            f"{config.prefix}.{GROUP}",
            broker=[f"kafka://{server}" for server in config.servers.split(",")],
            broker_credentials=credentials(config.options),
            consumer_auto_offset_reset="latest",  # What was before is read from the ledger.
            consumer_metadata_max_age_ms=NEW_CHAINS_MS,
            store="memory://",
            stream_wait_empty=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            **_TIMES,
        )
        self.boot_strategy.enable_kafka_producer = False
        self._crew = crew
        self._topics_of_chains = re.compile(rf"{re.escape(config.prefix)}\.ledger\.({CHAIN})\Z")
        self.transport = LedgerTransport(self.conf.broker_consumer, self, self._topics_of_chains)
        self.on_partitions_revoked.connect(self._revoked, weak=False)
        self.on_partitions_assigned.connect(self._assigned, weak=False)
        topics = self.topic(pattern=self._topics_of_chains.pattern, acks=False, **_BYTES)
        self.agent(topics, name="follow")(self._follow)

    async def _follow(self, stream: Any) -> None:
        async for event in stream.events():
            self._crew.wake(self._chain_of(event.message.topic))

    async def _revoked(self, *_: Any, **__: Any) -> None:
        """Until the next assignment nothing is sent for any chain: it may be anybody's by then."""
        await asyncio.to_thread(self._crew.shut)

    async def _assigned(self, *given: Any, **__: Any) -> None:
        assigned: Iterable[TP] = given[1]
        await asyncio.to_thread(self._crew.assign, {self._chain_of(place.topic) for place in assigned})

    async def check(self) -> None:
        """Make sure that this is a member of the group still, or will be again by itself.

        Raises:
            WorkerEndedError: it will not.
        """
        if self.crashed:
            raise WorkerEndedError("Faust has failed.") from self.crash_reason
        try:
            await asyncio.wait_for(self.consumer.check(), CHECK_SECONDS)  # type: ignore[attr-defined]
        except (KafkaError, TimeoutError) as error:
            log.warning("group_delayed", error=type(error).__name__)
            if not getattr(error, "retriable", False):
                raise WorkerEndedError(f"Kafka lets nobody into the group ({type(error).__name__}).") from error

    def _chain_of(self, topic: str) -> str:
        found = self._topics_of_chains.match(topic)
        if found is None:
            raise ValueError("a topic that was not asked for")
        return found[1]

    def _create_directories(self) -> None:
        """Make none: nothing is kept."""


async def work(app: LedgerApp, crew: Crew, stop: asyncio.Event) -> None:
    """Be a member of the group until told to stop, then leave it.

    Raises:
        WorkerEndedError: Kafka stays away, or Faust has failed.
    """
    starting = asyncio.create_task(app.start())  # That ends when the group has given chains: it may never do so.
    try:
        await _remind(app, crew, stop, starting)
    finally:
        await _at_most(_leave(app, crew), LEAVING_SECONDS)
        starting.cancel()


async def _leave(app: LedgerApp, crew: Crew) -> None:
    await asyncio.to_thread(crew.close)
    await app.stop()


async def _remind(app: LedgerApp, crew: Crew, stop: asyncio.Event, starting: asyncio.Task[None]) -> None:
    reached = time.monotonic()
    while not stop.is_set():
        if starting.done() and (reason := starting.exception()) is not None:
            raise WorkerEndedError(f"Faust did not start ({type(reason).__name__}).") from reason
        await app.check()
        try:
            await asyncio.to_thread(crew.remind)
            reached = time.monotonic()
        except (TensorGuardError, OSError) as error:
            log.warning("worker_delayed", code=getattr(error, "code", "os_error"))
        if time.monotonic() - reached > AWAY_SECONDS:
            raise WorkerEndedError("Kafka cannot be reached.")
        await _at_most(stop.wait(), REMIND_SECONDS)


async def _at_most(awaited: Awaitable[Any], seconds: float) -> None:
    try:
        await asyncio.wait_for(awaited, seconds)
    except TimeoutError:
        return


def make_app(settings: Settings, crew: Crew) -> LedgerApp:
    """The app of a worker of the ledger that is set; it logs what ends it, and leaves the rest to us.

    Raises:
        SettingsError: the ledger is not on Kafka, or a worker cannot connect as it is set.
    """
    quiet()
    return LedgerApp(kafka_config(settings), crew)
