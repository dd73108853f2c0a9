"""Tessera's fsck has the same opinion of an export's logs as our own verifier."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest
from tensorguard.ledger.note import ED25519, VerifierKey
from tensorguard.ledger.verify import verify_export

from tests.ledger.build import ed25519, good_ledger, raw, rotate_signer
from tests.ledger.logs import CHAIN, add, entries, write_tiles
from tests.support.fsck import fsck
from tests.support.http_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = 600


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_537])
def test_a_log_of_any_size_is_accepted(size: int, tmp_path: Path) -> None:
    add(tmp_path, entries(size))
    assert fsck(tmp_path / CHAIN)


def test_a_log_that_grew_in_the_folder_is_accepted_each_time(tmp_path: Path) -> None:
    records = entries(1030)
    for size in (0, 3, 3, 255, 256, 600, 1030):
        add(tmp_path, records[:size])
        assert fsck(tmp_path / CHAIN)


def test_every_chain_of_a_ledger_is_accepted(tmp_path: Path) -> None:
    export = write_tiles(good_ledger(), tmp_path / "export")
    assert verify_export(export).verified
    assert all(fsck(export / chain) for chain in ("acme", "platform"))


def test_a_log_is_accepted_after_its_signer_was_rotated(tmp_path: Path) -> None:
    ledger = good_ledger()
    write_tiles(ledger, tmp_path)
    rotate_signer(ledger, "signer-2")
    ledger.publish()
    write_tiles(ledger, tmp_path)
    assert all(fsck(tmp_path / chain) for chain in ("acme", "platform"))


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


def test_a_log_is_accepted_from_a_web_server_that_knows_nothing_of_logs(tmp_path: Path) -> None:
    add(tmp_path, entries(SIZE))
    with serving(partial(Quiet, directory=str(tmp_path))) as url:
        assert fsck(tmp_path / CHAIN, url=f"{url}/{CHAIN}/")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGE: dict[str, Callable[[Path], None]] = {
    "an entry is changed": lambda log: flip(log / "tile/entries/001", 40),
    "an entry of the partial bundle is changed": lambda log: flip(log / "tile/entries/002.p/88", 40),
    "a bundle is cut short": lambda log: cut(log / "tile/entries/000"),
    "a bundle is missing": lambda log: (log / "tile/entries/001").unlink(),
    "a leaf tile is changed": lambda log: flip(log / "tile/0/001", 4000),
    "a partial leaf tile is changed": lambda log: flip(log / "tile/0/002.p/88", 4),
    "a tile above the leaves is changed": lambda log: flip(log / "tile/1/000.p/2", 40),
    "a tile is cut short": lambda log: cut(log / "tile/0/000"),
    "a tile is missing": lambda log: (log / "tile/1/000.p/2").unlink(),
    "the signature is changed": lambda log: flip(
        log / "checkpoint", (log / "checkpoint").read_bytes().index(b"=") + 60
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_log_is_rejected_by_both(damage: Callable[[Path], None], tmp_path: Path) -> None:
    add(tmp_path, entries(SIZE), chain="platform")
    log = tmp_path / "platform"
    assert fsck(log)
    before = {finding.code for finding in verify_export(tmp_path).all_findings}
    damage(log)
    assert not fsck(log)
    after = {finding.code for finding in verify_export(tmp_path).all_findings}
    assert after - before & {"wrong_tile", "export_unreadable", "wrong_root", "malformed_note", "signature_invalid"}


def test_a_log_under_another_key_is_rejected(tmp_path: Path) -> None:
    add(tmp_path, entries(SIZE))
    name = VerifierKey.from_text((tmp_path / CHAIN / "signer.pub").read_text().strip()).name
    other = tmp_path / "other.pub"
    other.write_text(VerifierKey(name, ED25519, raw(ed25519("stranger"))).to_text() + "\n")
    assert not fsck(tmp_path / CHAIN, other)
