"""Futures: what became of an operation, with a long poll that wakes by notification."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from api import responses as r
from api.auth import Reader, Trainer
from api.requests import MAX_INT
from api.routers.common import LONGEST_POLL, Ask, PlatformOf, done_before, errors, run_in_threadpool
from api.streaming import Listening
from schemas import commands

EVENTS = "text/event-stream"
LONGEST_STREAM = 3600.0
router = APIRouter(prefix="/v1/futures", tags=["futures"])


@router.get("/{future_id}", responses=errors(404))
async def get_future(future_id: str, caller: Reader, platform: PlatformOf) -> r.Future:
    """A future as it stands."""
    return await run_in_threadpool(platform.futures.get, caller.tenant, future_id)


@router.get(
    "/{future_id}/result",
    responses={**errors(404), 202: {"model": r.Future, "description": "Still pending; ask again"}},
)
async def get_future_result(
    future_id: str,
    caller: Reader,
    platform: PlatformOf,
    response: Response,
    timeout: Annotated[  # noqa: ASYNC109 -- the name of the query parameter
        float, Query(ge=0, le=LONGEST_POLL, description="Seconds to wait at most.")
    ] = 25.0,
) -> r.Future:
    """The future once it has finished, or after so many seconds as it is then (202)."""
    found = await platform.waiters.until(
        future_id, lambda: platform.futures.get_finished(caller.tenant, future_id), timeout
    )
    if found is None:
        found = await run_in_threadpool(platform.futures.get, caller.tenant, future_id)
        response.status_code = 202 if found.status == "pending" else 200
    return found


@router.get(
    "/{future_id}/stream",
    response_class=StreamingResponse,
    responses={**errors(404), 200: {"content": {EVENTS: {}}, "description": "Events"}},
)
async def stream_future(
    future_id: str,
    caller: Reader,
    platform: PlatformOf,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=MAX_INT, description="The id of the last event that you have.")
    ] = None,
    timeout: Annotated[  # noqa: ASYNC109 -- the name of the query parameter
        float, Query(ge=0, le=LONGEST_STREAM, description="Seconds until the stream ends, finished or not.")
    ] = LONGEST_STREAM,
) -> StreamingResponse:
    """Server-sent events: the texts of a sample as they grow, then the future once it has finished."""
    await run_in_threadpool(platform.futures.operation, caller.tenant, future_id)
    listening = Listening(platform.futures, platform.exchange, platform.waiters, caller.tenant, future_id)
    return StreamingResponse(
        listening.events(last_event_id, timeout),
        media_type=EVENTS,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.post("/{future_id}/cancel", status_code=202, responses=errors(404, 409, 507))
async def cancel_future(future_id: str, caller: Trainer, ask: Ask, platform: PlatformOf) -> r.Future:
    """Ask that an operation be dropped if it has not started, a sample at any time. Asking twice is no error."""
    asked = await ask.by(caller)

    def cancel() -> r.Future:
        operation = platform.futures.operation(caller.tenant, future_id)
        if not operation.cancel_requested:
            command = commands.RequestCancellation(operation.run_id, bytes.fromhex(future_id))
            with done_before("already_exists"):
                platform.submission.send(asked, command)
        return platform.futures.get(caller.tenant, future_id)

    return await run_in_threadpool(cancel)
