"""One operation is one trace: from the SDK's call through doors, sequencer and trainer to the ledger's records."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from producers.engines.sqlite import SqliteEngine
from producers.feed import Feed, Recorded
from producers.telemetry.traces import span_id_of
from schemas import events as e
from tests.observability.receiver import Collector, collecting
from tests.observability.test_metrics import Scrape
from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard_json
from tests.support.tiny_model import build_tiny_model

CANARY = [11, 97, 23, 89, 31, 83, 41, 79]
CLIENT = """
import json, sys
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from tg_tinker import LoRAConfig, ServiceClient, TrainingConfig

url, key, endpoint, tokens = *sys.argv[1:4], json.loads(sys.argv[4])
provider = TracerProvider(resource=Resource.create({"tensorguard.process": "client"}))
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint + "/v1/traces")))
trace.set_tracer_provider(provider)
lora = LoRAConfig(rank=4, alpha=8, dropout=0.0, target_modules=["q_proj"])
batch = {"input_ids": [tokens], "attention_mask": [[1] * len(tokens)], "labels": [tokens]}
with ServiceClient(base_url=url, api_key=key) as client:
    run = client.create_training_client(TrainingConfig(model_ref="tiny", lora_config=lora))
    with trace.get_tracer("training").start_as_current_span("step") as span:
        future = run.forward_backward(batch)
        future.result(timeout=60)
    run.optim_step().result(timeout=60)
provider.shutdown()
print(json.dumps([run.training_client_id, future.future_id, f"{span.get_span_context().trace_id:032x}"]))
"""


@dataclass(frozen=True)
class Session:
    """What a client did, and what is to be seen of it."""

    run_id: str
    future_id: str
    trace: str
    collector: Collector
    records: list[Recorded]
    log: list[dict[str, Any]]
    scrape: Scrape
    status: int


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    work = tmp_path_factory.mktemp("traced")
    data_dir = work / "data"
    add_model(data_dir, "tiny", build_tiny_model(work / "model"))
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    watcher = ("keys", "issue", "--data-dir", data_dir, "--tenant", "operator", "--scope", "metrics")
    metrics_key = tensorguard_json(*watcher)["api_key"]
    with collecting() as (endpoint, collector):
        server = LiveServer(data_dir, work / "server.log", {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}).start()
        try:
            client = subprocess_output(CLIENT, server.url, key, endpoint, json.dumps(CANARY))
            run_id, future_id, trace = json.loads(client)
            headers = {"Authorization": f"Bearer {metrics_key}"}
            scraped = Scrape(httpx.get(f"{server.url}/metrics", headers=headers).raise_for_status().text)
        finally:
            status = server.stop()
        log = [json.loads(line) for line in server.log().splitlines()]  # each line of each process is an object
        records = list(records_of(data_dir))
        yield Session(run_id, future_id, trace, collector, records, log, scraped, status)


def subprocess_output(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def records_of(data_dir: Path) -> Iterator[Recorded]:
    engine = SqliteEngine(data_dir / "ledger.db")
    feed = Feed(engine)
    while batch := feed.poll():
        yield from batch
    engine.close()


def test_one_forward_backward_is_one_trace_from_the_sdk_to_the_record(session: Session) -> None:
    spans = {(span.process, span.name): span for span in session.collector.of_trace(session.trace, 9)}
    doors = ("server", "POST /v1/training_clients/{training_client_id}/forward_backward")
    chain = [
        ("client", "step"),
        ("client", "tg_tinker.forward_backward"),
        doors,
        ("server", "submit SubmitForwardBackward"),
        ("trainer", "forward_backward"),
        ("trainer", "submit CompleteForwardBackward"),
        ("server", "decide CompleteForwardBackward"),
    ]
    for above, below in pairwise(chain):
        assert spans[below].parent == spans[above].span, below
    submitted = spans["server", "submit SubmitForwardBackward"]
    assert submitted.span == span_id_of(bytes.fromhex(session.future_id)).hex()
    assert spans["server", "decide SubmitForwardBackward"].parent == submitted.span
    assert spans["client", "tg_tinker.result"].parent == spans["client", "step"].span
    of_it = [each for each in session.records if each.meta.trace == bytes.fromhex(session.trace)]
    assert [type(each.event) for each in of_it] == [e.ForwardBackwardSubmitted, e.ForwardBackwardCompleted]


def test_no_span_tells_of_data(session: Session) -> None:
    texts = [f"{span.name} {sorted(span.attributes)}" for span in session.collector.of_trace(session.trace, 9)]
    assert texts
    assert not any(str(CANARY)[1:-1] in text or "input_ids" in text for text in texts)


def test_the_lines_of_one_request_carry_the_same_ids_in_doors_and_trainer(session: Session) -> None:
    in_trace = [line for line in session.log if line.get("trace_id") == session.trace]
    submitted = next(line for line in in_trace if str(line.get("route")).endswith("/forward_backward"))
    executed = next(line for line in in_trace if line["event"] == "operation")
    assert executed["operation_id"] == session.future_id
    assert (executed["kind"], executed["outcome"]) == ("forward_backward", "CompleteForwardBackward")
    for name, value in (("request_id", submitted["request_id"]), ("run_id", session.run_id)):
        assert submitted[name] == executed[name] == value
    record = next(each for each in session.records if isinstance(each.event, e.ForwardBackwardSubmitted))
    assert record.meta.correlation == bytes.fromhex(submitted["request_id"])


def test_a_request_has_one_line_and_a_health_check_none(session: Session) -> None:
    requests = [line for line in session.log if line["event"] == "request"]
    assert len({line["request_id"] for line in requests}) == len(requests) > 3
    assert not {line["route"] for line in requests} & {"/healthz", "/readyz"}
    for line in requests:
        assert {"method", "route", "status", "ms"} <= line.keys()


def test_a_scrape_of_a_whole_server_tells_of_its_children(session: Session) -> None:
    found = session.scrape
    assert [found.value("process_up", process=name) for name in ("server", "signer", "trainer", "packager")] == [1] * 4
    assert [found.value("process_starts_total", process=name) for name in ("signer", "trainer", "packager")] == [1] * 3
    assert found.value("process_resident_bytes", process="trainer") > 1 << 26
    assert found.value("tokens_total", kind="trained") == len(CANARY)
    assert found.value("queue_depth", kind="optim_step") == 0
    assert found.value("exchange_bytes_total", direction="from_trainer") > 0


def test_a_server_that_makes_traces_ends_in_good_order(session: Session) -> None:
    assert session.status == 0
    assert not [line for line in session.log if line["event"] in ("traces_not_sent", "observer_failed")]
