"""Of the server as a whole: health, readiness and the trust root without a key, metrics with an operator's."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from api import responses as r
from api.auth import Watcher
from api.observability.metrics import CONTENT_TYPE
from api.routers.common import PlatformOf, errors, run_in_threadpool

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> r.Health:
    """The process answers."""
    return r.Health(status="ok")


@router.get("/readyz", responses={503: {"model": r.Readiness, "description": "Not ready"}})
async def readyz(platform: PlatformOf) -> r.Readiness:
    """Every part can do its work."""
    checks = await run_in_threadpool(lambda: {name: check() for name, check in platform.checks.items()})
    if all(checks.values()):
        return r.Readiness(status="ready", checks=checks)
    body = r.Readiness(status="not_ready", checks=checks)
    return JSONResponse(body.model_dump(), 503)  # type: ignore[return-value]


@router.get(
    "/.well-known/tensorguard/trust-root.json",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}, "description": "The trust root, byte for byte"}},
)
async def trust_root(platform: PlatformOf) -> Response:
    """The keys that an auditor checks everything against. Compare it with a copy that you got another way."""
    data = await run_in_threadpool(platform.installation.trust_root_path.read_bytes)
    return Response(data, media_type="application/json")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}, **errors()},
)
async def metrics(_: Watcher, platform: PlatformOf) -> Response:
    """Figures of this server for Prometheus; none of them names a tenant or a run."""
    return Response(await run_in_threadpool(platform.metrics.exposition), media_type=CONTENT_TYPE)
