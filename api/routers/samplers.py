"""Samplers: a base model or a saved checkpoint to sample from, without a training run."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from api import paging, present, sampling
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
from api.routers.training import send_sample
from api.submission import Asked, Sealed
from projections.models import Run
from schemas import commands

router = APIRouter(prefix="/v1/samplers", tags=["sampling"], route_class=KeyFirst)
LISTING = "samplers"


@router.post("", status_code=201, responses=errors(*BODY, 404, 409, 429, 507))
async def create_sampler(config: q.SamplerConfig, caller: Trainer, ask: Ask, platform: PlatformOf) -> r.SamplerInfo:
    """Open a model of the catalogue, or a checkpoint, for sampling."""
    asked = await ask.by(caller)
    return await run_in_threadpool(_create, platform, asked, config)


def _create(platform: Platform, asked: Asked, config: q.SamplerConfig) -> r.SamplerInfo:
    run_id = f"sampler-{asked.command_id.hex()}"
    source = _of_model(platform, config) if config.model_ref else _of_artifact(platform, asked.caller, config)

    def command(metadata: bytes | None) -> commands.CreateRun:
        return sampling.create(run_id, source, config.seed, platform.installation.settings.batch_retention, metadata)

    platform.submission.send_sealed(asked, Sealed(config.metadata, run_id), command)
    return _info(platform, _sampler(platform, asked.caller, run_id))


def _of_model(platform: Platform, config: q.SamplerConfig) -> sampling.Source:
    model = platform.views.model(config.model_ref or "")
    if model is None:
        raise ApiError("unknown_model", "The catalogue has no model of this name.")
    return sampling.Source.of_model(model)


def _of_artifact(platform: Platform, caller: Caller, config: q.SamplerConfig) -> sampling.Source:
    artifact = usable_artifact(platform, caller, config.artifact_id or "")
    run = platform.views.run(caller.tenant, artifact.run_id)
    model = run and platform.views.model(run.model)
    if run is None or model is None or model.manifest_digest != run.manifest_digest:
        raise ApiError("unknown_model", "The model of this artifact is not in the catalogue any more.")
    return sampling.Source.of_artifact(artifact, run)


@router.get("", responses=errors())
async def list_samplers(
    caller: Reader, platform: PlatformOf, limit: Limit = paging.DEFAULT_LIMIT, cursor: Cursor = None
) -> r.Page[r.SamplerInfo]:
    """The tenant's samplers, newest first."""
    rows = partial(platform.views.runs, caller.tenant, trainable=False)
    return await newest(platform, caller, LISTING, (limit, cursor), rows, partial(_info, platform))


@router.get("/{sampler_id}", responses=errors(404))
async def get_sampler(sampler_id: str, caller: Reader, platform: PlatformOf) -> r.SamplerInfo:
    """A sampler as it stands."""
    return await run_in_threadpool(lambda: _info(platform, _sampler(platform, caller, sampler_id)))


@router.post("/{sampler_id}/sample", status_code=202, responses=errors(*BODY, 404, 409, 429, 507))
async def sample_from_sampler(
    sampler_id: str, body: q.SampleRequest, caller: Trainer, ask: Ask, platform: PlatformOf
) -> r.Future:
    """Complete prompts. Samples of all runs and samplers of one base model are generated together."""
    asked = await ask.by(caller)

    def submit() -> r.Future:
        return send_sample(platform, asked, _sampler(platform, caller, sampler_id), body)

    return await run_in_threadpool(submit)


@router.post("/{sampler_id}/close", responses=errors(404, 409, 507))
async def close_sampler(sampler_id: str, caller: Trainer, ask: Ask, platform: PlatformOf) -> r.SamplerInfo:
    """Take no more samples; those that are queued still finish. Closing twice is no error."""
    asked = await ask.by(caller)
    read = partial(_sampler, platform, caller, sampler_id)
    return await run_in_threadpool(lambda: _info(platform, close_run(platform, asked, read)))


def _sampler(platform: Platform, caller: Caller, run_id: str) -> Run:
    run = platform.views.run(caller.tenant, run_id)
    if run is None or run.trainable:
        raise ApiError("unknown_sampler", "There is no sampler with this id.")
    return run


def _info(platform: Platform, run: Run) -> r.SamplerInfo:
    metadata = platform.vault.get(run.chain, run.run_id) if run.metadata_commitment else {}
    model = platform.views.known_model(run.manifest_digest)
    if model is None:
        raise ApiError("unknown_model", "The model of this sampler is not in the catalogue.")
    return present.sampler(run, model, metadata)
