"""The sequencer's own records: how a chain starts, what it may say, who writes it."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Event


@dataclass(frozen=True, slots=True)
class ChainOpened(Event):
    """A chain begins."""

    format_version: int
    chain: str
    origin: str
    intake_partition: int
    authority_key: bytes


@dataclass(frozen=True, slots=True)
class SchemaRegistered(Event):
    """A schema may be used from here on."""

    kind: str
    name: str
    schema: bytes
    text: str


@dataclass(frozen=True, slots=True)
class EpochOpened(Event):
    """A writer took the chain; every earlier writer is fenced."""

    epoch: int
    writer: str


@dataclass(frozen=True, slots=True)
class CommandRejected(Event):
    """A well-formed, authenticated command was refused."""

    command_id: bytes
    command_type: str
    stream: str
    code: str
    detail: str
