"""The whole server on a real Kafka broker, by configuration alone: its processes die, come back, prove themselves."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tg_tinker import SamplingConfig, ServiceClient

from api.demo import fleet as demo
from api.doctor import installation as doctor
from api.doctor import kafka
from producers.clock import system_clock
from producers.deciders.registry import stream_of
from producers.engines.opening import kafka_config
from producers.errors import NoDecisionError
from producers.identities import make_envelope
from producers.installation import Installation
from producers.settings import read
from producers.submitter import Submitter
from schemas.commands import IssueApiKey
from tests.support.catalogue import add_model
from tests.support.fleet import BATCH, PATIENCE, RUN, Fleet, children, keep_on_kafka, send_steps, verify
from tests.support.kafka import broker
from tests.support.ledgers import python
from tests.support.server import BIN, LiveServer, free_port, tensorguard, tensorguard_json
from tests.support.tiny_model import build_tiny_model

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("sequencer", "signer", "worker", "trainer", "api")
STEPS = 3
PRINT_ENGINES = """
import sys
from pathlib import Path
from api.platform import Platform
platform = Platform.open(Path(sys.argv[1]))
print(platform.engine.sizes()["acme"])
print(*(name for name in sys.modules if name.startswith("producers.engines.")))
platform.close()
"""
IMPATIENT = """
import sys
from producers.engines.kafka import topics
from tensorguard.cli.main import run
topics._CONNECT_SECONDS = 0.5
sys.exit(run(["server", "--data-dir", sys.argv[1], "--port", "0"]))
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    root = tmp_path_factory.mktemp("kafka")
    data_dir = root / "data"
    keep_on_kafka(data_dir, broker().servers, api_processes=2)
    server = LiveServer(data_dir, root / "server.log", {"TG_CHECKPOINT_EVERY_STEPS": "4"}).start()
    try:
        add_model(data_dir, "tiny", build_tiny_model(root / "model"))
        key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
        with ServiceClient(base_url=server.url, api_key=key) as client:
            yield Fleet(server, client, key)
    finally:
        server.stop()


@pytest.mark.timeout(900)
def test_a_client_trains_to_its_end_through_the_death_of_every_process(fleet: Fleet, tmp_path: Path) -> None:
    training = fleet.client.create_training_client(RUN)
    futures = send_steps(training, STEPS)
    futures[0].result(timeout=PATIENCE)
    fleet.server.kill()
    fleet.server.start()
    for kind in KINDS:
        futures += send_steps(training, STEPS)
        fleet.kill(kind)
    futures += send_steps(training, STEPS)
    total = STEPS * (len(KINDS) + 2)
    assert [future.result(timeout=PATIENCE).step for future in futures] == list(range(1, total + 1))
    sample = training.sample(["to be"], SamplingConfig(max_tokens=4, temperature=0.0)).result(timeout=PATIENCE)
    assert sample.samples[0].completion
    verify(fleet.data_dir, tmp_path / "export")
    events = [each.event for each in fleet.client.get_audit_logs(limit=10_000)]
    assert events.count("StepApplied") == total, "no step may be lost or doubled"
    assert "RunReplayed" in events, "a kill must have met steps that no checkpoint covered"


@pytest.mark.timeout(300)
def test_a_future_that_one_process_took_is_awaited_at_another(fleet: Fleet) -> None:
    training = fleet.client.create_training_client(RUN)
    scene = demo.Scene(fleet.server.url, fleet.key, fleet.data_dir, fleet.server.log_path)
    with demo.two_doors(scene) as (one, other):
        submitted, awaited = demo.across(one, other, training.training_client_id, BATCH, scene.log)
    assert {submitted, awaited} == {"api-0", "api-1"}
    training.close()


@pytest.mark.timeout(400)
def test_no_part_of_the_embedded_engine_is_in_the_ledgers_path(fleet: Fleet) -> None:
    assert not list(fleet.data_dir.rglob("*ledger.db*"))
    assert [path.name for path in (fleet.data_dir / "checkpoints").iterdir()] == ["signer.json"]
    shown = python(PRINT_ENGINES, fleet.data_dir)
    size, modules = shown.communicate(timeout=60)[0].splitlines()
    assert int(size) > 1
    assert "producers.engines.kafka" in modules
    assert "producers.engines.sqlite " not in modules


