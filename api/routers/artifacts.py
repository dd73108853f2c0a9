"""Checkpoints of the tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api import paging, present
from api import responses as r
from api.auth import Reader
from api.errors import ApiError
from api.platform import Platform
from api.routers.common import Cursor, Limit, PlatformOf, errors, run_in_threadpool
from projections.models import Artifact

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

    def page() -> r.Page[r.ArtifactInfo]:
        before = platform.cursors.decode(caller.tenant, LISTING, cursor)
        rows = platform.views.artifacts(caller.tenant, training_client_id, before, limit + 1)
        more = platform.cursors.encode(caller.tenant, LISTING, rows[limit - 1].seq) if len(rows) > limit else None
        return r.Page(items=[_info(platform, row) for row in rows[:limit]], next_cursor=more)

    return await run_in_threadpool(page)


@router.get("/{artifact_id}", responses=errors(404))
async def get_artifact(artifact_id: str, caller: Reader, platform: PlatformOf) -> r.ArtifactInfo:
    """A checkpoint."""

    def get() -> r.ArtifactInfo:
        row = platform.views.artifact(caller.tenant, artifact_id)
        if row is None:
            raise ApiError("unknown_artifact", "There is no artifact with this id.")
        return _info(platform, row)

    return await run_in_threadpool(get)


def _info(platform: Platform, row: Artifact) -> r.ArtifactInfo:
    metadata = platform.vault.get(row.chain, row.operation_id) if row.operation_id else {}
    return present.artifact(row, metadata)
