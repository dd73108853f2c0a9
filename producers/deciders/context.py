"""What every decision stands on: who asked, when, and the limits; and what a refusal is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.base import Event

MICROSECONDS = 1_000_000

CODES = frozenset(
    {
        "accumulation_full",  # the batches of a step are there; it takes no more
        "accumulation_incomplete",  # a step before it has the batches that the run was created with
        "already_exists",  # the key, model, run or package is there, or the request was made before
        "already_revoked",  # the key was revoked before
        "artifact_in_use",  # the run still rests on the checkpoint
        "expired",  # past the envelope's expiry, or issued in the future
        "forbidden",  # this key, role or API key may not say this
        "foreign_tenant",  # a tenant's command on another tenant's chain
        "interval_over",  # the input is sealed under a key of before the newest durable state
        "invalid_value",  # a value that no run could work with
        "ledger_moved",  # the chain ends in this ledger; it goes on in another
        "max_steps_reached",  # the run would go past the steps it was created with
        "no_lease",  # nobody holds the run
        "not_found",  # no such run, package, key
        "nothing_to_apply",  # an optimizer step without a gradient before it
        "operation_finished",  # completed, failed or cancelled before
        "out_of_order",  # an earlier operation is not finished, or a newer state is durable
        "quota_exceeded",  # too much work is waiting
        "replaying",  # the worker computes again what is not durable, before it reports anything else
        "run_closed",  # takes no more operations
        "run_rolled_back",  # the client has not seen that operations were lost
        "sampling_only",  # the run only samples
        "stale_lease",  # another worker holds the run by now
        "unknown_operation",  # never submitted, lost, or finished long ago
        "version_conflict",  # the stream moved on
        "wrong_operation_kind",  # e.g. a sample's outcome for an optimizer step
        "wrong_stream",  # not the command's stream, or not a command of this chain
        "wrong_worker",  # signed by another worker than the lease names
    }
)
"""Every code of a ``CommandRejected``; stable, and shared with the REST problem documents."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Constants of the deciders. They are part of the code, not settings: an auditor must come to the same decision."""

    unfinished_operations: int = 64
    undurable_operations: int = 65_536
    remembered_operations: int = 64
    remembered_checkpoints: int = 1_024
    sealed_intervals: int = 1_024
    sampler_interval: int = 256
    pending_exports: int = 16
    clock_skew: int = 5 * 60 * MICROSECONDS
    body_bytes: int = 24_576
    payload_bytes: int = 56_000
    stream_bytes: int = 1_024


LIMITS = Limits()


def nothing_there(_stream: str) -> object | None:
    """An empty chain."""
    return None


@dataclass(frozen=True, slots=True)
class Context:
    """What a decider may know besides the aggregate's state and the command.

    ``now`` is the ``recorded_at`` (microseconds) that the records will carry; ``find`` gives the state of another
    stream of the same chain, or None.
    """

    now: int
    chain: str
    command_id: bytes
    role: str
    key_id: bytes
    stream: str
    on_behalf_of: str | None = None
    find: Callable[[str], object | None] = field(default=nothing_there, repr=False)
    limits: Limits = LIMITS


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refusal: a code of :data:`CODES` and one plain sentence that is free of the command's private values."""

    code: str
    detail: str


Decision = tuple[Event, ...] | Rejected
"""What a decider gives: one or more events, or a refusal."""
