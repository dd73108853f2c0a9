"""The REST application over a platform."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import problems
from api.gates import PRODUCTION
from api.http import Guard
from api.responses import Problem
from api.routers import (
    artifacts,
    audit,
    catalogue,
    exports,
    futures,
    ledger,
    packages,
    samplers,
    system,
    tokenizers,
    training,
)
from api.routers.common import ALIAS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api.platform import Platform

TITLE = "TensorGuardFlow"
VERSION = "1"
_DESCRIPTION = (
    "Private fine-tuning, packaging and deployment of language models on one verified ledger. Errors are RFC 9457 "
    "problems. Training clients and futures answer under `/api/v1` as well."
)


def create_app(platform: Platform) -> FastAPI:
    """The application; its platform's projector must be folding, and somebody must decide."""
    app = FastAPI(
        title=TITLE,
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.platform = platform
    https_only = platform.installation.settings.environment == PRODUCTION
    app.add_middleware(
        Guard,
        body_bytes=platform.limits.body_bytes,
        metrics=platform.metrics,
        tracing=platform.tracing,
        https_only=https_only,
    )
    problems.install(app)
    parts = (training, samplers, futures, artifacts, exports, catalogue, tokenizers, audit, packages, ledger, system)
    for part in parts:
        app.include_router(part.router)
    for part in (training, futures):
        app.include_router(part.router, prefix=ALIAS, include_in_schema=False)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    platform: Platform = app.state.platform
    detach = platform.waiters.attach(platform.projector)
    try:
        yield
    finally:
        detach()
        platform.waiters.close()


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        parts = schema["components"]["schemas"]
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        parts |= problem.pop("$defs", {})
        parts["Problem"] = problem
        for unused in ("HTTPValidationError", "ValidationError"):
            parts.pop(unused, None)
        app.openapi_schema = schema
    return app.openapi_schema
