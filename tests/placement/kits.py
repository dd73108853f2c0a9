"""Rosters of each kind: how trainers speak to one, and how a dispatcher listens to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from processors.placement.kafka import KafkaRoster
from processors.placement.roster import LEASE_SECONDS, LocalRoster

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.placement.roster import Announcer, Roster
    from producers.engines.kafka import KafkaConfig

PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.1


@dataclass
class Kit:
    """One roster: where trainers say how they stand, and its readers, which open one after another."""

    speaker: Announcer
    reader: Callable[[], Roster]
    strangers_lost: bool

    def close(self) -> None:
        self.speaker.close()


def local_kit(lease_seconds: float = LEASE_SECONDS) -> Kit:
    """In one process speakers and readers have one roster."""
    roster = LocalRoster(lease_seconds)
    return Kit(roster, lambda: roster, strangers_lost=True)


def kafka_kit(config: KafkaConfig, lease_seconds: float = LEASE_SECONDS) -> Kit:
    """A topic of its own, to be spoken to and read from by handles of their own."""
    return Kit(KafkaRoster(config), lambda: KafkaRoster(config, lease_seconds), strangers_lost=False)


def eventually(roster: Roster, condition: Callable[[], bool]) -> bool:
    """Whether something comes true while the roster hears."""
    deadline = time.monotonic() + PATIENCE_SECONDS  # not so many looks: where words come fast, they are over at once
    while not (true := condition()) and time.monotonic() < deadline:
        roster.wait(LOOK_SECONDS)
    return true
