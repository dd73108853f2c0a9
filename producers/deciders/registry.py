"""Which command belongs where: its stream, its signers, its chain, its decider; and the folds of all streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from producers.deciders import api_key, artifact_key, chain, ledger, model, package, producer, run, signer, snapshot
from producers.deciders.context import Context, Decision
from schemas import commands as c
from schemas.base import Command, Event

PLATFORM = "platform"
CHAIN_STREAM, REJECTIONS_STREAM = "chain", "rejections"
ROLES = frozenset({"authority", "gateway", "dispatcher", "worker", "packager", "retention", "device"})


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One kind of stream: the first part of its names, its state, and its two pure functions."""

    prefix: str
    state: type[Any]
    decide: Callable[[Any, Command, Context], Decision]
    evolve: Callable[[Any, Event], Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a command belongs: ``key`` gives the rest of its stream's name (empty: the prefix is the whole name).

    ``place`` is "platform" (that chain only), "tenant" (every other chain) or "any".
    """

    aggregate: Aggregate
    role: str
    place: str
    key: Callable[[Any], str]


_PRODUCER = Aggregate("producer", producer.ProducerState, producer.decide, producer.evolve)
_API_KEY = Aggregate("api-key", api_key.ApiKeyState, api_key.decide, api_key.evolve)
_SIGNER = Aggregate("signer", signer.SignerState, signer.decide, signer.evolve)
_ARTIFACT_KEY = Aggregate("artifact-key", artifact_key.ArtifactKeyState, artifact_key.decide, artifact_key.evolve)
_MODEL = Aggregate("model", model.ModelState, model.decide, model.evolve)
_LEDGER = Aggregate(ledger.STREAM, ledger.LedgerState, ledger.decide, ledger.evolve)
_RUN = Aggregate("run", run.RunState, run.decide, run.evolve)
_PACKAGE = Aggregate("package", package.PackageState, package.decide, package.evolve)
_AGGREGATES = {a.prefix: a for a in (_PRODUCER, _API_KEY, _SIGNER, _ARTIFACT_KEY, _MODEL, _LEDGER, _RUN, _PACKAGE)}


def _key_id_hex(command: Any) -> str:
    return str(command.key_id.hex())


def _key_id(command: Any) -> str:
    return str(command.key_id)


def _name(command: Any) -> str:
    return str(command.name)


def _run_id(command: Any) -> str:
    return str(command.run_id)


def _package_id_hex(command: Any) -> str:
    return str(command.package_id.hex())


def _nothing(_command: Any) -> str:
    return ""


RULES: Mapping[type[Command], Rule] = {
    c.EnrolProducer: Rule(_PRODUCER, "authority", "any", _key_id_hex),
    c.RevokeProducer: Rule(_PRODUCER, "authority", "any", _key_id_hex),
    c.IssueApiKey: Rule(_API_KEY, "authority", "tenant", _key_id),
    c.RevokeApiKey: Rule(_API_KEY, "authority", "tenant", _key_id),
    c.PublishSignerKey: Rule(_SIGNER, "authority", "platform", _nothing),
    c.RotateSignerKey: Rule(_SIGNER, "authority", "platform", _nothing),
    c.PublishArtifactKey: Rule(_ARTIFACT_KEY, "authority", "platform", _key_id_hex),
    c.RegisterModel: Rule(_MODEL, "authority", "platform", _name),
    c.RemoveModel: Rule(_MODEL, "authority", "platform", _name),
    c.MoveLedger: Rule(_LEDGER, "authority", "any", _nothing),
    c.ContinueLedger: Rule(_LEDGER, "authority", "any", _nothing),
    c.CreateRun: Rule(_RUN, "gateway", "tenant", _run_id),
    c.SubmitForwardBackward: Rule(_RUN, "gateway", "tenant", _run_id),
    c.SubmitForward: Rule(_RUN, "gateway", "tenant", _run_id),
    c.SubmitOptimStep: Rule(_RUN, "gateway", "tenant", _run_id),
    c.SubmitSample: Rule(_RUN, "gateway", "tenant", _run_id),
    c.SubmitSaveState: Rule(_RUN, "gateway", "tenant", _run_id),
    c.SubmitLoadState: Rule(_RUN, "gateway", "tenant", _run_id),
    c.RequestCancellation: Rule(_RUN, "gateway", "tenant", _run_id),
    c.CloseRun: Rule(_RUN, "gateway", "tenant", _run_id),
    c.DeleteArtifact: Rule(_RUN, "gateway", "tenant", _run_id),
    c.ExportArtifact: Rule(_RUN, "gateway", "tenant", _run_id),
    c.GrantLease: Rule(_RUN, "dispatcher", "tenant", _run_id),
    c.CompleteForwardBackward: Rule(_RUN, "worker", "tenant", _run_id),
    c.RecordStep: Rule(_RUN, "worker", "tenant", _run_id),
    c.CompleteSample: Rule(_RUN, "worker", "tenant", _run_id),
    c.RecordCheckpoint: Rule(_RUN, "worker", "tenant", _run_id),
    c.RecordCheckpointLoaded: Rule(_RUN, "worker", "tenant", _run_id),
    c.FailOperation: Rule(_RUN, "worker", "tenant", _run_id),
    c.CompleteForward: Rule(_RUN, "worker", "tenant", _run_id),
    c.RecordReplay: Rule(_RUN, "worker", "tenant", _run_id),
    c.FailReplay: Rule(_RUN, "worker", "tenant", _run_id),
    c.RecordBatchKeyDestroyed: Rule(_RUN, "retention", "tenant", _run_id),
    c.RecordArtifactDeleted: Rule(_RUN, "retention", "tenant", _run_id),
    c.RecordArtifactExported: Rule(_RUN, "packager", "tenant", _run_id),
    c.FailArtifactExport: Rule(_RUN, "packager", "tenant", _run_id),
    c.RequestPackage: Rule(_PACKAGE, "gateway", "tenant", _package_id_hex),
    c.RecordPackageSigned: Rule(_PACKAGE, "packager", "tenant", _package_id_hex),
    c.FailPackage: Rule(_PACKAGE, "packager", "tenant", _package_id_hex),
    c.RecordPackageOpened: Rule(_PACKAGE, "device", "tenant", _package_id_hex),
}

AUTHORITY: Mapping[str, frozenset[str]] = {command.__name__: frozenset({rule.role}) for command, rule in RULES.items()}
"""Command type -> the roles that may sign it."""


def stream_of(command: Command) -> str:
    """The only stream that a command may be addressed to."""
    rule = RULES[type(command)]
    prefix, key = rule.aggregate.prefix, rule.key(command)
    return f"{prefix}/{key}" if key else prefix


def belongs_on(command: Command, chain_name: str) -> bool:
    """Whether a command has a place on this chain."""
    place = RULES[type(command)].place
    return place == "any" or (place == "platform") == (chain_name == PLATFORM)


def decide(state: object | None, command: Command, ctx: Context) -> Decision:
    """What an admitted command leads to; at least one event, or a refusal."""
    return RULES[type(command)].aggregate.decide(state, command, ctx)


def evolve(state: object | None, stream: str, event: Event) -> object | None:
    """A stream's state after one more event. Total: an event out of place changes nothing. Rejections have no state."""
    if stream == REJECTIONS_STREAM:
        return None
    if stream == CHAIN_STREAM:
        return chain.evolve(_typed(state, chain.ChainState), event)
    aggregate = _AGGREGATES.get(stream.partition("/")[0])
    return aggregate.evolve(state, event) if aggregate else state


def _typed(state: object | None, cls: type[Any]) -> Any:
    return state if isinstance(state, cls) else None


def dump(state: object | None) -> bytes:
    """A state as canonical JSON: equal states have equal bytes."""
    return snapshot.to_json(state)


def load(stream: str, data: bytes) -> object | None:
    """The state that :func:`dump` wrote of this stream.

    Raises:
        SnapshotError: the bytes are no state of such a stream.
    """
    state: object | None = snapshot.from_json(_state_class(stream), data)
    return state


def _state_class(stream: str) -> type[Any]:
    if stream == CHAIN_STREAM:
        return chain.ChainState
    aggregate = _AGGREGATES.get(stream.partition("/")[0])
    return aggregate.state if aggregate else type(None)
