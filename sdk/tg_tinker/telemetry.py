"""Spans of calls, under whatever OpenTelemetry tracer the caller has set up; without one nothing is done.

The package ``opentelemetry-api`` is optional (``tensorguard[telemetry]``). A call's span goes to the server as W3C's
``traceparent``, so that the server's spans are in the caller's trace, whose id the ledger's records hold.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import trace
except ImportError:  # the extra is not installed
    _otel: Any = None
else:
    _otel = trace

_LIBRARY = "tg_tinker"


@contextmanager
def call(flow: Generator[Any, Any, Any]) -> Iterator[None]:
    """A span for one call of the SDK. Of an error it holds the type alone: its text may quote data."""
    if _otel is None:
        yield
        return
    tracer = _otel.get_tracer(_LIBRARY)
    with tracer.start_as_current_span(
        f"{_LIBRARY}.{getattr(flow, '__name__', 'call').strip('_')}",
        kind=_otel.SpanKind.CLIENT,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(_otel.StatusCode.ERROR)
            raise


def name_call(name: str) -> None:
    """Call the present call's span by what it asks for."""
    if _otel is not None:
        _otel.get_current_span().update_name(f"{_LIBRARY}.{name}")


def headers() -> Mapping[str, str]:
    """The ``traceparent`` of the present call, if it belongs to a trace."""
    context = _otel.get_current_span().get_span_context() if _otel is not None else None
    if context is None or not context.is_valid:
        return {}
    return {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
