"""The outermost layer: request ids, size limits, one log line a request, and a plain answer to any fault of ours.

Nothing of a request but its method, its route and its outcome is logged, and no text of an exception.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

import structlog

from api import problems
from api.errors import ApiError
from producers.logs import place_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "x-request-id"
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_QUIET = frozenset({"/healthz", "/readyz"})
log = structlog.get_logger(__name__)


class _TooLargeError(Exception):
    """The body went over the limit while it came in; whoever reads it may turn this into an answer of its own."""


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, body_bytes: int, *, https_only: bool = False) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._https_only = https_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._body_bytes)
        try:
            if self._https_only and scope["scheme"] != "https" and scope["path"] not in _QUIET:
                await exchange.answer(ApiError("https_required", "The request came in the clear."))
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except _TooLargeError:
            log.info("body_too_large")
        except Exception as error:  # noqa: BLE001 -- the last line: nothing of the fault may reach the client
            log.error("fault", **place_of(error))  # noqa: TRY400 -- the text of the exception may hold a payload
            await exchange.answer(ApiError("internal_error", "The server failed to answer this request."))
        await exchange.finish()


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_bytes: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._limit = self._room = body_bytes
        self._status = 0
        self._started = time.monotonic()
        self._request_id = secrets.token_bytes(16)
        scope.setdefault("state", {})["request_id"] = self._request_id
        scope["state"]["trace"] = _trace(scope)

    async def receive(self) -> Message:
        message = await self._receive()
        self._room -= len(message.get("body", b""))
        if self._too_large:
            raise _TooLargeError
        return message

    @property
    def _too_large(self) -> bool:
        return self._room < 0

    async def send(self, message: Message) -> None:
        if self._too_large:
            return
        await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [*message.get("headers", ()), (REQUEST_ID.encode(), self._request_id.hex().encode())]
        await self._send(message)

    async def answer(self, error: ApiError) -> None:
        """Answer with a problem, unless an answer has begun."""
        if self._status == 0:
            await problems.response(error)(self._scope, self._receive, self._pass_on)

    async def finish(self) -> None:
        """Answer what the app could not, and log the request."""
        if self._too_large:
            await self.answer(ApiError("body_too_large", f"A body may have {self._limit} bytes."))
        route = getattr(self._scope.get("route"), "path", None)
        if route not in _QUIET:
            log.info(
                "request",
                method=self._scope["method"],
                route=route,
                status=self._status,
                ms=round((time.monotonic() - self._started) * 1000, 1),
                request_id=self._request_id.hex(),
            )


def _trace(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value.decode("latin-1"))):
            return bytes.fromhex(match[1])
    return None
