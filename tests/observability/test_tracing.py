"""Traces cost nothing where nobody asked for them, and a collector that fails costs no more than its spans."""

from __future__ import annotations

import json

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.http import _parent
from producers.telemetry.traces import Parent, Tracing, span_id_of, trace_of
from tests.support.ledgers import python

TRACE, SPAN = "ab" * 16, "cd" * 8
CANARY = "the prompt of a tenant"
OFF = """
import sys
import api.server
from producers.telemetry.traces import Tracing
with Tracing.to(None, "server").span("a", parent=None) as span:
    assert not span.is_recording()
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
AWAY = """
import sys
sys.stderr = sys.stdout
from producers import logs
from producers.telemetry.traces import Tracing
logs.configure()
tracing = Tracing.to("http://127.0.0.1:9/" + sys.argv[1].replace(" ", "-"), "server")
for _ in range(2):
    with tracing.span("a"):
        pass
tracing.close()
"""


def test_without_a_collector_no_library_for_one_is_loaded() -> None:
    out, _ = python(OFF).communicate(timeout=60)
    assert out.splitlines()[-1] == "[]"


def test_a_collector_that_is_away_is_one_line_without_its_address() -> None:
    process = python(AWAY, CANARY)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["traces_not_sent"]
    assert "prompt" not in out


def test_a_span_holds_the_type_of_an_error_and_not_its_text() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing.through(exporter, "test")
    with pytest.raises(ValueError, match=CANARY), tracing.span("a"):
        raise ValueError(CANARY)
    (span,) = _spans(tracing, exporter)
    assert span.attributes == {"error.type": "ValueError"}
    assert (span.status.status_code, span.status.description, list(span.events)) == (otel.StatusCode.ERROR, None, [])


def test_the_span_of_a_command_is_known_to_whoever_knows_the_command() -> None:
    exporter, command = InMemorySpanExporter(), b"c" * 16
    tracing = Tracing.through(exporter, "test")
    with tracing.span("submit", parent=Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN)), command_id=command) as span:
        assert trace_of(span) == bytes.fromhex(TRACE)
        with tracing.span("within"):
            pass
    tracing.finished("decide", Parent.of_command(bytes.fromhex(TRACE), command), 1_000, 2_000)
    within, submit, decide = _spans(tracing, exporter)
    assert submit.context is not None
    assert within.context is not None
    assert submit.context.span_id == int.from_bytes(span_id_of(command), "big")
    assert within.context.span_id != submit.context.span_id
    for below in (within, decide):
        assert below.parent is not None
        assert (below.parent.trace_id, below.parent.span_id) == (int(TRACE, 16), submit.context.span_id)
    assert (decide.start_time, decide.end_time) == (1_000, 2_000)


def test_a_span_may_have_begun_before_it_is_spoken_of() -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing.through(exporter, "test")
    with tracing.span("sample", began=1_000):
        pass
    (span,) = _spans(tracing, exporter)
    assert span.start_time == 1_000


def _spans(tracing: Tracing, exporter: InMemorySpanExporter) -> tuple[ReadableSpan, ...]:
    tracing.close()
    return exporter.get_finished_spans()


HEADERS = {
    "none": None,
    "empty": "",
    "no version": f"{TRACE}-{SPAN}-01",
    "version ff": f"ff-{TRACE}-{SPAN}-01",
    "trace of zeroes": f"00-{'0' * 32}-{SPAN}-01",
    "span of zeroes": f"00-{TRACE}-{'0' * 16}-01",
    "upper case": f"00-{TRACE.upper()}-{SPAN}-01",
    "too short": f"00-{TRACE[:-1]}-{SPAN}-01",
    "more behind it": f"00-{TRACE}-{SPAN}-01-x",
    "no hexadecimal": f"00-{'g' * 32}-{SPAN}-01",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_what_is_no_traceparent_is_none(header: str | None) -> None:
    headers = [] if header is None else [(b"traceparent", header.encode())]
    assert _parent({"headers": headers}) is None


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("03", True), ("fe", False)])
def test_a_traceparent_says_whether_its_caller_records(flags: str, sampled: bool) -> None:  # noqa: FBT001 -- a table
    found = _parent({"headers": [(b"traceparent", f"00-{TRACE}-{SPAN}-{flags}".encode())]})
    assert found == Parent(bytes.fromhex(TRACE), bytes.fromhex(SPAN), sampled=sampled)
