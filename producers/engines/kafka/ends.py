"""Where topics end now."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from producers.engines.kafka.errors import BrokerError, typed_errors
from producers.engines.kafka.patience import ATTEMPT_SECONDS, PATIENCE_SECONDS, ride_out

if TYPE_CHECKING:
    from collections.abc import Collection

    from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo

    from producers.engines.kafka.state import State

Place = tuple[str, int]
"""A topic and a partition."""

_GRACE_SECONDS = 1.0
_AGAIN_SECONDS = 0.005
_NONE = -1
"""What brokers answer where no message is as young as was asked for."""


class Ends:
    """Asks the brokers where partitions end."""

    def __init__(self, admin: AdminClient, state: State) -> None:
        self._admin = admin
        self._state = state

    def written(self, places: Collection[Place]) -> dict[Place, int]:
        """The offset behind everything that is written, committed or not."""
        return self._ask(places, IsolationLevel.READ_UNCOMMITTED)

    def settled(self, places: Collection[Place]) -> dict[Place, int]:
        """The offset up to which every transaction has ended."""
        return self._ask(places, IsolationLevel.READ_COMMITTED)

    def settle(self, place: Place, seconds: float) -> bool:
        """Whether all transactions in a partition end within so many seconds."""
        deadline = time.monotonic() + seconds
        while self.settled([place]) != self.written([place]):
            if time.monotonic() > deadline:
                return False
            self._state.pause(_AGAIN_SECONDS)
        return True

    def since(self, places: Collection[Place], at: float, *, least: int) -> dict[Place, int]:
        """The offset of the first message that is no older than a time, in seconds since the epoch, or the end.

        So that there are at least so many offsets behind it, if the partition ever had as many.
        """
        ends, spec = self.written(places), OffsetSpec.for_timestamp(int(at * 1000))
        found = self._ask(places, IsolationLevel.READ_UNCOMMITTED, spec, least=_NONE)
        offsets = {place: ends[place] if offset == _NONE else offset for place, offset in found.items()}
        return {place: max(0, min(offset, ends[place] - least)) for place, offset in offsets.items()}

    def _ask(
        self, places: Collection[Place], isolation: IsolationLevel, spec: OffsetSpec | None = None, *, least: int = 0
    ) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec or OffsetSpec.latest() for place in places}

        def ask() -> dict[Place, int]:
            self._admin.poll(0)  # Takes what the client logs: nobody else does.
            found = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=ATTEMPT_SECONDS)
            answers = {place: end.result(ATTEMPT_SECONDS + _GRACE_SECONDS) for place, end in found.items()}
            return {(place.topic, place.partition): _offset(answer, least) for place, answer in answers.items()}

        with typed_errors("asking for the ends of topics"):
            return ride_out(ask, self._look_around, PATIENCE_SECONDS)

    def _look_around(self, seconds: float) -> None:
        """Learn who leads partitions now: a client that asks for ends alone would go on with whom it knew before."""
        self._state.pause(seconds)
        if self._state.closed:
            raise BrokerError("The ledger is closed.")
        with suppress(KafkaException):
            self._admin.list_topics(timeout=ATTEMPT_SECONDS)


def _offset(answer: ListOffsetsResultInfo, least: int) -> int:
    """A question that nobody answered in time comes back without an error, and with no offset at all."""
    if answer.offset < least:
        raise TimeoutError
    return int(answer.offset)
