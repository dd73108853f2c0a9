from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorguard.crypto.hpke import HpkePrivateKey
from tensorguard.ledger.envelope import key_id_of

from producers.identities import Producer
from producers.sequencer import SequencerLock
from tests.support.server import tensorguard, tensorguard_json

HEAVY = ("torch", "transformers", "peft", "fastapi", "sqlalchemy", "uvicorn")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("commands") / "data"
    tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")
    return data_dir


def test_a_key_is_issued_listed_and_revoked_on_a_data_dir_without_a_server(data_dir: Path) -> None:
    issued = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme", "--scope", "read")
    assert issued["api_key"].startswith(f"tg-key-{issued['key_id']}-")
    assert issued["scopes"] == ["read"]

    def listed() -> Any:
        rows = tensorguard_json("keys", "list", "--data-dir", data_dir, "--tenant", "acme")
        return next(row for row in rows if row["key_id"] == issued["key_id"])

    assert listed()["revoked_at"] is None
    tensorguard("keys", "revoke", issued["key_id"], "--data-dir", data_dir)
    assert listed()["revoked_at"]
    again = tensorguard("keys", "revoke", issued["key_id"], "--data-dir", data_dir, check=False)
    assert (again.returncode, "already_revoked" in again.stderr) == (1, True)
    assert "Nothing is left to do." in again.stderr


