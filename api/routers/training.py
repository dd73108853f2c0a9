"""Training clients: create, read, close, and their operations."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter
from tensorguard import commitment

from api import batches, paging, present, sampling, training
from api import requests as q
from api import responses as r
from api.auth import Caller, KeyFirst, Reader, Trainer
from api.errors import ApiError
from api.platform import Platform
from api.routers.common import (
    BODY,
    Ask,
    Cursor,
    Limit,
    PlatformOf,
    close_run,
    errors,
    newest,
    run_in_threadpool,
    usable_artifact,
)
from api.submission import Asked, Private, Sealed
from projections.models import CatalogueModel, KnownModel, Run
from schemas import commands
from schemas.types import StartSpec

router = APIRouter(prefix="/v1/training_clients", tags=["training"], route_class=KeyFirst)
LISTING = "training_clients"
_CHANGES = errors(*BODY, 404, 409, 429, 507)


@router.post("", status_code=201, responses=errors(*BODY, 404, 409, 507))
async def create_training_client(
    config: q.TrainingConfig, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.TrainingClientInfo:
    """Start a run on a model of the catalogue."""
    asked = await ask.by(caller)
    return await run_in_threadpool(_create, platform, asked, config)


def _create(platform: Platform, asked: Asked, config: q.TrainingConfig) -> r.TrainingClientInfo:
    if config.dp_config is not None and config.dp_config.enabled:
        raise ApiError("dp_not_available", "dp_config asks for a privacy budget, which this server cannot keep.")
    model = platform.views.model(config.model_ref)
    if model is None:
        raise ApiError("unknown_model", "The catalogue has no model of this name.")
    training.check_lora(platform.installation, config.lora_config, model)
    start = _start(platform, asked.caller, config, model)
    run_id = f"run-{asked.command_id.hex()}"
    retention = config.batch_retention or platform.installation.settings.batch_retention

    def command(metadata: bytes | None) -> commands.CreateRun:
        return training.create(run_id, config, model, start, retention, metadata)

    platform.submission.send_sealed(asked, Sealed(config.metadata, run_id), command)
    return _info(platform, _run(platform, asked.caller, run_id))


def _start(platform: Platform, caller: Caller, config: q.TrainingConfig, model: CatalogueModel) -> StartSpec | None:
    """The checkpoint that a run begins from, held to the run's model and shape."""
    if config.start_artifact_id is None:
        return None
    artifact = usable_artifact(platform, caller, config.start_artifact_id)
    former = _run(platform, caller, artifact.run_id)
    if former.manifest_digest != model.manifest_digest or not training.same_shape(former.lora, config.lora_config):
        raise ApiError("checkpoint_mismatch", "start_artifact_id is of another model, or of other LoRA settings.")
    return StartSpec(bytes.fromhex(artifact.artifact_id), bytes.fromhex(artifact.manifest_digest), artifact.step)


@router.get("", responses=errors())
async def list_training_clients(
    caller: Reader, platform: PlatformOf, limit: Limit = paging.DEFAULT_LIMIT, cursor: Cursor = None
) -> r.Page[r.TrainingClientInfo]:
    """The tenant's runs, newest first."""
    rows = partial(platform.views.runs, caller.tenant, trainable=True)
    return await newest(platform, caller, LISTING, (limit, cursor), rows, partial(_info, platform))


@router.get("/{training_client_id}", responses=errors(404))
async def get_training_client(training_client_id: str, caller: Reader, platform: PlatformOf) -> r.TrainingClientInfo:
    """A run as it stands."""
    return await run_in_threadpool(lambda: _info(platform, _run(platform, caller, training_client_id)))


