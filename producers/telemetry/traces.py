"""Spans: sent to an OTLP/HTTP collector where the settings name one, else nothing at all.

A trace runs through several processes, and the ledger between them holds its 16-byte id alone. So the span of a
command's submission has an id that follows from the command's id (:func:`span_id_of`): whoever reads the command or
what it led to knows the trace and the parent of what it does then, without a byte more on the ledger.

Source: W3C Trace Context; OpenTelemetry's OTLP/HTTP. OpenTelemetry's own variables apply (``OTEL_SERVICE_NAME``,
``OTEL_TRACES_SAMPLER``, ``OTEL_EXPORTER_OTLP_HEADERS``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry import trace as otel

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

PATH = "/v1/traces"
EXPORT_SECONDS = 2.0
"""For one export: a collector that is away must not hold up the end of a process."""
QUIET_SECONDS = 60.0
"""Between two lines about a collector that is away."""
TRACE_BYTES, SPAN_BYTES = 16, 8
Attributes: TypeAlias = Mapping[str, str | int | float | bool]
_NOTHING = nullcontext(otel.INVALID_SPAN)
_own_id: ContextVar[int | None] = ContextVar("own_id", default=None)


@dataclass(frozen=True, slots=True)
class Parent:
    """The span in another process that a span belongs under: ids of 16 and 8 bytes, and whether it is recorded."""

    trace: bytes
    span: bytes
    sampled: bool = True

    @classmethod
    def of_command(cls, trace: bytes, command_id: bytes) -> Parent:
        """The span of a command's submission."""
        return cls(trace, span_id_of(command_id))


def span_id_of(command_id: bytes) -> bytes:
    """The 8-byte id of the span under which a command is submitted."""
    return sha256(b"tensorguard/span/v1\0" + command_id).digest()[:SPAN_BYTES]


class Tracing:
    """The spans of one process. Without a tracer nothing is recorded, and next to nothing is done."""

    def __init__(self, tracer: Tracer | None = None, close: Callable[[], None] = lambda: None) -> None:
        self._tracer = tracer
        self.close = close
        """Send what is left; for at most a few seconds."""

    @classmethod
    def to(cls, endpoint: str | None, process: str) -> Tracing:
        """Spans of a process of this name, sent to a collector's OTLP/HTTP address, if there is one."""
        return cls.through(_otlp_exporter(endpoint), process) if endpoint else cls()

    @classmethod
    def through(cls, exporter: SpanExporter, process: str) -> Tracing:
        """Spans of a process of this name, handed in batches to an exporter from a thread of its own."""
        provider = _provider(exporter, process)
        return cls(provider.get_tracer("tensorguard"), provider.shutdown)

    @property
    def on(self) -> bool:
        """Whether spans are recorded."""
        return self._tracer is not None

    def span(
        self,
        name: str,
        *,
        parent: Parent | None = None,
        command_id: bytes | None = None,
        server: bool = False,
        attributes: Attributes | None = None,
        began: int | None = None,
    ) -> AbstractContextManager[Span]:
        """A span for the length of a block; without ``parent`` under the span of this context, if there is one.

        With ``command_id`` it is the span of this command's submission; ``began`` is when it began, in nanoseconds of
        POSIX time, if that was earlier.
        """
        if self._tracer is None:
            return _NOTHING
        kind = otel.SpanKind.SERVER if server else otel.SpanKind.INTERNAL
        token = _own_id.set(int.from_bytes(span_id_of(command_id), "big") if command_id else None)
        try:
            span = self._tracer.start_span(name, _remote(parent), kind, attributes, start_time=began)
        finally:
            _own_id.reset(token)
        return _current(span)

    def finished(self, name: str, parent: Parent, began: int, ended: int, attributes: Attributes | None = None) -> None:
        """Record a span that is over; ``began`` and ``ended`` are nanoseconds since the epoch."""
        if self._tracer is not None:
            span = self._tracer.start_span(name, _remote(parent), attributes=attributes, start_time=began)
            span.end(ended)


def trace_of(span: Span) -> bytes | None:
    """The 16-byte id of the trace that a span belongs to; None where nothing is recorded."""
    context = span.get_span_context()
    return context.trace_id.to_bytes(TRACE_BYTES, "big") if context.is_valid else None


@contextmanager
def _current(span: Span) -> Iterator[Span]:
    """Like OpenTelemetry's own, but no text of an exception enters the span: it may quote a payload."""
    with otel.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(otel.StatusCode.ERROR)
            raise


def _remote(parent: Parent | None) -> Context | None:
    if parent is None:
        return None
    context = otel.SpanContext(
        trace_id=int.from_bytes(parent.trace, "big"),
        span_id=int.from_bytes(parent.span, "big"),
        is_remote=True,
        trace_flags=otel.TraceFlags(otel.TraceFlags.SAMPLED if parent.sampled else otel.TraceFlags.DEFAULT),
    )
    return otel.set_span_in_context(otel.NonRecordingSpan(context))


def _otlp_exporter(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 -- only where it is used
        OTLPSpanExporter,
    )

    return OTLPSpanExporter(endpoint.rstrip("/") + PATH, timeout=EXPORT_SECONDS)


def _provider(exporter: SpanExporter, process: str) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 -- only where it is used
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- the same
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 -- the same
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415 -- the same

    class Ids(RandomIdGenerator):
        def generate_span_id(self) -> int:
            return _own_id.get() or super().generate_span_id()

    _quieten()
    service = os.environ.get("OTEL_SERVICE_NAME") or "tensorguard"
    resource = Resource.create({"service.name": service, "tensorguard.process": process, "process.pid": os.getpid()})
    provider = TracerProvider(resource=resource, id_generator=Ids(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _quieten() -> None:
    """What the exporter logs holds a collector's answers and addresses: its complaint is enough."""
    logging.getLogger("opentelemetry").handlers = [_Plain()]
    logging.getLogger("opentelemetry").propagate = False


class _Plain(logging.Handler):
    """One line of ours for the complaints of a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Log it by its place alone."""
        import structlog  # noqa: PLC0415 -- only when something is wrong

        if record.created >= self._next:
            self._next = record.created + QUIET_SECONDS
            structlog.get_logger("traces").warning("traces_not_sent", at=f"{record.filename}:{record.lineno}")
