"""The catalogue of models, and the tenant's devices."""

from __future__ import annotations

from fastapi import APIRouter

from api import present
from api import responses as r
from api.auth import Reader
from api.routers.common import PlatformOf, errors, run_in_threadpool

router = APIRouter(prefix="/v1", tags=["catalogue"])


@router.get("/models", responses=errors())
async def list_models(caller: Reader, platform: PlatformOf) -> r.Page[r.ModelInfo]:  # noqa: ARG001 -- a key is needed
    """The models that runs may start from, by name."""
    rows = await run_in_threadpool(platform.views.models)
    return r.Page(items=[present.model(row) for row in rows], next_cursor=None)


@router.get("/devices", responses=errors())
async def list_devices(caller: Reader, platform: PlatformOf) -> r.Page[r.DeviceInfo]:
    """The tenant's devices, oldest first."""
    rows = await run_in_threadpool(platform.views.devices, caller.tenant)
    return r.Page(items=[present.device(row) for row in rows], next_cursor=None)