@router.post("/{training_client_id}/close", responses=errors(404, 409, 507))
async def close_training_client(
    training_client_id: str, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.TrainingClientInfo:
    """Take no more operations; those that are queued still finish. Closing twice is no error."""
    asked = await ask.by(caller)
    read = partial(_run, platform, caller, training_client_id)
    return await run_in_threadpool(lambda: _info(platform, close_run(platform, asked, read)))


@router.post("/{training_client_id}/forward_backward", status_code=202, responses=_CHANGES)
async def forward_backward(
    training_client_id: str, body: q.ForwardBackwardRequest, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.Future:
    """Accumulate the gradient of a batch. The batch stays beside the ledger, which holds a salted commitment."""
    asked = await ask.by(caller)
    return await run_in_threadpool(
        lambda: _send_batch(platform, asked, training_client_id, body, commands.SubmitForwardBackward)
    )


@router.post("/{training_client_id}/forward", status_code=202, responses=_CHANGES)
async def forward(
    training_client_id: str, body: q.ForwardRequest, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.Future:
    """Evaluate a batch: its loss and each token's log-probability. Nothing is accumulated."""
    asked = await ask.by(caller)
    return await run_in_threadpool(
        lambda: _send_batch(platform, asked, training_client_id, body, commands.SubmitForward)
    )


@router.post("/{training_client_id}/optim_step", status_code=202, responses=_CHANGES)
async def optim_step(
    training_client_id: str, body: q.OptimStepRequest, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.Future:
    """Apply the accumulated gradient."""
    asked = await ask.by(caller)

    def submit() -> r.Future:
        run = _run(platform, caller, training_client_id)
        command = commands.SubmitOptimStep(run.run_id, body.learning_rate, body.generation, body.max_grad_norm)
        return _send(platform, asked, command)

    return await run_in_threadpool(submit)


@router.post("/{training_client_id}/sample", status_code=202, responses=_CHANGES)
async def sample(
    training_client_id: str, body: q.SampleRequest, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.Future:
    """Complete prompts with the adapter as it is when their turn comes. Texts stay beside the ledger."""
    asked = await ask.by(caller)

    def submit() -> r.Future:
        return send_sample(platform, asked, _run(platform, caller, training_client_id), body)

    return await run_in_threadpool(submit)


@router.post("/{training_client_id}/save_state", status_code=202, responses=_CHANGES)
async def save_state(
    training_client_id: str, body: q.SaveStateRequest, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.Future:
    """Save an encrypted, signed checkpoint under a name."""
    asked = await ask.by(caller)

    def submit() -> r.Future:
        run = _run(platform, caller, training_client_id)
        command = commands.SubmitSaveState(run.run_id, body.name, body.include_optimizer, body.generation)
        reply = platform.submission.send_sealed(asked, Sealed(body.metadata), lambda _: command)
        return platform.futures.get(caller.tenant, reply.command_id.hex())

    return await run_in_threadpool(submit)


@router.post("/{training_client_id}/load_state", status_code=202, responses=_CHANGES)
async def load_state(
    training_client_id: str, body: q.LoadStateRequest, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.Future:
    """Replace the run's state by a checkpoint's."""
    asked = await ask.by(caller)

    def submit() -> r.Future:
        run = _run(platform, caller, training_client_id)
        artifact = usable_artifact(platform, caller, body.artifact_id)
        command = commands.SubmitLoadState(
            run.run_id,
            bytes.fromhex(artifact.artifact_id),
            bytes.fromhex(artifact.manifest_digest),
            body.include_optimizer,
            body.generation,
            artifact.step,
        )
        return _send(platform, asked, command)

    return await run_in_threadpool(submit)


def send_sample(platform: Platform, asked: Asked, run: Run, body: q.SampleRequest) -> r.Future:
    """Check a sample against its model and queue it."""
    sampling.check(body, _model(platform, run))
    private = _private(sampling.private_part(body), body.salt)
    reply = platform.submission.send_private(asked, run.run_id, private, partial(sampling.command, run, body))
    return platform.futures.get(asked.caller.tenant, reply.command_id.hex())


def _send_batch(
    platform: Platform,
    asked: Asked,
    run_id: str,
    body: q.ForwardBackwardRequest,
    submit: type[commands.SubmitForwardBackward | commands.SubmitForward],
) -> r.Future:
    """Check a batch against its model and queue it."""
    run = _run(platform, asked.caller, run_id)
    model = _model(platform, run)
    limits = platform.limits.of_batch(model.vocabulary_size, model.max_positions)
    batch = batches.check(dict(body.batch), limits)

    def command(digest: bytes, interval: int | None) -> commands.SubmitForwardBackward | commands.SubmitForward:
        return submit(run.run_id, digest, batch.rows, batch.tokens, body.generation, interval)

    reply = platform.submission.send_private(asked, run.run_id, _private(batch.to_dict(), body.salt), command)
    return platform.futures.get(asked.caller.tenant, reply.command_id.hex())


def _send(platform: Platform, asked: Asked, command: Any) -> r.Future:
    reply = platform.submission.send(asked, command)
    return platform.futures.get(asked.caller.tenant, reply.command_id.hex())


def _private(value: object, salt: str | None) -> Private:
    try:
        return Private(commitment.canonical(value), bytes.fromhex(salt) if salt else None)
    except commitment.UncommittableError as error:
        raise ApiError("invalid_request", "A text holds a lone surrogate: it is no Unicode text.") from error


def _run(platform: Platform, caller: Caller, run_id: str) -> Run:
    run = platform.views.run(caller.tenant, run_id)
    if run is None or not run.trainable:
        raise ApiError("unknown_training_client", "There is no training client with this id.")
    return run


def _model(platform: Platform, run: Run) -> KnownModel:
    model = platform.views.known_model(run.manifest_digest)
    if model is None:
        raise ApiError("unknown_model", "The model of this training client is not in the catalogue.")
    return model


def _info(platform: Platform, run: Run) -> r.TrainingClientInfo:
    metadata = platform.vault.get(run.chain, run.run_id) if run.metadata_commitment else {}
    return present.training_client(run, _model(platform, run), metadata)
