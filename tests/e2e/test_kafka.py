"""The whole server on a real Kafka broker, by configuration alone: it trains, dies, is fenced, proves itself."""

from __future__ import annotations

import os
import shlex
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tg_tinker import LoRAConfig, OptimizerConfig, SamplingConfig, ServiceClient, TrainingConfig

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
from tests.support.kafka import Broker, broker, own_broker
from tests.support.ledgers import python
from tests.support.server import LiveServer, free_port, tensorguard, tensorguard_json
from tests.support.tiny_model import build_tiny_model

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0
STEPS = 6
PRINT_ENGINES = """
import sys
from pathlib import Path
from api.platform import Platform
platform = Platform.open(Path(sys.argv[1]))
print(platform.engine.sizes()["acme"])
print(*(name for name in sys.modules if name.startswith("producers.engines.")))
platform.close()
"""


@dataclass
class Place:
    """A server whose ledger is on the broker, and a client of it."""

    server: LiveServer
    client: Any
    data_dir: Path
    broker: Broker

    def run(self) -> Any:
        return self.client.create_training_client(
            TrainingConfig(
                model_ref="tiny",
                lora_config=LoRAConfig(rank=4, alpha=8, dropout=0.0, target_modules=("q_proj", "v_proj")),
                optimizer=OptimizerConfig(learning_rate=1e-3),
                seed=7,
            )
        )

    def verify(self, out: Path) -> None:
        tensorguard("ledger", "export", "--data-dir", self.data_dir, "--out", out)
        report = tensorguard_json("audit", "verify", out, "--decisions", "--require-signed")
        assert report["verified"], report


@contextmanager
def supervised(server: LiveServer) -> Iterator[None]:
    """What systemd does for a server: one that ends is started again."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(0.2):
            if server.process is not None and server.process.poll() is not None:
                server.start(ready=False)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def keep_on_kafka(data_dir: Path, servers: str) -> None:
    """Settings of a data directory: a ledger of its own on a broker."""
    data_dir.mkdir(parents=True)
    lines = (
        f'log_url = "kafka://{servers}"',
        "kafka_partitions = 2",  # `acme` belongs to one of them, `platform` to the other
        f'kafka_prefix = "t{uuid4().hex[:12]}"',
    )
    (data_dir / "settings.toml").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("kafka")
    data_dir = root / "data"
    with own_broker() as own:
        keep_on_kafka(data_dir, own.servers)
        server = LiveServer(data_dir, root / "server.log", {"TG_CHECKPOINT_EVERY_STEPS": "4"}).start()
        try:
            tensorguard("models", "add", "tiny", build_tiny_model(root / "model"), "--data-dir", data_dir)
            key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
            with ServiceClient(base_url=server.url, api_key=key) as client:
                yield Place(server, client, data_dir, own)
        finally:
            server.stop()


def send_steps(training: Any, count: int) -> list[Any]:
    """Futures of so many steps, none of them awaited."""
    rows = [list(range(5, 17)), list(range(20, 32))]
    batch = {"input_ids": rows, "attention_mask": [[1] * 12] * 2, "labels": rows}
    return [training.optim_step() for _ in range(count) if training.forward_backward(batch)]


@pytest.mark.timeout(600)
def test_a_client_trains_to_its_end_through_kills_and_the_ledger_verifies(place: Place, tmp_path: Path) -> None:
    training = place.run()
    futures = send_steps(training, STEPS)
    futures[0].result(timeout=PATIENCE)
    place.server.kill()
    place.server.start()
    futures += send_steps(training, STEPS)
    futures[STEPS].result(timeout=PATIENCE)
    place.server.kill_child("processors.trainer")
    futures += send_steps(training, STEPS)
    assert [future.result(timeout=PATIENCE).step for future in futures] == list(range(1, 3 * STEPS + 1))
    sample = training.sample(["to be"], SamplingConfig(max_tokens=4, temperature=0.0)).result(timeout=PATIENCE)
    assert sample.samples[0].completion
    place.verify(tmp_path / "export")
    events = [each.event for each in place.client.get_audit_logs(limit=10_000)]
    assert events.count("StepApplied") == 3 * STEPS, "no step may be lost or doubled"
    assert "RunReplayed" in events, "a kill must have met steps that no checkpoint covered"


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_broker_that_is_killed_and_comes_back_loses_nothing(place: Place, tmp_path: Path) -> None:
    training = place.run()
    with supervised(place.server):
        futures = send_steps(training, STEPS)
        futures[0].result(timeout=PATIENCE)
        place.broker.stop()
        place.broker.start()
        futures += send_steps(training, STEPS)
        assert [future.result(timeout=PATIENCE).step for future in futures] == list(range(1, 2 * STEPS + 1))
        place.verify(tmp_path / "export")
        place.server.wait_ready()


@pytest.mark.timeout(120)
def test_no_part_of_the_embedded_engine_is_in_the_ledgers_path(place: Place) -> None:
    assert not list(place.data_dir.rglob("*ledger.db*"))
    assert [path.name for path in (place.data_dir / "checkpoints").iterdir()] == ["signer.json"]
    shown = python(PRINT_ENGINES, place.data_dir)
    size, modules = shown.communicate(timeout=60)[0].splitlines()
    assert int(size) > 1
    assert "producers.engines.kafka" in modules
    assert "producers.engines.sqlite " not in modules


@pytest.mark.timeout(120)
def test_the_doctor_asks_the_brokers_and_looks_at_the_topics(place: Place) -> None:
    settings = read(place.data_dir).settings
    found = {each.check: each for each in kafka.look(kafka_config(settings))}
    assert {name: each.state for name, each in found.items()} == {"kafka": "ok", "copies": "warning", "topics": "ok"}
    found = {each.check: each for each in doctor.look(place.data_dir, settings, system_clock, server_runs=True)}
    assert {found[name].state for name in ("ledger", "signer", "clock", "models")} == {"ok"}


@pytest.mark.timeout(120)
def test_the_page_shows_what_starts_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("\n## On Kafka\n")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    start, export, server, issue = (shlex.split(line, comments=True) for line in block.splitlines())
    assert os.access(ROOT / start[0], os.X_OK)
    name, _, url = export[1].partition("=")
    monkeypatch.setenv(name, url)
    assert kafka_config(read().settings).servers == url.removeprefix("kafka://")
    monkeypatch.delenv(name)
    assert server == ["tensorguard", "server", "--data-dir", "./data", "&"]
    tensorguard(*(str(place.data_dir) if word == "./data" else word for word in issue[1:]))


@pytest.mark.timeout(300)
def test_a_second_server_of_the_same_ledger_takes_the_role_and_the_first_ends(place: Place, tmp_path: Path) -> None:
    twin_dir = tmp_path / "twin"
    shutil.copytree(place.data_dir, twin_dir, ignore=shutil.ignore_patterns("run", "bells", "views.db*"))
    twin = LiveServer(twin_dir, tmp_path / "twin.log", port=free_port()).start()
    try:
        tensorguard("keys", "issue", "--data-dir", twin_dir, "--tenant", "acme")
        assert place.server.process is not None
        assert place.server.process.wait(60) == 1
        assert "Another server writes this ledger now" in place.server.log()
    finally:
        assert twin.stop() == 0
    place.server.start()
    tensorguard("keys", "issue", "--data-dir", place.data_dir, "--tenant", "acme")


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
    done = tensorguard("server", "--data-dir", tmp_path / "data", "--port", "0", check=False, timeout=100)
    assert done.returncode == 1
    assert "TG_LOG_URL" in done.stderr
    assert "Traceback" not in done.stderr
