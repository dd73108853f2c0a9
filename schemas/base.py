"""What every command and event class is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """A typed body; its Avro schema stands in ``avsc/`` under the class's name."""


@dataclass(frozen=True, slots=True)
class Event(Message):
    """Something that happened; past tense."""


@dataclass(frozen=True, slots=True)
class Command(Message):
    """Something that is asked for; imperative."""
