"""What the client does, apart from how it talks: generators that yield wishes and are sent what came of them.

A flow yields a :class:`Request` and is sent a :class:`Response` or :class:`Unreachable`; it yields a :class:`Pause` and
is sent None. So the blocking and the asyncio client (``transport.py``) run the very same logic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from tg_tinker.errors import (
    FutureTimeoutError,
    InvalidRequestError,
    ProtocolError,
    ServerUnreachableError,
    TransientError,
    from_problem,
)
from tg_tinker.retry import Response, RetryPolicy, Unreachable
from tg_tinker.types import Future

LONG_POLL_SECONDS = 25.0
ANSWER_SECONDS = 30.0
LEAST_POLL_PAUSE = 0.1

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Request:
    """One HTTP request; ``seconds`` is how long its answer may keep silent.

    A success's body goes ``into`` a file: behind what it holds if the answer is a part (206), else in its place;
    ``told`` hears each time how long the file is then.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    seconds: float = ANSWER_SECONDS
    into: Path | None = None
    told: Callable[[int], None] | None = None


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


Flow: TypeAlias = Generator[Request | Pause, Response | Unreachable | None, T]


@dataclass(frozen=True)
class Surroundings:
    """What flows take from outside: seconds that only grow, random numbers in [0, 1), random hexadecimal text."""

    clock: Callable[[], float]
    random: Callable[[], float]
    random_hex: Callable[[int], str]
    retry: RetryPolicy


def exchange(
    around: Surroundings, request: Request | Callable[[], Request], *, deadline: float | None = None
) -> Flow[Response]:
    """Send a request until it is answered; at the latest at the deadline or when the retry policy gives up.

    A function is asked for the request each time: what is still to be fetched may be less than before.

    Raises:
        TGTinkerError: what the answer says is wrong, by its class.
        ServerUnreachableError: no answer came.
    """
    began, attempt = around.clock(), 0
    last = min(began + around.retry.most_seconds, deadline if deadline is not None else float("inf"))
    while True:
        outcome = yield request() if callable(request) else request
        assert outcome is not None, "a request is answered by an outcome"  # noqa: S101 -- the drivers' side of the protocol
        pause = around.retry.pause(attempt, outcome, around.random())
        if pause is None or around.clock() + pause > last:
            return accepted(outcome)
        yield Pause(pause)
        attempt += 1


def accepted(outcome: Response | Unreachable) -> Response:
    """A success as it is.

    Raises:
        TGTinkerError: what the answer says is wrong, by its class, or that none came.
    """
    if isinstance(outcome, Unreachable):
        raise ServerUnreachableError(f"The server did not answer ({outcome.reason}).")
    if 200 <= outcome.status < 300:  # noqa: PLR2004 -- HTTP's success
        return outcome
    raise from_problem(_problem(outcome), outcome.status)


def _problem(response: Response) -> dict[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return document
    return {"detail": f"The server answered {response.status} without saying why."}


def get(
    around: Surroundings,
    model: type[Model],
    path: str,
    query: Mapping[str, object] | None = None,
    *,
    deadline: float | None = None,
    seconds: float = ANSWER_SECONDS,
) -> Flow[Model]:
    """Read a resource."""
    text = {name: str(value) for name, value in (query or {}).items() if value is not None}
    response = yield from exchange(around, Request("GET", path, text, seconds=seconds), deadline=deadline)
    return parse(model, response.content)


def at(*segments: str) -> str:
    """The path below /v1 whose segments these are; an id cannot lead elsewhere."""
    return "/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def post(around: Surroundings, model: type[Model], path: str, body: Mapping[str, Any]) -> Flow[Model]:
    """Ask for a change, once: however often it is sent, it has one effect."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": around.random_hex(16)}
    request = Request("POST", path, headers=headers, body=encode(body))
    response = yield from exchange(around, request)
    return parse(model, response.content)


def delete(around: Surroundings, model: type[Model], path: str) -> Flow[Model]:
    """Ask that something be deleted; what it is like now."""
    request = Request("DELETE", path, headers={"Idempotency-Key": around.random_hex(16)})
    response = yield from exchange(around, request)
    return parse(model, response.content)


def encode(body: Mapping[str, Any]) -> bytes:
    """JSON without spaces.

    Raises:
        InvalidRequestError: something in it has no JSON form.
    """
    try:
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        # Without the cause: its text quotes what was to be sent.
        raise InvalidRequestError("The request holds text, numbers or objects that have no JSON form.") from None


def parse(model: type[Model], content: bytes) -> Model:
    """The answer as a typed value.

    Raises:
        ProtocolError: it is something else.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        where = ", ".join(sorted({".".join(map(str, each["loc"])) or "body" for each in error.errors()}))
        raise ProtocolError(f"The answer is no {model.__name__}: {where}.") from None


class _Page(BaseModel):
    items: list[dict[str, Any]]
    next_cursor: str | None = None


def pages(
    around: Surroundings, model: type[Model], path: str, query: Mapping[str, object], limit: int | None
) -> Flow[list[Model]]:
    """The items of a list, page after page, up to a limit (None: all)."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while limit is None or len(found) < limit:
        size = 200 if limit is None else min(200, limit - len(found))
        page = yield from get(around, _Page, path, {**query, "limit": size, "cursor": cursor})
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    return [parse(model, encode(item)) for item in found[:limit]]


def poll(
    around: Surroundings,
    model: type[Model],
    path: str,
    wait_field: str,
    finished: Callable[[Model], bool],
    timeout: float | None,
) -> Flow[Model]:
    """Ask again and again, each time as long as the server lets us wait, until it is finished.

    Raises:
        FutureTimeoutError: ``timeout`` seconds are over (None: wait for ever, as long as the server answers at times).
    """
    deadline = None if timeout is None else around.clock() + timeout
    while True:
        began = around.clock()
        wait = LONG_POLL_SECONDS if deadline is None else max(0.0, min(LONG_POLL_SECONDS, deadline - began))
        try:
            value = yield from get(
                around, model, path, {wait_field: f"{wait:.3f}"}, deadline=deadline, seconds=wait + ANSWER_SECONDS
            )
        except TransientError as error:
            if deadline is None or around.clock() + LEAST_POLL_PAUSE < deadline:
                raise
            raise FutureTimeoutError("The server was out of reach, and the time to wait is over.") from error
        if finished(value):
            return value
        if deadline is not None and around.clock() >= deadline:
            raise FutureTimeoutError(f"It is not finished after {timeout:g} seconds.")
        if around.clock() - began < LEAST_POLL_PAUSE:  # a server that does not wait must not be hammered
            yield Pause(LEAST_POLL_PAUSE)


def finished_future(around: Surroundings, future_id: str, timeout: float | None) -> Flow[Future]:
    """A future once it is no longer pending (errors as for :func:`poll`)."""
    path = at("futures", future_id, "result")
    return (yield from poll(around, Future, path, "timeout", lambda future: future.status != "pending", timeout))


def download(around: Surroundings, path: str, target: Path) -> Flow[Path]:
    """Fetch a file; ``target`` is there whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    part = target.with_name(f"{target.name}.{around.random_hex(4)}.part")
    try:
        yield from exchange(around, Request("GET", path, headers={"Accept": "*/*"}, into=part))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target
