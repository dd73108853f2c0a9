"""What every router uses: the platform behind the app, who asks, and the errors that a route declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api import paging, problems
from api import responses as r
from api.auth import Caller
from api.errors import ApiError
from api.idempotency import MAX_KEY_CHARACTERS
from api.platform import Platform
from api.submission import Asked
from projections.models import Artifact, Export, Package, Run
from schemas.commands import CloseRun

ALIAS = "/api"
PENDING = "pending"
LONGEST_POLL = 30.0
BODY = (400, 413, 415)
"""What can be wrong with a body before its values are looked at."""

Row = TypeVar("Row", Run, Artifact, Package, Export)
Made = TypeVar("Made", Package, Export)
Shown = TypeVar("Shown", bound=BaseModel)

__all__ = [
    "BODY",
    "Ask",
    "Asking",
    "Cursor",
    "IdempotencyKey",
    "Limit",
    "PlatformOf",
    "close_run",
    "done_before",
    "errors",
    "newest",
    "once_settled",
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


async def newest(
    platform: Platform,
    caller: Caller,
    listing: str,
    page: tuple[int, str | None],
    rows: Callable[[int | None, int], Sequence[Row]],
    show: Callable[[Row], Shown],
) -> r.Page[Shown]:
    """A page (its limit and cursor) of a list, newest first; ``rows`` gives so many from before a position on.

    Raises:
        ApiError: invalid_request, the cursor is none of this list.
    """
    limit, cursor = page

    def read() -> r.Page[Shown]:
        found = rows(platform.cursors.decode(caller.tenant, listing, cursor), limit + 1)
        more = platform.cursors.encode(caller.tenant, listing, found[limit - 1].seq) if len(found) > limit else None
        return r.Page(items=[show(row) for row in found[:limit]], next_cursor=more)

    return await run_in_threadpool(read)


async def once_settled(
    platform: Platform, topic: str, read: Callable[[], Made], show: Callable[[Made], Shown], seconds: float
) -> Shown:
    """Something that is made on demand, once it is no longer pending or after so many seconds."""

    def settled() -> Shown | None:
        row = read()
        return None if row.status == PENDING else show(row)

    found = await platform.waiters.until(topic, settled, seconds)
    return found if found is not None else await run_in_threadpool(lambda: show(read()))


@contextmanager
def done_before(code: str) -> Iterator[None]:
    """What was asked for before is no error: by another request at this moment, or at a process that is ahead of us."""
    try:
        yield
    except ApiError as error:
        if error.code != code:
            raise


def close_run(platform: Platform, asked: Asked, read: Callable[[], Run]) -> Run:
    """A run that takes no more operations; closing twice is no error."""
    run = read()
    if run.closed_at is None:
        with done_before("run_closed"):
            platform.submission.send(asked, CloseRun(run.run_id))
    return read()


def usable_artifact(platform: Platform, caller: Caller, artifact_id: str) -> Artifact:
    """A checkpoint of the tenant that something may be made of: one that is not about to be deleted.

    Raises:
        ApiError: unknown_artifact.
    """
    artifact = platform.views.artifact(caller.tenant, artifact_id)
    if artifact is None or artifact.deletion_requested_at is not None:
        raise ApiError("unknown_artifact", "There is no artifact with this id.")
    return artifact
