"""A real OTLP/HTTP collector, as small as it can be: it decodes what comes and keeps it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.http_server import serving

SECONDS = 30.0


@dataclass(frozen=True)
class Seen:
    """A span as it arrived."""

    process: str
    name: str
    trace: str
    span: str
    parent: str
    attributes: frozenset[str]


class Collector:
    """What has arrived so far."""

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._spans: list[Seen] = []

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        spans = [
            Seen(
                {pair.key: pair.value.string_value for pair in resource.resource.attributes}["tensorguard.process"],
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                frozenset(str(pair) for pair in span.attributes),
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._arrived:
            self._spans += spans
            self._arrived.notify_all()

    def of_trace(self, trace: str, count: int) -> list[Seen]:
        """The spans of a trace, once there are so many."""
        with self._arrived:
            self._arrived.wait_for(lambda: len(self._of(trace)) >= count, SECONDS)
            return self._of(trace)

    def _of(self, trace: str) -> list[Seen]:
        return [span for span in self._spans if span.trace == trace]


@contextmanager
def collecting() -> Iterator[tuple[str, Collector]]:
    """A collector on a port of the loopback address: its endpoint, and what it has."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler) as url:
        yield url, collector
