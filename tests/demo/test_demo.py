"""The main job end to end, with less training than `tensorguard demo` gives it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tensorguard.errors import UsageError

from api.demo import orchestrate
from api.demo.errors import PartFailedError
from api.demo.orchestrate import MODEL, TENANT, Scale
from api.demo.report import Replay, Report, check, fall_percent, show
from api.demo.screen import Screen
from tests.support.server import tensorguard, tensorguard_json

SMALL = Scale(base_steps=60, steps=16, steps_before_crash=8)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report, str]:
    root, printed = tmp_path_factory.mktemp("demo") / "out", io.StringIO()
    screen = Screen(Console(file=printed))
    report = orchestrate.run(root, None, screen, SMALL)
    show(report, screen.console)
    return root, report, printed.getvalue()


@pytest.mark.timeout(600)
def test_the_main_job_is_done_end_to_end(demo: tuple[Path, Report, str]) -> None:
    _, report, _ = demo
    assert report.base_held_out_loss < report.base_unigram_loss
    assert report.held_out_loss_after < report.held_out_loss_before
    assert report.fall_percent == pytest.approx(fall_percent(report.held_out_loss_before, report.held_out_loss_after))
    assert report.replay.identical
    assert report.replay.steps >= SMALL.steps_before_crash, "nothing was durable before the kill"
    assert {head.chain for head in report.heads} == {"platform", TENANT}
    assert all(head.signed == head.records for head in report.heads)
    assert all(sample.before != sample.after for sample in report.samples)


def test_the_report_says_what_was_measured(demo: tuple[Path, Report, str]) -> None:
    _, report, printed = demo
    assert f"{report.held_out_loss_before:.3f} → {report.held_out_loss_after:.3f}" in printed
    assert all(head.root in printed for head in report.heads)
    assert all(part in printed for part in report.seconds)
    assert json.loads(json.dumps(report.to_dict()))["ledger_records"] == report.ledger_records


def test_what_the_demo_leaves_can_be_looked_at(demo: tuple[Path, Report, str]) -> None:
    root, report, _ = demo
    heads = {each["chain"]: each["size"] for each in tensorguard_json("ledger", "head", "--data-dir", root / "data")}
    assert heads[TENANT] >= next(head.records for head in report.heads if head.chain == TENANT)
    assert tensorguard_json("audit", "verify", root / "ledger-export")["verified"]
    events = tensorguard_json("ledger", "show", "--data-dir", root / "data", "--chain", TENANT, "--limit", "10000")
    seen = {each["event"] for each in events}
    assert {"RunReplayed", "ForwardCompleted", "CheckpointSaved", "PackageSigned", "PackageOpened", "RunClosed"} <= seen
    assert "RunRolledBack" not in seen


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    done = tensorguard("demo", "--data-dir", tmp_path, check=False)
    assert done.returncode == UsageError.exit_code
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_too_little_text_is_told_and_the_demo_fails(tmp_path: Path) -> None:
    text = tmp_path / "little.txt"
    text.write_text("A sentence. " * 10)
    done = tensorguard("demo", "--data-dir", tmp_path / "out", "--text", text, check=False)
    assert done.returncode == 1
    assert "--text PATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loss_that_hardly_falls_fails_the_demo(demo: tuple[Path, Report, str]) -> None:
    _, report, _ = demo
    if report.fall_percent < 5:
        with pytest.raises(PartFailedError, match="only"):
            check(report)
    else:
        check(report)


def test_a_run_that_comes_back_as_another_adapter_fails_the_demo(demo: tuple[Path, Report, str]) -> None:
    printed = io.StringIO()
    report = replace(demo[1], replay=Replay(16, identical=False, differing_step=41, plan={"threads": 2}))
    show(report, Console(file=printed))
    with pytest.raises(PartFailedError, match="another adapter") as failed:
        check(report)
    assert "but differently" in printed.getvalue()
    assert "Step 41" in failed.value.next_step
    assert "threads" in failed.value.next_step


def test_the_catalogue_holds_the_base_model(demo: tuple[Path, Report, str]) -> None:
    root, _, _ = demo
    assert [each["name"] for each in tensorguard_json("models", "list", "--data-dir", root / "data")] == [MODEL]
