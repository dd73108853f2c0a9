"""What every router uses: the platform behind the app, who asks, and the errors that a route declares."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool

from api import paging, problems
from api.auth import Caller
from api.errors import ApiError
from api.idempotency import MAX_KEY_CHARACTERS
from api.platform import Platform
from api.submission import Asked
from projections.models import Artifact

ALIAS = "/api"
LONGEST_POLL = 30.0
BODY = (400, 413, 415)
"""What can be wrong with a body before its values are looked at."""

__all__ = [
    "BODY",
    "Ask",
    "Asking",
    "Cursor",
    "IdempotencyKey",
    "Limit",
    "PlatformOf",
    "errors",
    "run_in_threadpool",
    "usable_artifact",
]


async def _platform(request: Request) -> Platform:
    # Asynchronous, like every dependency here, though it waits for nothing: others would be called in a thread each.
    platform: Platform = request.app.state.platform
    return platform


PlatformOf = Annotated[Platform, Depends(_platform)]
Limit = Annotated[int, Query(ge=1, le=paging.MAX_LIMIT, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=256, description="The `next_cursor` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        description="A repeat with the same key and body gets the original answer; nothing is done twice.",
    ),
]


class Asking:
    """A request that changes something, as far as it can be told before its caller is known."""

    def __init__(self, request: Request, idempotency_key: str | None) -> None:
        self._request = request
        self._key = idempotency_key

    async def by(self, caller: Caller) -> Asked:
        """The request of a caller."""
        request = self._request
        return Asked.of(
            caller,
            route=f"{request.method} {request.scope['path'].removeprefix(ALIAS)}",
            key=self._key,
            body=await request.body(),
            correlation=request.state.request_id,
            trace=request.state.trace,
        )


async def _asking(request: Request, idempotency_key: IdempotencyKey = None) -> Asking:
    return Asking(request, idempotency_key)


Ask = Annotated[Asking, Depends(_asking)]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The declared problems of a route: those every route with a key has, and the ones named."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _MEANING[status], "content": content}
        for status in sorted({401, 403, 422, 500, 503, *statuses})
    }


_MEANING = {
    400: "The body cannot be read",
    401: "No valid API key",
    403: "The key lacks a scope",
    404: "Not there, or another tenant's",
    409: "Not in this state",
    413: "The body is too large",
    415: "Another content type",
    410: "No longer kept",
    416: "The file ends before that",
    422: "Not valid",
    429: "Too much is waiting",
    500: "A fault of ours",
    503: "Not now",
    507: "No space left",
}


def usable_artifact(platform: Platform, caller: Caller, artifact_id: str) -> Artifact:
    """A checkpoint of the tenant that something may be made of: one that is not about to be deleted.

    Raises:
        ApiError: unknown_artifact.
    """
    artifact = platform.views.artifact(caller.tenant, artifact_id)
    if artifact is None or artifact.deletion_requested_at is not None:
        raise ApiError("unknown_artifact", "There is no artifact with this id.")
    return artifact
