"""Checkpoints of the tenant."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from api import paging, present
from api import responses as r
from api.auth import Caller, Reader, Trainer
from api.errors import ApiError
from api.platform import Platform
from api.routers.common import Ask, Cursor, Limit, PlatformOf, errors, newest, run_in_threadpool
from api.submission import Asked
from projections.models import Artifact
from schemas.commands import DeleteArtifact

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
LISTING = "artifacts"


@router.get("", responses=errors())
async def list_artifacts(
    caller: Reader,
    platform: PlatformOf,
    training_client_id: Annotated[str | None, Query(max_length=128)] = None,
    limit: Limit = paging.DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> r.Page[r.ArtifactInfo]:
    """The tenant's checkpoints, newest first."""
    rows = partial(platform.views.artifacts, caller.tenant, training_client_id)
    return await newest(platform, caller, LISTING, (limit, cursor), rows, partial(_info, platform))


@router.get("/{artifact_id}", responses=errors(404))
async def get_artifact(artifact_id: str, caller: Reader, platform: PlatformOf) -> r.ArtifactInfo:
    """A checkpoint."""

    def get() -> r.ArtifactInfo:
        return _info(platform, _artifact(platform, caller, artifact_id))

    return await run_in_threadpool(get)


@router.delete("/{artifact_id}", status_code=202, responses=errors(404, 409, 429, 507))
async def delete_artifact(artifact_id: str, caller: Trainer, ask: Ask, platform: PlatformOf) -> r.ArtifactInfo:
    """Have a checkpoint, its exports and their keys destroyed; then they are no longer there. Twice is no error."""
    asked = await ask.by(caller)
    return await run_in_threadpool(_delete, platform, asked, artifact_id)


def _delete(platform: Platform, asked: Asked, artifact_id: str) -> r.ArtifactInfo:
    row = _artifact(platform, asked.caller, artifact_id)
    if row.deletion_requested_at is None:
        _check_free(platform, row)
        platform.submission.send(asked, DeleteArtifact(row.run_id, bytes.fromhex(row.artifact_id)))
        row = platform.views.artifact(row.chain, row.artifact_id) or row
    return _info(platform, row)


def _check_free(platform: Platform, row: Artifact) -> None:
    """A checkpoint may be what another run than its own would go on from."""
    resting = platform.views.resting_on(row.chain, row.artifact_id)
    if resting:
        raise ApiError("artifact_in_use", f"Training client {resting[0].run_id} rests on the artifact.")


def _artifact(platform: Platform, caller: Caller, artifact_id: str) -> Artifact:
    row = platform.views.artifact(caller.tenant, artifact_id)
    if row is None:
        raise ApiError("unknown_artifact", "There is no artifact with this id.")
    return row


def _info(platform: Platform, row: Artifact) -> r.ArtifactInfo:
    metadata = platform.vault.get(row.chain, row.operation_id) if row.operation_id else {}
    return present.artifact(row, metadata)