@pytest.mark.timeout(400)
def test_the_server_says_which_processes_it_has_and_counts_what_all_of_them_did(fleet: Fleet) -> None:
    assert set(children(fleet.data_dir)) == {
        *("api-0", "api-1", "sequencer-0", "sequencer-1", "signer", "trainer", "worker")
    }
    given = ("--data-dir", fleet.data_dir, "--tenant", "operator", "--scope", "metrics")
    line = demo.Line(fleet.server.url, tensorguard_json("keys", "issue", *given)["api_key"])
    with closing(line):
        samples = dict(each.rsplit(" ", 1) for each in line.text("GET", "/metrics").splitlines() if each[:1] != "#")
    assert float(samples['tensorguard_commands_total{command="IssueApiKey",outcome="accepted"}']) >= 1
    assert float(samples['tensorguard_process_up{process="sequencer-1"}']) == 1
    assert float(samples['tensorguard_process_starts_total{process="api-1"}']) >= 1


@pytest.mark.timeout(400)
def test_the_doctor_asks_the_brokers_and_looks_at_the_topics(fleet: Fleet) -> None:
    settings = read(fleet.data_dir).settings
    found = {each.check: each for each in kafka.look(kafka_config(settings))}
    assert {name: each.state for name, each in found.items()} == {"kafka": "ok", "copies": "warning", "topics": "ok"}
    found = {each.check: each for each in doctor.look(fleet.data_dir, settings, system_clock, server_runs=True)}
    assert {found[name].state for name in ("ledger", "signer", "clock", "models")} == {"ok"}


@pytest.mark.timeout(400)
def test_the_page_shows_what_starts_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("\n## On Kafka\n")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    start, export, server, issue = (shlex.split(line, comments=True) for line in block.splitlines())
    assert os.access(ROOT / start[0], os.X_OK)
    name, _, url = export[1].partition("=")
    monkeypatch.setenv(name, url)
    assert kafka_config(read().settings).servers == url.removeprefix("kafka://")
    monkeypatch.delenv(name)
    assert server == ["tensorguard", "server", "--data-dir", "./data", "&"]
    tensorguard(*(str(fleet.data_dir) if word == "./data" else word for word in issue[1:]))


@pytest.mark.timeout(400)
def test_sequencers_of_a_second_server_stand_by_or_let_the_first_ones_do_so(fleet: Fleet, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(fleet.data_dir, twin, ignore=shutil.ignore_patterns("run", "bells", "views*"))
    command = [BIN / "tensorguard", "server", "--only", "sequencer", "--data-dir", twin]
    log = tmp_path / "twin.log"
    with log.open("ab") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as rival:
        while "standing_by" not in log.read_text() + fleet.server.log():
            tensorguard("keys", "issue", "--data-dir", fleet.data_dir, "--tenant", "acme")
        tensorguard("keys", "issue", "--data-dir", twin, "--tenant", "acme")
        rival.terminate()
        assert rival.wait(60) == 0
    assert fleet.server.process is not None
    assert fleet.server.process.poll() is None, "the first server goes on"
    tensorguard("keys", "issue", "--data-dir", fleet.data_dir, "--tenant", "acme")
    verify(fleet.data_dir, tmp_path / "export")


@pytest.mark.timeout(400)
def test_a_second_server_on_the_data_directory_is_refused(fleet: Fleet) -> None:
    for words in ((), ("--only", "sequencer")):
        given = ("server", "--data-dir", fleet.data_dir, "--port", "0", *words)
        done = tensorguard(*given, check=False, timeout=100)
        assert done.returncode == 1
        assert "Another server runs on this data dir" in done.stderr


@pytest.mark.timeout(120)
def test_without_a_server_a_command_is_kept_and_says_to_start_one(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    keep_on_kafka(data_dir, broker().servers)
    with closing(Installation.open(data_dir)) as installation:
        engine = installation.engine()
        with closing(Submitter(installation, engine)) as submitter:
            key = IssueApiKey("00" * 8, bytes(32), ("train",))
            given = {"stream": stream_of(key), "command_id": bytes(16), "now": installation.clock()}
            asked = make_envelope(key, chain="acme", **given)
            with pytest.raises(NoDecisionError, match="Start `tensorguard server`"):
                submitter.submit_and_wait(installation.producer("authority"), asked, timeout=0.05)
        assert len(engine.intake(0, 2)) == 1
        assert not engine.chains()


@pytest.mark.timeout(120)
def test_a_server_whose_brokers_are_away_says_what_to_look_at(tmp_path: Path) -> None:
    keep_on_kafka(tmp_path / "data", f"127.0.0.1:{free_port()}")
    command = [sys.executable, "-c", IMPATIENT, str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "TG_LOG_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("TG_API_PROCESSES", "2", ()), ("TG_WORKERS", "2", ()), (None, None, ("--only", "api"))],
)
def test_what_a_ledger_in_a_file_does_not_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, value: str, words: tuple[str, ...]
) -> None:
    if name is not None:
        monkeypatch.setenv(name, value)
    done = tensorguard("server", "--data-dir", tmp_path / "data", "--port", "0", *words, check=False)
    assert done.returncode == 2
    assert "TG_LOG_URL=kafka://host:port" in done.stderr
