"""``tensorguard audit`` as people and scripts run it: exit codes, JSON, messages with a next step."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.cli.main import run

from schemas import commands as c
from schemas import events as e
from tests.ledger.build import Ledger, good_ledger
from tests.ledger.test_proofs import receipt_of, without_extra

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def ledger() -> Ledger:
    return good_ledger()


@pytest.fixture
def export(ledger: Ledger, tmp_path: Path) -> Path:
    return ledger.write(tmp_path / "export")


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    assert run([str(argument) for argument in (*arguments, "--json")]) == code
    return json.loads(capsys.readouterr().out)


def damage(export: Path) -> None:
    path = export / "chains" / "acme" / "records"
    path.write_bytes(path.read_bytes()[:-1])


def test_a_good_export_exits_with_0(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", str(export)]) == 0
    assert capsys.readouterr().out.endswith("verified\n")
    report = run_json(capsys, "audit", "verify", export)
    assert (report["verified"], report["trust_root_pinned"], report["findings"]) == (True, False, [])


def test_a_damaged_export_exits_with_1_and_names_the_damage(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(export)
    report = run_json(capsys, "audit", "verify", export, code=1)
    assert {"export_unreadable", "truncated"} == {finding["code"] for finding in report["findings"]}
    assert run(["audit", "verify", str(export)]) == 1
    assert "NOT verified" in capsys.readouterr().out


WRONG_USAGE = {
    "no such export": ["audit", "verify", "nowhere"],
    "no argument": ["audit", "verify"],
    "an unknown option": ["audit", "verify", ".", "--fast"],
    "no such trust root": ["audit", "verify", ".", "--trust-root", "nowhere"],
    "options that exclude each other": ["audit", "verify", ".", "--raw", "--decisions"],
    "no such receipt": ["audit", "receipt", "nowhere", "--trust-root", "nowhere"],
    "a name too long for an export": ["audit", "verify", "x" * 300],
    "a name too long for a trust root": ["audit", "receipt", "nowhere", "--trust-root", "x" * 300],
    "a receipt without a trust root": ["audit", "receipt", "nowhere"],
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE.keys())
def test_wrong_usage_exits_with_2(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.err
    assert not shown.out


def test_an_error_is_a_problem_document_when_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", "nowhere", "--json"]) == 2
    problem = json.loads(capsys.readouterr().err)
    assert problem["type"] == "urn:tensorguard:problem:usage"
    assert problem["next_step"]


def test_a_trust_root_pins_the_authority(export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, theirs = tmp_path / "mine.json", tmp_path / "theirs.json"
    mine.write_bytes(good_ledger().trust_root)
    theirs.write_bytes(good_ledger("another").trust_root)
    assert run_json(capsys, "audit", "verify", export, "--trust-root", mine)["trust_root_pinned"]
    run_json(capsys, "audit", "verify", export, "--trust-root", theirs, code=1)


def test_a_checkpoint_seen_earlier_finds_a_rollback(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, seen = ledger.chains["acme"], tmp_path / "seen"
    seen.write_bytes(chain.checkpoint())
    chain.note, chain.records = chain.checkpoint(20), chain.records[:20]
    export = ledger.write(tmp_path / "older")
    assert run_json(capsys, "audit", "verify", export)["verified"]
    report = run_json(capsys, "audit", "verify", export, "--since", seen, code=1)
    assert [finding["code"] for finding in report["findings"]] == ["rolled_back"]


def test_records_not_yet_signed_fail_only_when_asked(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = ledger.chains["acme"]
    chain.note = chain.checkpoint(len(chain.records) - 2)
    export = ledger.write(tmp_path / "fresh")
    report = run_json(capsys, "audit", "verify", export)
    assert [each["unsigned"] for each in report["chains"]] == [2, 0]
    run_json(capsys, "audit", "verify", export, "--require-signed", code=1)


def test_the_decisions_are_run_again(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "audit", "verify", export, "--decisions")["decisions_replayed"]


def test_bytes_alone_can_be_checked(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json(capsys, "audit", "verify", export, "--raw")["verified"]
    damage(export)
    run_json(capsys, "audit", "verify", export, "--raw", code=1)


def test_a_receipt_says_which_event_it_proves(
    ledger: Ledger, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "package.tlog-proof"
    file.write_bytes(receipt_of(ledger.chains["acme"], 9))
    shown = run_json(capsys, "audit", "receipt", file, "--trust-root", export / "trust-root.json")
    assert (shown["chain"], shown["seq"], shown["proven"]) == ("acme", 9, True)
    assert shown["event"] in {"ProducerEnrolled", "SchemaRegistered", "ApiKeyIssued"}
    (export / "package.tlog-proof").write_bytes(file.read_bytes())
    assert run(["audit", "receipt", str(export / "package.tlog-proof")]) == 0


def test_what_a_record_says_is_not_obeyed_by_a_terminal(
    ledger: Ledger, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = ledger.chains["acme"]
    (signed,) = ledger.sign("gateway", [chain.envelope(c.CloseRun("run-1"))])
    chain.seal(signed, "run/\x1b[2K\rproven", (e.RunClosed("run-1"),))
    (tmp_path / "receipt").write_bytes(receipt_of(chain, len(chain.records) - 1))
    assert run(["audit", "receipt", str(tmp_path / "receipt"), "--trust-root", str(export / "trust-root.json")]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_receipt_without_its_record_takes_it_from_a_file(
    ledger: Ledger, export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chain = ledger.chains["acme"]
    bare, record, other = tmp_path / "bare.tlog-proof", tmp_path / "record", tmp_path / "other"
    bare.write_bytes(without_extra(receipt_of(chain, 9)))
    record.write_bytes(chain.records[9])
    other.write_bytes(chain.records[8])
    arguments = ("audit", "receipt", str(bare), "--trust-root", str(export / "trust-root.json"))
    assert run([*arguments, "--record", str(record)]) == 0
    assert run([*arguments, "--record", str(other)]) == 1
    assert run(arguments) == 1
    assert "--record" in capsys.readouterr().err


def test_a_damaged_receipt_exits_with_1(ledger: Ledger, export: Path) -> None:
    receipt = export / "damaged.tlog-proof"
    receipt.write_bytes(receipt_of(ledger.chains["acme"], 9).replace(b"index 9", b"index 8"))
    assert run(["audit", "receipt", str(receipt)]) == 1


def test_the_audit_needs_no_platform(export: Path) -> None:
    """In a fresh interpreter: neither the platform's rooms nor anything heavy is imported to verify."""
    script = (
        "import sys; from tensorguard.cli.main import run\n"
        f"code = run(['audit', 'verify', {str(export)!r}])\n"
        "heavy = {'torch', 'transformers', 'sqlalchemy', 'fastapi', 'schemas', 'producers', 'api', 'edge'}\n"
        "sys.exit(code or sorted(heavy & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, stdout=subprocess.DEVNULL)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip()
