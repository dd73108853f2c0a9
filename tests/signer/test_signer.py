"""The signer: signs what extends, refuses what does not, and never makes two heads of one size."""

from __future__ import annotations

import json
import shutil
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tensorguard.ledger import checkpoint, trust
from tensorguard.ledger.merkle import leaf_hash, root_of
from tensorguard.ledger.record import decode_meta, decode_record, encode_record

from producers.engines.errors import UnreachableError
from producers.signer import Signer, SignerHome
from producers.signer.errors import ForkedError, SignerActiveError
from producers.signer.store import Head
from schemas.codec import event_schema
from tests.support.ledgers import ROOT, Ledger, python

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tensorguard.ledger.checkpoint import SignedCheckpoint

SOON = 30.0

STOP_BETWEEN = """
import os, signal, sys
from pathlib import Path
from producers.signer import Signer, SignerHome
from tests.support.ledgers import Ledger
ledger = Ledger(Path(sys.argv[1]))
home = SignerHome(ledger.folder)
signer = Signer(ledger.engine, home.store, ledger.installation.origin, ledger.clock)
for step in sys.argv[2].split(","):
    getattr(signer, step)()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


def run_signer(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "producers.signer", "--data-dir", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SOON, check=False)


def published(ledger: Ledger, chain: str = "acme") -> SignedCheckpoint:
    """The published checkpoint, with both signatures checked against the trust root."""
    note = ledger.engine.checkpoint(chain)
    assert note is not None
    root = trust.parse(ledger.installation.trust_root_path.read_bytes())
    return checkpoint.verify(note, root.chain_origin(chain), root.signer_keys)


def root_over(ledger: Ledger, chain: str, size: int) -> bytes:
    return root_of([leaf_hash(data) for data in ledger.engine.read(chain, 0, size)])


def issue(ledger: Ledger, count: int = 1) -> None:
    for _ in range(count):
        ledger.submitter.submit_and_wait(ledger.authority, ledger.issue()).raise_for_outcome()


def sql(ledger: Ledger, *statements: str) -> None:
    with sqlite3.connect(ledger.folder / "ledger.db") as db:
        for statement in statements:
            db.execute(statement.replace("ACME", "(SELECT id FROM chains WHERE name = 'acme')"))
    db.close()


def test_a_checkpoint_covers_all_that_is_committed(ledger: Ledger) -> None:
    ledger.sign()
    for chain in ("acme", "platform"):
        head, size = published(ledger, chain).checkpoint, ledger.engine.size(chain)
        assert (head.size, head.root) == (size, root_over(ledger, chain, size))


def test_the_process_signs_what_is_committed_and_ends(ledger: Ledger) -> None:
    issue(ledger, 3)
    assert run_signer(ledger.folder, "--once").returncode == 0
    assert published(ledger).checkpoint.size == ledger.engine.size("acme")


def test_the_running_process_signs_soon_after_each_commit(ledger: Ledger) -> None:
    process = subprocess.Popen([sys.executable, "-m", "producers.signer", "--data-dir", ledger.folder], cwd=ROOT)
    try:
        for _ in range(3):
            issue(ledger)
            note = ledger.engine.checkpoint("acme")
            while note is None or int(note.split(b"\n")[1]) < ledger.engine.size("acme"):
                before, note = note, ledger.engine.wait_checkpoint("acme", note, SOON)
                assert note != before, "no checkpoint in time"
            assert published(ledger).checkpoint.size == ledger.engine.size("acme")
    finally:
        process.terminate()
    assert process.wait(SOON) == 0


def test_nothing_new_is_not_signed_again(ledger: Ledger) -> None:
    ledger.sign()
    note = ledger.engine.checkpoint("acme")
    ledger.sign()
    assert ledger.engine.checkpoint("acme") == note


@pytest.mark.parametrize("steps", ["promise", "promise,sign"], ids=["before it signs", "before it publishes"])
def test_a_signer_killed_half_way_goes_on_to_the_very_head_it_promised(ledger: Ledger, steps: str) -> None:
    promised = ledger.engine.size("acme")
    python(STOP_BETWEEN, ledger.folder, steps).wait(SOON)
    home = SignerHome(ledger.folder)
    assert home.store.head("acme").size == promised
    kept = home.store.note("acme")
    home.close()
    assert ledger.engine.checkpoint("acme") is None
    ledger.sign()
    assert published(ledger).checkpoint.size == promised
    assert kept is None or ledger.engine.checkpoint("acme") == kept  # Signed once, published later.
    ledger.verify()


def test_a_promise_whose_record_is_gone_is_never_signed(ledger: Ledger) -> None:
    issue(ledger)
    python(STOP_BETWEEN, ledger.folder, "promise").wait(SOON)
    sql(
        ledger,
        "DELETE FROM records WHERE chain = ACME AND seq = (SELECT size - 1 FROM chains WHERE name = 'acme')",
        "UPDATE chains SET size = size - 1 WHERE name = 'acme'",
    )
    assert set(ledger.sign().refused) == {"acme"}
    assert ledger.engine.checkpoint("acme") is None


ATTACKS = {
    "rolled back": (
        "DELETE FROM records WHERE chain = ACME AND seq >= 6",
        "UPDATE chains SET size = 6 WHERE name = 'acme'",
        "ledger_rolled_back",
    ),
    "dropped whole": (
        "DELETE FROM records WHERE chain = ACME",
        "DELETE FROM chains WHERE name = 'acme'",
        "ledger_rolled_back",
    ),
    "last signed record exchanged": (
        "UPDATE records SET data = CAST(substr(data, 1, 60) || x'ff' || substr(data, 62) AS BLOB) WHERE chain = ACME",
        "SELECT 1",
        "ledger_forked",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_ledger_that_does_not_extend_is_refused_and_other_chains_go_on(ledger: Ledger, attack: str) -> None:
    issue(ledger)
    ledger.sign()
    note = ledger.engine.checkpoint("acme")
    *statements, code = ATTACKS[attack]
    sql(ledger, *statements)
    ledger.submitter.close()
    platform = ledger.engine.size("platform")
    refused = ledger.sign().refused
    assert {chain: error.code for chain, error in refused.items()} == {"acme": code}
    assert ledger.engine.checkpoint("acme") == note
    assert published(ledger, "platform").checkpoint.size == platform


def test_new_records_that_do_not_link_up_are_not_signed(ledger: Ledger) -> None:
    ledger.sign()
    signed = ledger.engine.size("acme")
    issue(ledger, 3)
    last = "(SELECT size - 1 FROM chains WHERE name = 'acme')"
    sql(
        ledger,
        f"DELETE FROM records WHERE chain = ACME AND seq = {last} - 1",  # noqa: S608 -- fixed text
        f"UPDATE records SET seq = seq - 1 WHERE chain = ACME AND seq = {last}",  # noqa: S608 -- fixed text
        "UPDATE chains SET size = size - 1 WHERE name = 'acme'",
    )
    assert isinstance(ledger.sign().refused["acme"], ForkedError)
    assert published(ledger).checkpoint.size == signed


def exchanged(data: bytes) -> bytes:
    """Another byte at the end of a record: the one behind it then links to nothing that is there."""
    return data[:-1] + bytes([data[-1] ^ 1])


def misplaced(data: bytes) -> bytes:
    """A record that follows the one before it, and says that it stands elsewhere."""
    text = event_schema("ApiKeyIssued").text
    record = decode_record(data, {decode_meta(data).schema: text})
    return encode_record(text, replace(record.meta, seq=record.meta.seq + 1), record.command, record.body)


def of_another_chain(data: bytes) -> bytes:
    text = event_schema("ApiKeyIssued").text
    record = decode_record(data, {decode_meta(data).schema: text})
    return encode_record(text, replace(record.meta, chain="beta"), record.command, record.body)


@pytest.mark.parametrize(("behind", "change"), [(2, exchanged), (1, misplaced), (1, of_another_chain)])
def test_a_new_record_that_is_not_the_next_one_is_not_signed(
    ledger: Ledger, behind: int, change: Callable[[bytes], bytes]
) -> None:
    ledger.sign()
    signed = ledger.engine.size("acme")
    issue(ledger, 3)
    seq = ledger.engine.size("acme") - behind
    (data,) = ledger.engine.read("acme", seq, 1)
    with sqlite3.connect(ledger.folder / "ledger.db") as db:
        acme = "chain = (SELECT id FROM chains WHERE name = 'acme')"
        db.execute(f"UPDATE records SET data = ? WHERE {acme} AND seq = ?", (change(data), seq))  # noqa: S608 -- fixed text
    db.close()
    assert isinstance(ledger.sign().refused["acme"], ForkedError)
    assert published(ledger).checkpoint.size == signed


def test_a_restored_backup_that_goes_another_way_is_refused_by_the_process(ledger: Ledger, tmp_path: Path) -> None:
    issue(ledger)
    ledger.close()
    shutil.copy(ledger.folder / "ledger.db", tmp_path / "backup.db")
    ledger = Ledger(ledger.folder)
    issue(ledger, 2)
    ledger.sign()
    ledger.close()
    shutil.copy(tmp_path / "backup.db", ledger.folder / "ledger.db")
    ledger = Ledger(ledger.folder)
    assert run_signer(ledger.folder, "--once").returncode == 1
    issue(ledger, 9)  # The restored ledger grows past what was signed, by other records.
    done = run_signer(ledger.folder, "--once")
    assert done.returncode == 1
    assert "ledger_forked" in done.stderr
    ledger.close()


def test_a_chain_that_cannot_be_read_holds_up_no_other_one(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    home = SignerHome(ledger.folder)
    signer = Signer(ledger.engine, home.store, "here", ledger.clock)
    read = ledger.engine.read

    def hanging(chain: str, start: int, limit: int) -> Sequence[bytes]:
        if chain == "acme":
            raise UnreachableError("It does not come.")
        return read(chain, start, limit)

    monkeypatch.setattr(ledger.engine, "read", hanging)
    with pytest.raises(UnreachableError):
        signer.advance()
    signer.advance()
    assert home.store.note("platform") is not None
    assert home.store.head("acme").size == 0
    monkeypatch.undo()
    signer.advance()
    assert home.store.head("acme").size == ledger.engine.size("acme")
    home.close()


def test_two_signers_never_run_on_one_data_dir(ledger: Ledger) -> None:
    home = SignerHome(ledger.folder)
    with pytest.raises(SignerActiveError):
        SignerHome(ledger.folder)
    done = run_signer(ledger.folder, "--once")
    assert done.returncode == 1
    assert "signer_active" in done.stderr
    home.close()


def test_a_head_is_promised_only_from_the_head_that_was_promised_before(ledger: Ledger) -> None:
    ledger.sign()
    home = SignerHome(ledger.folder)
    now, other = home.store.head("acme"), Head(Head().frontier.append(b"\x01" * 32), b"\x01" * 32)
    with pytest.raises(ForkedError):
        home.store.promise([("platform", home.store.head("platform"), other), ("acme", other, other)])
    assert home.store.head("acme") == now
    assert home.store.head("platform").size == ledger.engine.size("platform")  # All or none.
    home.close()


def test_neither_another_head_of_the_same_size_nor_a_checkpoint_of_another_size_is_taken(ledger: Ledger) -> None:
    ledger.sign()
    home = SignerHome(ledger.folder)
    now, note = home.store.head("acme"), home.store.note("acme")
    forked = Head(Head().frontier.extend([b"\x01" * 32] * now.size), b"\x01" * 32)
    with pytest.raises(ForkedError):
        home.store.promise([("acme", forked, Head(forked.frontier.append(b"\x02" * 32), b"\x02" * 32))])
    assert home.store.head("acme") == now
    home.store.keep_notes([("acme", now.size - 1, b"of an earlier head")])
    assert home.store.note("acme") == note
    home.close()


def test_the_newest_checkpoint_is_published_again_when_its_file_is_lost(ledger: Ledger) -> None:
    ledger.sign()
    note = ledger.engine.checkpoint("acme")
    (ledger.folder / "checkpoints" / "acme").unlink()
    ledger.sign()
    assert ledger.engine.checkpoint("acme") == note


def test_making_keys_twice_keeps_the_first(ledger: Ledger) -> None:
    public = (ledger.folder / "checkpoints" / "signer.json").read_bytes()
    assert run_signer(ledger.folder, "--init").returncode == 0
    assert (ledger.folder / "checkpoints" / "signer.json").read_bytes() == public
    assert stat.S_IMODE((ledger.folder / "signer").stat().st_mode) == 0o700


def test_after_a_rotation_the_same_heads_are_signed_by_the_new_keys(ledger: Ledger) -> None:
    ledger.sign()
    before = published(ledger)
    assert run_signer(ledger.folder, "--rotate").returncode == 0
    ledger.submitter.ensure_chain("platform")
    after = published(ledger)
    assert after.checkpoint == before.checkpoint
    keys = json.loads((ledger.folder / "checkpoints" / "signer.json").read_text())["keys"]
    assert [key["ed25519"] for key in keys] == [before.keys.ed25519.hex(), after.keys.ed25519.hex()]
    assert keys[0]["until"] == keys[1]["since"]
    ledger.verify()


def test_a_folder_that_is_no_data_dir_is_a_clear_error(tmp_path: Path) -> None:
    done = run_signer(tmp_path / "nothing", "--once")
    assert done.returncode == 1
    assert "installation" in done.stderr
    assert "Traceback" not in done.stderr