def test_no_file_of_the_data_dir_holds_a_keys_secret(data_dir: Path) -> None:
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    secret = key.rpartition("-")[2].encode()
    assert not [path for path in data_dir.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_device_is_enrolled_by_its_public_keys(data_dir: Path, tmp_path: Path) -> None:
    public = Producer("device", bytes(range(32))).public_key
    sealed_to = HpkePrivateKey.generate().public_key
    keys = tmp_path / "device.json"
    keys.write_text(json.dumps({"public_key": public.hex(), "hpke_public_key": sealed_to.hex()}))
    where = ("--data-dir", data_dir, "--tenant", "acme")
    enrolled = tensorguard_json("devices", "enrol", *where, "--name", "till", "--public-keys", keys)
    assert enrolled["key_id"] == key_id_of(public).hex()
    assert [row["name"] for row in tensorguard_json("devices", "list", *where)] == ["till"]


def test_an_export_with_its_receipt_verifies_offline(data_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    tensorguard("ledger", "export", "--data-dir", data_dir, "--out", out)
    assert tensorguard_json("audit", "verify", out, "--decisions", "--require-signed")["verified"]
    records = tensorguard_json("ledger", "show", "--data-dir", data_dir, "--chain", "acme", "--limit", "100")
    issued = next(row for row in records if row["event"] == "ApiKeyIssued")
    for name, event in (("by-id", issued["event_id"]), ("by-place", f"acme:{issued['seq']}")):
        tensorguard("ledger", "prove", event, "--out", tmp_path / name, "--data-dir", data_dir)
        proven = tensorguard_json("audit", "receipt", tmp_path / name, "--trust-root", out / "trust-root.json")
        assert (proven["chain"], proven["seq"], proven["event"]) == ("acme", issued["seq"], "ApiKeyIssued")


def test_an_export_of_one_chain_has_the_platform_beside_it(data_dir: Path, tmp_path: Path) -> None:
    rows = tensorguard_json("ledger", "export", "--data-dir", data_dir, "--out", tmp_path / "x", "--chain", "acme")
    assert [row["chain"] for row in rows] == ["acme", "platform"]


def test_tiles_are_exported_added_to_and_verified(data_dir: Path, tmp_path: Path) -> None:
    export = ("ledger", "export", "--format", "tiles", "--data-dir", data_dir, "--out", tmp_path / "tiles")
    first = {row["chain"]: row for row in tensorguard_json(*export)}
    assert all(row["records"] == row["added"] > 0 for row in first.values())
    tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")
    heads = {row["chain"]: row["size"] for row in tensorguard_json("ledger", "head", "--data-dir", data_dir)}
    second = {row["chain"]: row for row in tensorguard_json(*export)}
    assert {name: row["records"] for name, row in second.items()} == heads
    assert {name: row["added"] for name, row in second.items()} == {
        name: size - first[name]["records"] for name, size in heads.items()
    }
    report = tensorguard_json("audit", "verify", tmp_path / "tiles", "--decisions")
    assert (report["verified"], report["records"]) == (True, sum(heads.values()))


def test_tiles_are_not_written_where_something_else_is(data_dir: Path, tmp_path: Path) -> None:
    where = ("--data-dir", data_dir, "--out", tmp_path / "export")
    tensorguard("ledger", "export", *where)
    done = tensorguard("ledger", "export", "--format", "tiles", *where, "--json", check=False)
    assert (done.returncode, json.loads(done.stderr.splitlines()[-1])["code"]) == (1, "foreign_log")
    assert tensorguard_json("audit", "verify", tmp_path / "export")["verified"]


def test_a_rotated_signer_still_vouches_for_everything(data_dir: Path, tmp_path: Path) -> None:
    rotated = tensorguard_json("signer", "rotate", "--data-dir", data_dir)
    assert rotated["keys"] >= 2
    tensorguard("ledger", "export", "--data-dir", data_dir, "--out", tmp_path / "export")
    assert tensorguard_json("audit", "verify", tmp_path / "export", "--decisions", "--require-signed")["verified"]


def test_a_rotation_beside_a_running_server_changes_nothing_and_says_what_to_do(data_dir: Path) -> None:
    before = (data_dir / "checkpoints" / "signer.json").read_bytes()
    lock = SequencerLock(data_dir)
    lock.acquire()
    try:
        done = tensorguard("signer", "rotate", "--data-dir", data_dir, "--json", check=False)
    finally:
        lock.close()
    problem = json.loads(done.stderr.splitlines()[-1])
    assert done.returncode == 1
    assert (problem["code"], problem["next_step"]) == ("signer_active", "Stop the server on this data directory first.")
    assert (data_dir / "checkpoints" / "signer.json").read_bytes() == before


def test_views_are_rebuilt_by_command(data_dir: Path) -> None:
    before = tensorguard_json("keys", "list", "--data-dir", data_dir)
    rows = tensorguard_json("projections", "rebuild", "--data-dir", data_dir)
    heads = tensorguard_json("ledger", "head", "--data-dir", data_dir)
    assert {row["chain"]: row["records"] for row in rows} == {head["chain"]: head["size"] for head in heads}
    assert tensorguard_json("keys", "list", "--data-dir", data_dir) == before


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a tenant of capitals": (("keys", "issue", "--tenant", "ACME"), 2, "usage"),
    "an unknown scope": (("keys", "issue", "--tenant", "acme", "--scope", "rule"), 2, "usage"),
    "an unknown key": (("keys", "revoke", "0" * 16), 1, "not_found"),
    "an unknown chain": (("ledger", "show", "--chain", "nobody"), 1, "not_found"),
    "an unknown event": (("ledger", "prove", "0" * 32, "--out", "/dev/null"), 1, "not_found"),
    "a record to come": (("ledger", "prove", "acme:1000000", "--out", "/dev/null"), 1, "not_found"),
    "an unknown model": (("models", "verify", "nobody"), 1, "not_found"),
    "a model that is not there": (("models", "add", "m", "/nowhere"), 1, "model_not_found"),
    "no file of keys": (
        ("devices", "enrol", "--tenant", "acme", "--name", "x", "--public-keys", "/nowhere"),
        2,
        "usage",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_ends_with_its_exit_code_and_a_next_step(data_dir: Path, name: str) -> None:
    arguments, status, code = WRONG[name]
    done = tensorguard(*arguments, "--data-dir", data_dir, "--json", check=False)
    assert done.returncode == status, done.stderr
    problem = json.loads(done.stderr.splitlines()[-1])
    assert (problem["code"], bool(problem["next_step"])) == (code, True)


def test_a_folder_that_is_no_installation_is_not_made_one_by_looking(tmp_path: Path) -> None:
    done = tensorguard("ledger", "head", "--data-dir", tmp_path / "typo", check=False)
    assert done.returncode == 2
    assert not (tmp_path / "typo").exists()


def test_the_command_line_starts_without_anything_heavy() -> None:
    script = f"""
import sys, typer
from api.commands import register
register(typer.Typer())
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


USELESS: dict[str, tuple[int, tuple[str, ...]]] = {
    "a server in a file": (1, ("server", "--data-dir", "{file}")),
    "a server below a file": (1, ("server", "--data-dir", "{file}/data")),
    "a position beyond all numbers": (2, ("ledger", "show", "--data-dir", "{data}", "--from", "9" * 30)),
    "keys of the wrong length": (
        2,
        ("devices", "enrol", "--data-dir", "{data}", "--tenant", "acme", "--name", "n", "--public-keys", "{short}"),
    ),
    "a name that is no text": (
        2,
        ("devices", "enrol", "--data-dir", "{data}", "--tenant", "acme", "--name", "\udcff", "--public-keys", "{good}"),
    ),
}


@pytest.mark.parametrize("name", USELESS)
def test_what_cannot_be_done_is_told_without_a_traceback(name: str, data_dir: Path, tmp_path: Path) -> None:
    status, arguments = USELESS[name]
    paths = {"data": data_dir, "file": tmp_path / "file", "short": tmp_path / "short", "good": tmp_path / "good"}
    paths["file"].write_text("")
    paths["short"].write_text(json.dumps({"public_key": "00", "hpke_public_key": "00"}))
    paths["good"].write_text(json.dumps({"public_key": "11" * 32, "hpke_public_key": "22" * 1216}))
    done = tensorguard(*(part.format(**paths) for part in arguments), check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
