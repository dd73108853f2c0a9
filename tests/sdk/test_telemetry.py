"""Calls are spans under the caller's own tracer, which the server is told of; without one nothing is sent."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace as otel
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tg_tinker import ServiceClient, TrainingClient, TrainingConfig, telemetry
from tg_tinker.errors import InvalidRequestError

from tests.sdk import simulator as simulation
from tests.sdk.simulator import Simulator

BATCH = {"input_ids": [[1, 2, 3]], "attention_mask": [[1, 1, 1]], "labels": [[1, 2, 3]]}


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What a caller's tracer has recorded, as if the caller had set one up."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(otel, "get_tracer", provider.get_tracer)
    return exporter


def sent(server: Simulator, path: str) -> list[str | None]:
    return [seen.headers.get("traceparent") for seen in server.seen if seen.path.endswith(path)]


def as_header(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{span.context.trace_flags:02x}"


def test_each_call_is_a_span_that_the_server_is_told_of(
    simulator: Simulator, training: TrainingClient, exporter: InMemorySpanExporter
) -> None:
    training.forward_backward(BATCH).result(timeout=10)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert spans.keys() == {"tg_tinker.forward_backward", "tg_tinker.result"}
    assert sent(simulator, "/forward_backward") == [as_header(spans["tg_tinker.forward_backward"])]


def test_calls_of_asyncio_at_one_time_are_told_apart(simulator: Simulator, exporter: InMemorySpanExporter) -> None:
    async def session() -> None:
        async with ServiceClient(simulator.url, simulation.API_KEY) as client:
            training = await client.create_training_client_async(TrainingConfig(model_ref="small"))
            await asyncio.gather(*(training.forward_backward_async(BATCH) for _ in range(3)))

    asyncio.run(session())
    spans = [span for span in exporter.get_finished_spans() if span.name == "tg_tinker.forward_backward"]
    assert len(spans) == 3
    assert set(sent(simulator, "/forward_backward")) == {as_header(span) for span in spans}


def test_of_a_failed_call_the_span_holds_the_type_alone(
    training: TrainingClient, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(InvalidRequestError):
        training.save_state("named", metadata={"secret": float("nan")})
    (span,) = exporter.get_finished_spans()
    assert span.attributes == {"error.type": "InvalidRequestError"}
    assert (span.status.description, list(span.events)) == (None, [])


def test_without_a_tracer_or_its_package_nothing_is_sent(
    simulator: Simulator, training: TrainingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    training.optim_step()
    monkeypatch.setattr(telemetry, "_otel", None)
    training.optim_step()
    assert sent(simulator, "/optim_step") == [None, None]
