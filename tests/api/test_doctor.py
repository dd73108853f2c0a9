"""The doctor finds what is wrong, says what to do about it, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorguard.cli.main import run

from api.doctor import fleet, installation, machine, software
from api.doctor.findings import Finding
from producers.clock import system_clock
from producers.home import write_home
from producers.sequencer.standby import Fencings
from producers.settings import read
from tests.support.doors import open_doors

DAY = 86_400 * 1_000_000
GIB = 1 << 30


def found(data_dir: Path, clock: Callable[[], int] = system_clock) -> dict[str, Finding]:
    """The worst finding of each check."""
    order = ("ok", "warning", "failed")
    seen = installation.look(data_dir, read(data_dir).settings, clock, server_runs=False)
    worst: dict[str, Finding] = {}
    for each in seen:
        if each.check not in worst or order.index(each.state) > order.index(worst[each.check].state):
            worst[each.check] = each
    return worst


def test_a_sound_installation_has_nothing_to_do(data_dir: Path) -> None:
    findings = found(data_dir)
    assert {finding.state for finding in findings.values()} == {"ok"}
    assert set(findings) == {"installation", "keys", "ledger", "signer", "clock", "models"}


def test_a_folder_that_is_not_there_yet_is_no_fault(tmp_path: Path) -> None:
    assert found(tmp_path / "none")["installation"].state == "ok"
    assert not (tmp_path / "none").exists()


def zero_the_last_record(data_dir: Path) -> None:
    with contextlib.closing(sqlite3.connect(data_dir / "ledger.db")) as db, db:
        last = "(chain, seq) = (SELECT chain, max(seq) FROM records WHERE chain = 2)"
        db.execute(f"UPDATE records SET data = zeroblob(length(data)) WHERE {last}")  # noqa: S608 -- our own text


DAMAGE: dict[str, tuple[str, str, str, Callable[[Path], object]]] = {
    "a key that is gone": ("keys", "failed", "worker.key", lambda path: (path / "keys/worker.key").unlink()),
    "a key cut short": ("keys", "failed", "31 bytes", lambda path: (path / "keys/gateway.key").write_bytes(bytes(31))),
    "an open key": ("keys", "failed", "chmod 600", lambda path: (path / "keys/artifact.key").chmod(0o644)),
    "an open folder": ("keys", "warning", "chmod go-rwx", lambda path: (path / "keys").chmod(0o755)),
    "a bad kek": ("keys", "failed", "damaged", lambda path: _kek(path).write_bytes(b"{}")),
    "no ledger": ("ledger", "failed", "backup", lambda path: (path / "ledger.db").unlink()),
    "a ledger that is none": ("ledger", "failed", "", lambda path: (path / "ledger.db").write_bytes(b"x" * 8192)),
    "a zeroed record": ("ledger", "failed", "", zero_the_last_record),
    "no identity": ("installation", "failed", "", lambda path: (path / "installation.json").write_text("{")),
}


def _kek(data_dir: Path) -> Path:
    path = data_dir / "keys" / "kek"
    path.touch(0o600)
    return path


@pytest.mark.parametrize(("check", "state", "said", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_named_with_a_next_step(
    data_dir: Path,
    capsys: pytest.CaptureFixture[str],
    check: str,
    state: str,
    said: str,
    damage: Callable[[Path], object],
) -> None:
    damage(data_dir)
    code = run(["doctor", "--data-dir", str(data_dir), "--json"])
    shown = [Finding(**each) for each in json.loads(capsys.readouterr().out)]
    worst = next(each for each in shown if (each.check, each.state) == (check, state))
    assert said in worst.detail + worst.next_step
    assert worst.next_step
    assert code == (1 if any(each.state == "failed" for each in shown) else 0)
    assert "Traceback" not in capsys.readouterr().err


def test_a_kek_under_another_master_secret_is_found(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_KEY_MASTER", "correct horse battery staple")
    with open_doors(data_dir) as doors:
        doors.create(metadata={"a": 1})
    assert found(data_dir)["keys"].state == "ok"
    monkeypatch.delenv("TG_KEY_MASTER")
    assert "TG_KEY_MASTER" in found(data_dir)["keys"].next_step


def test_a_model_whose_files_are_gone_is_named(data_dir: Path) -> None:
    with open_doors(data_dir):
        pass
    assert found(data_dir)["models"].state == "failed"
    assert "tiny" in found(data_dir)["models"].detail


@pytest.mark.parametrize(("days", "state"), [(0, "ok"), (-1, "warning"), (300, "ok"), (400, "failed")])
def test_the_clock_is_held_to_the_newest_record(days: int, state: str) -> None:
    assert installation.clock(1000 * DAY, (1000 + days) * DAY).state == state


def test_production_asks_for_its_gates(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "production" not in found(data_dir)
    monkeypatch.setenv("TG_ENVIRONMENT", "production")
    assert found(data_dir)["production"].state == "failed"


@pytest.mark.parametrize(
    ("finding", "state"),
    [
        (machine.cores(2), "ok"),
        (machine.cores(1), "warning"),
        (machine.memory(8 * GIB), "ok"),
        (machine.memory(2 * GIB), "warning"),
        (machine.memory(GIB - 1), "failed"),
        (machine.disk(Path("/"), 20 * GIB), "ok"),
        (machine.disk(Path("/"), 2 * GIB), "warning"),
        (machine.disk(Path("/"), GIB - 1), "failed"),
        (machine.syncing(Path("/proc")), "failed"),
        (machine.port("127.0.0.1", 0, server_runs=False), "ok"),
        (machine.port("192.0.2.1", 8000, server_runs=False), "failed"),
        (machine.port("192.0.2.1", 8000, server_runs=True), "ok"),
        (software.libraries(), "ok"),
        (software.sqlite(), "ok"),
        (software.post_quantum(), "ok"),
    ],
    ids=lambda value: f"{value.check}-{value.detail[:20]}" if isinstance(value, Finding) else value,
)
def test_the_machine_and_its_libraries_are_judged(finding: Finding, state: str) -> None:
    assert finding.state == state
    assert bool(finding.next_step) == (state != "ok")


def test_a_taken_port_is_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert machine.port("127.0.0.1", taken.getsockname()[1], server_runs=False).state == "failed"


def test_settings_that_cannot_be_used_and_names_that_are_none_are_told(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TG_" + "MISSPELT", "1")
    run(["doctor", "--data-dir", str(data_dir)])
    assert "MISSPELT is set, and no setting has that name" in capsys.readouterr().out
    monkeypatch.setenv("TG_PORT", "x")
    assert run(["doctor", "--data-dir", str(data_dir)]) == 1
    assert "FAILED  settings: TG_PORT" in capsys.readouterr().out


def test_a_ledger_that_was_moved_away_is_told(data_dir: Path) -> None:
    write_home(data_dir, "elsewhere")
    assert found(data_dir)["place"].state == "failed"
    assert "TG_LOG_URL" in found(data_dir)["place"].next_step


def test_the_processes_of_a_server_on_kafka_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_LOG_URL", "kafka://127.0.0.1:1")
    monkeypatch.setenv("TG_TRAINERS", "2")
    settings = read(tmp_path).settings
    [none] = fleet.look(tmp_path, settings)
    assert none.state == "ok"
    assert "sequencers: 1, trainers: 2" in none.detail
    told = {"supervisor": os.getpid(), "url": None, "running": {"signer": os.getpid()}, "starts": {"signer": 1}}
    path = tmp_path / "run" / "processes" / f"{socket.gethostname()}-{os.getpid()}.json"
    path.parent.mkdir(parents=True)
    for change, state in (
        ({}, "ok"),
        ({"running": {"signer": None}}, "warning"),
        ({"starts": {"signer": fleet.MANY_STARTS + 1}}, "warning"),
    ):
        path.write_text(json.dumps({**told, **change}))
        assert [each.state for each in fleet.look(tmp_path, settings)] == [state]
    rival = Fencings(tmp_path, 0, system_clock)
    rival.note()
    rival.note()
    assert [each.check for each in fleet.look(tmp_path, settings)] == ["processes", "sequencers"]
