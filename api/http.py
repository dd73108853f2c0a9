"""The outermost layer: ids, size limits, what is told of each request, and a plain answer to any fault of ours.

A request is told of by one log line, by metrics and, where traces are made, by a span: its method, its route's
template, its outcome and its ids; no query, no body, no text of an exception.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bound_contextvars

from api import problems
from api.bodies import ENCODINGS, RequestBody
from api.errors import ApiError
from producers.logs import place_of
from producers.telemetry.traces import Parent, Tracing, trace_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from api.observability.metrics import Metrics

REQUEST_ID = "x-request-id"
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SAMPLED = 1
_NAMED = {"training_client_id": "run_id", "future_id": "operation_id"}
"""Parts of a path that are ids, and what logs call them."""
_QUIET = frozenset({"/healthz", "/readyz"})
_POLLED = _QUIET | {"/metrics"}
"""What machines ask for all day: no span, and a line at the level ``debug`` alone."""
_UNTRACED = Tracing()
log = structlog.get_logger(__name__)


class _RefusedBodyError(Exception):
    """The body cannot be taken as it came in; whoever reads it may turn this into an answer of its own."""


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(
        self, app: ASGIApp, body_bytes: int, metrics: Metrics, tracing: Tracing, *, https_only: bool = False
    ) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._metrics = metrics
        self._tracing = tracing
        self._https_only = https_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        parent = _parent(scope)
        tracing = _UNTRACED if scope["path"] in _POLLED else self._tracing
        with tracing.span(scope["method"], parent=parent, server=True) as span:
            trace = trace_of(span) or (parent.trace if parent else None)
            exchange = _Exchange(scope, receive, send, self._body_bytes, trace)
            with bound_contextvars(**exchange.ids):
                await self._serve(scope, exchange)
                status, seconds = await exchange.finish()
            route = getattr(scope.get("route"), "path", None)
            self._metrics.answered(scope["method"], route, status, seconds)
            _describe(span, scope["method"], route, status)

    async def _serve(self, scope: Scope, exchange: _Exchange) -> None:
        try:
            if self._https_only and scope["scheme"] != "https" and scope["path"] not in _QUIET:
                await exchange.answer(ApiError("https_required", "The request came in the clear."))
            else:
                await self._app(scope, exchange.receive, exchange.send)
        except _RefusedBodyError:
            log.info("body_refused")
        except asyncio.CancelledError:
            # The server ends while a request waits, for a decision say. Sent again it has effect once.
            await exchange.answer(ApiError("ledger_unavailable", "The server is ending."))
        except Exception as error:  # noqa: BLE001 -- the last line: nothing of the fault may reach the client
            log.error("fault", **place_of(error))  # noqa: TRY400 -- the text of the exception may hold a payload
            await exchange.answer(ApiError("internal_error", "The server failed to answer this request."))


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_bytes: int, trace: bytes | None) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._body = RequestBody(scope["headers"], body_bytes)
        self._refusal: ApiError | None = None
        self._status = 0
        self._started = time.monotonic()
        self._request_id = secrets.token_bytes(16)
        scope.setdefault("state", {}).update(request_id=self._request_id, trace=trace)
        self.ids = {"request_id": self._request_id.hex(), **({"trace_id": trace.hex()} if trace else {})}

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            message["body"] = self._taken(message)
        return message

    def _taken(self, message: Message) -> bytes:
        try:
            return self._body.take(message.get("body", b""), last=not message.get("more_body", False))
        except ApiError as refusal:
            self._refusal = refusal
            raise _RefusedBodyError from refusal

    async def send(self, message: Message) -> None:
        if self._refusal is None:
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            own = ((REQUEST_ID.encode(), self._request_id.hex().encode()), (b"accept-encoding", ENCODINGS.encode()))
            message["headers"] = [*message.get("headers", ()), *own]
        await self._send(message)

    async def answer(self, error: ApiError) -> None:
        """Answer with a problem, unless an answer has begun."""
        if self._status == 0:
            await problems.response(error)(self._scope, self._receive, self._pass_on)

    async def finish(self) -> tuple[int, float]:
        """Answer what the app could not, and log the request; its status, and the seconds that it took."""
        if self._refusal is not None:
            await self.answer(self._refusal)
        route = getattr(self._scope.get("route"), "path", None)
        seconds = time.monotonic() - self._started
        write = log.debug if route in _POLLED else log.info
        about = {"method": self._scope["method"], "route": route, "status": self._status}
        write("request", **about, ms=round(seconds * 1000, 1), **_named(self._scope))
        return self._status, seconds


def _named(scope: Scope) -> dict[str, str]:
    """The ids that a path names; what is no id is a client's text."""
    found = {_NAMED[name]: str(value) for name, value in scope.get("path_params", {}).items() if name in _NAMED}
    return {name: value for name, value in found.items() if _ID.fullmatch(value)}


def _describe(span: Span, method: str, route: str | None, status: int) -> None:
    if span.is_recording():
        span.update_name(f"{method} {route}" if route else method)
        span.set_attributes({"http.request.method": method, "http.response.status_code": status})
        if route:
            span.set_attribute("http.route", route)


def _parent(scope: Scope) -> Parent | None:
    """The caller's span, by W3C's ``traceparent``."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and (match := _TRACEPARENT.fullmatch(value.decode("latin-1"))):
            trace, span, flags = (bytes.fromhex(part) for part in match.groups())
            return Parent(trace, span, sampled=bool(flags[0] & _SAMPLED))
    return None
