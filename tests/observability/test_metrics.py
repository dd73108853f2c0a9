"""What a scrape says is what happened, no more is said of anybody, and the page names all of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.observability.metrics import Metrics
from api.observability.standing import OPERATIONS, Processes, usage_of
from api.observability.trainers import KINDS as MEASURED
from api.observability.trainers import Trainers
from processors.exchange.errors import ExchangeError
from processors.exchange.hub import Hub
from processors.exchange.server import listening
from processors.exchange.trainer import TrainerClient
from processors.measures import Measures, Meter
from processors.trainer.watch import KINDS
from producers.engines.port import Commit, Quarantined
from producers.positions import PositionFile
from schemas import events
from tests.support.doors import OTHER, TENANT, Doors
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_platform import TinyPlatform

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
ROW = re.compile(r"^\| `(tensorguard_\w+)` \| (\w+) \| ([^|]+) \|", re.MULTILINE)
LABEL = re.compile(r"`(\w+)`")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scrape:
    """What was exposed: families by name, samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self._samples.get((f"tensorguard_{name}", frozenset(labels.items())), 0.0)

    def labels(self) -> set[tuple[str, str]]:
        return {pair for _, labels in self._samples for pair in labels}


def scrape(doors: Doors) -> Scrape:
    key = doors.issue(OTHER, ("metrics",))
    response = doors.call("GET", "/metrics", key=key)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scrape(response.text)


def test_the_page_names_every_metric_with_its_type_and_labels(doors: Doors) -> None:
    run = doors.create()
    doors.worker.take(run)
    doors.worker.gradient(doors.forward_backward(run))
    watched = doors.platform.metrics
    watched.watch(Processes(lambda: {"signer": None}, lambda: {"signer": 1}))
    exposed = {}
    for family in scrape(doors).families.values():
        suffix = "_total" if family.type == "counter" else ""
        names = {name for sample in family.samples for name in sample.labels} - {"le"}
        exposed[family.name + suffix] = (family.type, names)
    named = {name: (kind, set(LABEL.findall(labels))) for name, kind, labels in ROW.findall(PAGE)}
    assert {name: kind for name, (kind, _) in named.items()} == {name: kind for name, (kind, _) in exposed.items()}
    for name, (_, labels) in exposed.items():
        assert labels in (set(), named[name][1]), name


def test_work_moves_the_figures_by_as_much_as_was_done(doors: Doors) -> None:
    run = doors.create()
    doors.worker.take(run)
    first, second = doors.forward_backward(run), doors.forward_backward(run)
    waiting = scrape(doors)
    assert (waiting.value("queue_depth", kind="forward_backward"), waiting.value("open_runs")) == (2, 1)
    doors.worker.gradient(first)
    doors.worker.gradient(second)
    done = scrape(doors)
    assert done.value("queue_depth", kind="forward_backward") == 0
    assert done.value("tokens_total", kind="trained") == 16
    assert done.value("leases_total") == 1
    assert done.value("events_total", event="ForwardBackwardCompleted") == 2
    assert done.value("commands_total", command="SubmitForwardBackward", outcome="accepted") == 2
    assert done.value("ledger_lag_records") == 0
    assert done.value("signer_lag_records") == done.value("ledger_records") > 0  # nobody signs here
    assert 0 < done.value("signer_lag_records_most") < done.value("signer_lag_records")
    assert done.value("ledger_epoch") == doors.platform.engine.epoch() > 0


def test_a_processor_that_does_not_run_has_no_sample(doors: Doors) -> None:
    engine, folder = doors.platform.engine, doors.platform.installation.data_dir
    assert "tensorguard_processor_lag_records{" not in scrape(doors).text
    files = [PositionFile(folder, ["packager", "exporter"], lambda: 1), PositionFile(folder, ["packager"], lambda: 1)]
    sizes = engine.sizes()
    files[0].note(sizes)
    files[1].note({**sizes, "platform": sizes["platform"] - 2, TENANT: sizes[TENANT] - 3})
    found = scrape(doors)
    new = sum(engine.sizes().values()) - sum(sizes.values())  # the key of that scrape
    assert found.value("processor_lag_records", processor="packager") == 5 + new
    assert found.value("processor_lag_records_most", processor="packager") >= 3
    assert found.value("processor_lag_records", processor="exporter") == new
    for file in files:
        file.close()
    assert "tensorguard_processor_lag_records{" not in scrape(doors).text


def test_what_waits_and_what_was_set_aside_is_counted(doors: Doors) -> None:
    engine = doors.platform.engine
    position = engine.submit([b"no command"])[0]
    letters = [Quarantined(position, "undecidable", 1)]
    engine.commit(Commit(engine.epoch(), intake_position=position, quarantined=letters))
    found = scrape(doors)
    assert (found.value("dead_letters"), found.value("intake_entries")) == (1, 0)


def test_requests_are_counted_by_template_and_status_and_rejections_by_code(doors: Doors) -> None:
    run = doors.create()
    assert doors.call("GET", f"/v1/training_clients/{run}").status_code == 200
    assert doors.call("GET", "/v1/futures/" + "a" * 32).status_code == 404
    assert doors.call("GET", "/nowhere/secret-path?token=x").status_code == 404
    assert doors.call("POST", f"/v1/training_clients/{run}/optim_step", json={}).status_code == 409
    found = scrape(doors)
    template = "/v1/training_clients/{training_client_id}"
    assert found.value("requests_total", method="GET", route=template, status="200") == 1
    assert found.value("requests_total", method="GET", route="/v1/futures/{future_id}", status="404") == 1
    assert found.value("requests_total", method="GET", route="unknown", status="404") == 1
    assert found.value("request_seconds_count", method="GET", route=template) == 1
    assert sum(v for (n, _), v in found._samples.items() if n == "tensorguard_rejected_commands_total") == 1


