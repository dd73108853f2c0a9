"""Faust's way to Kafka, held to what a ledger needs: topics of all chains by a pattern, and committed messages alone.

Faust subscribes to topics by name, and reads what is not committed unless it writes transactions itself. So three of
its parts are replaced: the thread that makes the client, the consumer that owns it, and the conductor that gives each
message to the agents. Chains go to workers by a sticky assignment: who comes or goes moves as few of them as can be.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from faust.transport.conductor import Conductor
from faust.transport.drivers import aiokafka as driver

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable

    from faust.types import TP

FETCH_WAIT_MS = 100
COMMITTED = "read_committed"


class LedgerConsumerThread(driver.AIOKafkaConsumerThread):
    """Makes the client and subscribes it."""

    transport: LedgerTransport

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> AIOKafkaConsumer:  # noqa: ARG002 -- the one that runs
        conf = self.app.conf
        return AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            bootstrap_servers=driver.server_list(self.transport.url, self.transport.default_port),
            partition_assignment_strategy=(StickyPartitionAssignor,),
            isolation_level=COMMITTED,
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=_milliseconds(conf.broker_max_poll_interval),
            fetch_max_wait_ms=FETCH_WAIT_MS,
            request_timeout_ms=_milliseconds(conf.broker_request_timeout),
            session_timeout_ms=_milliseconds(conf.broker_session_timeout),
            rebalance_timeout_ms=_milliseconds(conf.broker_rebalance_timeout),
            heartbeat_interval_ms=_milliseconds(conf.broker_heartbeat_interval),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def subscribe(self, topics: Iterable[str]) -> None:  # noqa: ARG002 -- the pattern stands for all
        """Subscribe to what the pattern matches, now and later."""
        pattern = self.transport.pattern
        await self.call_thread(self._ensure_consumer().subscribe, pattern=pattern, listener=self._rebalance_listener)

    async def check(self) -> None:
        """Hear of what went wrong in the group: until somebody does, the client does nothing about it.

        Raises:
            KafkaError: that.
        """
        if self._consumer is None or self._shutdown.is_set():
            return
        asked = asyncio.create_task(self.call_thread(self._check, self._consumer))
        ended = asyncio.create_task(self._shutdown.wait())  # A thread that ends answers nobody any more.
        try:
            await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                asked.result()
        finally:
            asked.cancel()
            ended.cancel()

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Print nothing: the log is no place for foreign texts, and who started the thread is told."""

    def _start_thread(self) -> None:
        with suppress(KafkaError):  # That has been told.
            super()._start_thread()

    async def _check(self, consumer: AIOKafkaConsumer) -> None:
        if consumer._coordinator is not None:  # noqa: SLF001 -- it has begun
            consumer._coordinator.check_errors()  # noqa: SLF001 -- Faust reads past what would ask


class LedgerConsumer(driver.Consumer):
    """Owns that thread."""

    async def check(self) -> None:
        """See :meth:`LedgerConsumerThread.check`."""
        thread = self._thread
        if isinstance(thread, LedgerConsumerThread):
            await thread.check()

    async def verify_all_partitions_active(self) -> None:
        """Complain of nothing: a chain may be silent for long."""

    def _new_consumer_thread(self) -> LedgerConsumerThread:
        return LedgerConsumerThread(self, loop=self.loop, beacon=self.beacon)


class LedgerConductor(Conductor):
    """Gives the messages of every topic that is assigned to every agent."""

    def _update_tp_index(self, assigned: set[TP]) -> None:
        for place in assigned:
            self._tp_index[place] = set(self._topics)


class LedgerTransport(driver.Transport):
    """The transport of an app on a ledger's chains; ``pattern`` matches the names of their topics."""

    Consumer: ClassVar[Any] = LedgerConsumer
    Conductor: ClassVar[Any] = LedgerConductor

    def __init__(self, url: Any, app: Any, pattern: re.Pattern[str]) -> None:
        super().__init__(url, app)
        self.pattern = pattern


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
