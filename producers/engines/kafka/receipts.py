"""Where the messages of a transaction went, and whether brokers took them for others that they had already.

A broker knows a message again by its writer's producer id, epoch and sequence, all counted by the brokers. Where they
lost the end of what they count, as with a machine that lost its power, a new writer gets an epoch that an earlier one
had; and its first messages in a partition, if they come in the same batch as that one's last, are acknowledged with the
offsets of those and not written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.engines.kafka.errors import CommitLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import KafkaError, Message

    from producers.engines.kafka.ends import Place

    Told = Callable[[KafkaError | None, Message], None]


class Receipts:
    """The offsets of a transaction's first message in each partition; all others lie behind it.

    ``ends``: where partitions ended when their writer began, or before.
    """

    def __init__(self, ends: Mapping[Place, int]) -> None:
        self._ends = ends
        self._offsets: dict[Place, int | None] = {}

    def of(self, place: Place) -> Told | None:
        """Who is to be told where a message went; None if it is not the first one in its partition."""
        if place in self._offsets:
            return None
        self._offsets[place] = None

        def told(error: KafkaError | None, message: Message) -> None:
            # One that had arrived before its acknowledgement was lost may come without its place.
            if error is None and (offset := message.offset()) is not None and offset >= 0:
                self._offsets[place] = offset

        return told

    def offset(self, place: Place) -> int | None:
        """Where the first message in a partition went, if there was one and that is known."""
        return self._offsets.get(place)

    def check(self) -> None:
        """All that was acknowledged must be new.

        Raises:
            CommitLostError: something of it was taken for another writer's; the transaction must not be committed.
        """
        for place, offset in self._offsets.items():
            if offset is not None and offset < self._ends.get(place, 0):
                raise CommitLostError(f"Kafka took what was written to {place[0]} for messages of an earlier writer.")