def test_no_tenant_run_or_path_is_in_a_scrape(doors: Doors) -> None:
    run = doors.create()
    doors.forward_backward(run)
    doors.call("GET", f"/v1/training_clients/{run}", key=doors.other_key)
    doors.call("GET", "/somewhere/else?with=query")
    text = scrape(doors).text
    for named in (run, TENANT, OTHER, "somewhere", "query", doors.key[7:23]):
        assert named not in text


@pytest.mark.parametrize("scopes", [("read", "train", "package", "audit"), ()])
def test_a_tenants_key_reads_no_metrics(doors: Doors, scopes: tuple[str, ...]) -> None:
    assert doors.call("GET", "/metrics", key=doors.issue(TENANT, scopes)).status_code == 403
    assert doors.client.get("/metrics").status_code == 401


def test_two_platforms_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.answered("GET", "/healthz", 200, 0.1)
    assert b'route="/healthz"' in one.exposition()
    assert b'route="/healthz"' not in other.exposition()


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[tuple[TrainerClient, Callable[[], Scrape]]]:
    """A trainer's end of an exchange, and a scrape of what the exchange says."""
    hub, metrics = Hub(), Metrics()
    metrics.watch(Trainers(hub))
    with listening(hub, tmp_path):
        client = TrainerClient(tmp_path, "worker")
        yield client, lambda: Scrape(metrics.exposition().decode())
        client.close()
        assert hub.wait_gone("worker", 10)


def test_a_dead_trainers_sums_stay_and_its_levels_go(tmp_path: Path) -> None:
    hub, metrics = Hub(), Metrics()
    metrics.watch(Trainers(hub))
    with listening(hub, tmp_path):
        client = TrainerClient(tmp_path, "worker")
        meter = Meter(client.report, lambda: {"adapters": 3.0})
        meter.took("optim_step", 0.25)
        meter.took("checkpoint", 1.5)
        meter.tell(now=True)
        alive = Scrape(metrics.exposition().decode())
        client.close()
        assert hub.wait_gone("worker", 10)
    dead = Scrape(metrics.exposition().decode())
    assert (alive.value("adapters_in_memory"), dead.value("adapters_in_memory")) == (3, 0)
    assert dead.value("operation_seconds_sum", kind="optim_step") == 0.25
    assert dead.value("checkpoint_seconds_count") == 1


def test_a_meter_reports_once_a_second_and_nothing_twice() -> None:
    now, reports = [0.0], []
    meter = Meter(reports.append, seconds=lambda: now[0])
    for at in (0.0, 0.5, 0.9, 1.1, 1.2):
        now[0] = at
        meter.took("sample", at)
        meter.tell()
    meter.tell(now=True)
    assert [Measures.from_bytes(each).times for each in reports] == [
        {"sample": [0.0]},
        {"sample": [0.5, 0.9, 1.1]},
        {"sample": [1.2]},
    ]


MALFORMED = {
    "no json": b"{",
    "no object": b"[]",
    "times missing": b'{"levels": {}}',
    "not a number": b'{"times": {"a": ["x"]}, "levels": {}}',
    "negative": b'{"times": {"a": [-1]}, "levels": {}}',
    "infinite": b'{"times": {}, "levels": {"a": Infinity}}',
    "no name": b'{"times": {"": [1]}, "levels": {}}',
    "long name": b'{"times": {"' + b"a" * 65 + b'": [1]}, "levels": {}}',
    "times no list": b'{"times": {"a": 1}, "levels": {}}',
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_measures_change_nothing_and_end_no_connection(
    data: bytes, trainer: tuple[TrainerClient, Callable[[], Scrape]]
) -> None:
    with pytest.raises(ExchangeError):
        Measures.from_bytes(data)
    client, scraped = trainer
    before = scraped().families.keys()
    client.report(data)
    client.report(Measures({"an unknown name": [1.0]}, {}).to_bytes())
    assert scraped().families.keys() == before
    assert client.input(bytes(16)) is None


def test_a_process_is_up_until_it_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mine, theirs = usage_of(os.getpid()), usage_of(child.pid)
        assert mine is not None
        assert theirs is not None
        assert mine.resident_bytes > 1 << 20
        child.communicate(b"\n", timeout=20)
    assert usage_of(child.pid) is None
    metrics = Metrics()
    metrics.watch(Processes(lambda: {"trainer": child.pid, "signer": None}, lambda: {"trainer": 2}))
    found = Scrape(metrics.exposition().decode())
    assert [found.value("process_up", process=name) for name in ("server", "trainer", "signer")] == [1, 0, 0]
    assert found.value("process_starts_total", process="trainer") == 2


def test_every_kind_of_operation_has_a_name_and_is_measured() -> None:
    assert KINDS.keys() == {name for name in vars(events) if name.endswith("Submitted")}
    assert set(KINDS.values()) == set(OPERATIONS) <= set(MEASURED)


def test_a_trainer_tells_how_long_its_work_took(tmp_path: Path) -> None:
    metrics = Metrics()
    with TinyPlatform(tmp_path / "data", build_tiny_model(tmp_path / "model")) as platform:
        metrics.watch(Trainers(platform.hub))
        run = platform.create_run("r1")
        with platform.worker():
            run.train(1, 2)
    found = Scrape(metrics.exposition().decode())
    counts = [found.value("operation_seconds_count", kind=kind) for kind in ("forward_backward", "optim_step")]
    assert counts == [2, 2]
    assert found.value("checkpoint_seconds_count") == 1  # the one at its end
