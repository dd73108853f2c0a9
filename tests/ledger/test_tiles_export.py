"""Exports of tiles: written once, added to, refused where they do not belong, and read back by the verifier."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.cli.main import run
from tensorguard.ledger.errors import ExportError, ForeignLogError, LedgerError, RuleBrokenError, UntrustedKeyError
from tensorguard.ledger.merkle import Frontier, leaf_hash
from tensorguard.ledger.note import ED25519, VerifierKey
from tensorguard.ledger.tiles_reader import TilesReader
from tensorguard.ledger.tiles_writer import tiles_writer
from tensorguard.ledger.verify import Options, verify_export

from producers.decisions import replay
from tests.ledger.build import Ledger, ed25519, good_ledger, raw, rotate_signer
from tests.ledger.logs import CHAIN, add, entries, files, sign, write_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

GROWN = 1030


@pytest.fixture
def ledger() -> Ledger:
    return good_ledger()


def codes(directory: Path, **options: Any) -> set[str]:
    return {finding.code for finding in verify_export(directory, Options(**options)).all_findings}


def read_back(directory: Path, chain: str = CHAIN) -> list[bytes]:
    return list(TilesReader(directory).records(chain))


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_what_was_written_is_read_back(size: int, tmp_path: Path) -> None:
    written = add(tmp_path, entries(size))
    assert (written.size, written.added) == (size, size)
    assert read_back(tmp_path) == entries(size)


def test_a_log_has_the_files_of_its_size_and_no_others(tmp_path: Path) -> None:
    add(tmp_path, entries(600))
    tiles = {"tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"}
    bundles = {"tile/entries/000", "tile/entries/001", "tile/entries/002.p/88"}
    assert set(files(tmp_path / CHAIN)) == {"checkpoint", "signer.pub"} | tiles | bundles
    assert set(files(tmp_path)) - {f"{CHAIN}/{name}" for name in files(tmp_path / CHAIN)} == {"trust-root.json"}


def test_the_checkpoint_is_the_one_that_was_published_and_the_key_is_its_signers(
    ledger: Ledger, tmp_path: Path
) -> None:
    export, chain = write_tiles(ledger, tmp_path / "export"), ledger.chains[CHAIN]
    assert (export / CHAIN / "checkpoint").read_bytes() == chain.note
    key = VerifierKey.from_text((export / CHAIN / "signer.pub").read_text().removesuffix("\n"))
    assert key == VerifierKey(f"{ledger.origin}/{CHAIN}", ED25519, ledger.signer_keys("signer-1").ed25519)


def test_a_rotated_signer_replaces_the_key_and_the_trust_root(ledger: Ledger, tmp_path: Path) -> None:
    tiles = write_tiles(ledger, tmp_path / "tiles")
    rotate_signer(ledger, "signer-2")
    ledger.publish()
    write_tiles(ledger, tiles)
    assert codes(tiles) == set()
    assert (tiles / "trust-root.json").read_bytes() == ledger.trust_root
    key = VerifierKey.from_text((tiles / CHAIN / "signer.pub").read_text().removesuffix("\n"))
    assert key.public_key == ledger.signer_keys("signer-2").ed25519


@settings(max_examples=15)
@given(st.lists(st.integers(0, GROWN), min_size=1, max_size=4).map(sorted))
def test_a_log_that_grew_in_portions_is_the_one_written_at_once(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("tiles")
    records, known = entries(GROWN), 0
    for size in sizes:
        assert add(folder / "grown", records[:size]).added == size - known
        known = size
    add(folder / "whole", records[:known])
    whole, grown = files(folder / "whole" / CHAIN), files(folder / "grown" / CHAIN)
    assert {name: grown[name] for name in whole if name != "checkpoint"} == {
        name: data for name, data in whole.items() if name != "checkpoint"
    }
    assert all(".p/" in name for name in set(grown) - set(whole))
    assert read_back(folder / "grown") == records[:known]


def test_a_partial_tile_goes_when_the_full_one_has_come(tmp_path: Path) -> None:
    records = entries(512)
    for size in (100, 200, 512):
        add(tmp_path, records[:size])
    log = tmp_path / CHAIN / "tile"
    assert {str(path.relative_to(log)) for path in log.rglob("*.p")} == {"1/000.p"}


def stamps(directory: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in directory.rglob("*") if p.is_file()}


def test_what_is_full_is_never_touched_again(tmp_path: Path) -> None:
    records = entries(GROWN)
    add(tmp_path, records[:600])
    before = stamps(tmp_path / CHAIN / "tile")
    asked: list[tuple[int, int]] = []
    ledger = good_ledger()
    with tiles_writer(tmp_path, ledger.trust_root) as writer:
        writer.write_chain(CHAIN, sign(records, ledger), lambda *span: asked.append(span) or records[slice(*span)])
    after = stamps(tmp_path / CHAIN / "tile")
    assert asked == [(512, GROWN)]
    kept = {path for path in before if path in after}
    assert {path: after[path] for path in kept} == {path: before[path] for path in kept}
    assert all(".p/" in path for path in set(before) - kept)


def test_an_export_of_nothing_new_changes_no_tile(tmp_path: Path) -> None:
    add(tmp_path, entries(600))
    before = stamps(tmp_path / CHAIN / "tile")
    assert add(tmp_path, entries(600)).added == 0
    assert stamps(tmp_path / CHAIN / "tile") == before


def test_memory_does_not_grow_with_the_chain(ledger: Ledger, tmp_path: Path) -> None:
    count, size = 8192, 4000

    def records(start: int, stop: int) -> Iterator[bytes]:
        return (number.to_bytes(8, "big") * (size // 8) for number in range(start, stop))

    root = Frontier().extend(map(leaf_hash, records(0, count))).root()
    tracemalloc.start()
    try:
        with tiles_writer(tmp_path, ledger.trust_root) as writer:
            writer.write_chain(CHAIN, ledger.sign_head(CHAIN, count, root), records)
        assert sum(1 for _ in TilesReader(tmp_path).records(CHAIN)) == count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < count * size / 4


# --- where it does not belong -------------------------------------------------------------------------------------


def no_export(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def export_of_records(folder: Path) -> None:
    good_ledger().write(folder)


def another_installation(folder: Path) -> None:
    add(folder, entries(600), good_ledger("another"))


def another_history(folder: Path) -> None:
    add(folder, entries(600, "other "))


def longer_log(folder: Path) -> None:
    add(folder, entries(GROWN + 1))


def another_log_that_was_interrupted(folder: Path) -> None:
    add(folder, entries(600, "other "))
    (folder / CHAIN / "checkpoint").unlink()


def another_short_log_that_was_interrupted(folder: Path) -> None:
    add(folder, entries(100, "other "))
    (folder / CHAIN / "checkpoint").unlink()


def damaged_edge(folder: Path) -> None:
    add(folder, entries(600))
    path = folder / CHAIN / "tile/1/000.p/2"
    path.write_bytes(bytes(64))


def edge_cut_off(folder: Path) -> None:
    add(folder, entries(600))
    os.truncate(folder / CHAIN / "tile/1/000.p/2", 63)


def edge_gone(folder: Path) -> None:
    add(folder, entries(600))
    (folder / CHAIN / "tile/1/000.p/2").unlink()


def garbled_checkpoint(folder: Path) -> None:
    add(folder, entries(600))
    (folder / CHAIN / "checkpoint").write_bytes(b"mine")


def unknown_file(folder: Path) -> None:
    add(folder, entries(600))
    (folder / CHAIN / "notes.txt").write_text("mine")


def link_for_a_log(folder: Path) -> None:
    add(folder, entries(600))
    (folder / CHAIN).rename(folder / "moved-away")
    (folder / CHAIN).symlink_to(folder / "moved-away")


REFUSED: dict[str, tuple[Callable[[Path], None], type[LedgerError]]] = {
    "a folder with something else": (no_export, ForeignLogError),
    "an export of records": (export_of_records, ForeignLogError),
    "the tiles of another installation": (another_installation, ForeignLogError),
    "another history": (another_history, ForeignLogError),
    "a longer log": (longer_log, ForeignLogError),
    "what an interrupted export left of another log": (another_log_that_was_interrupted, ForeignLogError),
    "likewise of a short one": (another_short_log_that_was_interrupted, ForeignLogError),
    "a damaged tile where the log ends": (damaged_edge, ForeignLogError),
    "a tile too short there": (edge_cut_off, ExportError),
    "a tile missing there": (edge_gone, ExportError),
    "a checkpoint that is none": (garbled_checkpoint, ForeignLogError),
    "an unknown file in a log": (unknown_file, ForeignLogError),
    "a symbolic link for a log": (link_for_a_log, ForeignLogError),
}


@pytest.mark.parametrize(("prepare", "error"), REFUSED.values(), ids=REFUSED.keys())
def test_a_folder_that_holds_something_else_is_refused_and_loses_nothing(
    prepare: Callable[[Path], None], error: type[LedgerError], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    prepare(folder)
    before = files(folder)
    with pytest.raises(error):
        add(folder, entries(GROWN))
    assert files(folder) == before


def test_two_exports_into_one_folder_do_not_meet(ledger: Ledger, tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ExportError, match="Another export"), tiles_writer(tmp_path, ledger.trust_root):
        pass
    os.close(descriptor)
    add(tmp_path, entries(3), ledger)


def test_what_is_no_chain_name_makes_no_folder(ledger: Ledger, tmp_path: Path) -> None:
    with tiles_writer(tmp_path / "out", ledger.trust_root) as writer, pytest.raises(ExportError):
        writer.write_chain("../acme", sign([], ledger), lambda *_: [])
    assert set(files(tmp_path)) == {"out/trust-root.json"}


WRONG_SOURCE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], type[LedgerError], str]] = {
    "fewer records than signed": (lambda r: r[:-1], ExportError, "export_unreadable"),
    "another record than signed": (lambda r: [*r[:-1], b"other"], RuleBrokenError, "wrong_root"),
    "a record of no bytes": (lambda r: [*r[:-1], b""], ExportError, "export_unreadable"),
}


@pytest.mark.parametrize(("change", "error", "code"), WRONG_SOURCE.values(), ids=WRONG_SOURCE.keys())
def test_records_that_are_not_the_signed_ones_publish_nothing(
    change: Callable[[list[bytes]], list[bytes]], error: type[LedgerError], code: str, ledger: Ledger, tmp_path: Path
) -> None:
    records = entries(700)
    add(tmp_path, records[:600], ledger)
    before, given_ = files(tmp_path), change(records)
    with tiles_writer(tmp_path, ledger.trust_root) as writer, pytest.raises(error) as caught:
        writer.write_chain(CHAIN, sign(records, ledger), lambda start, stop: given_[start:stop])
    assert caught.value.code == code
    assert files(tmp_path) == before


def test_a_checkpoint_by_nobody_is_not_published(ledger: Ledger, tmp_path: Path) -> None:
    stranger = ledger.sign_head(CHAIN, 0, Frontier().root(), "stranger")
    with tiles_writer(tmp_path, ledger.trust_root) as writer, pytest.raises(UntrustedKeyError):
        writer.write_chain(CHAIN, stranger, lambda *_: [])
    assert set(files(tmp_path)) == {"trust-root.json"}


@pytest.mark.parametrize("known", [0, 100, 600])
@pytest.mark.parametrize("at", [0, 300, 900])
def test_an_interrupted_export_leaves_the_last_one_whole_and_is_taken_up_again(
    known: int, at: int, ledger: Ledger, tmp_path: Path
) -> None:
    records = entries(GROWN)
    add(tmp_path, records[:known], ledger)

    def break_off(start: int, stop: int) -> Iterator[bytes]:
        yield from records[start : min(max(start, at), stop)]
        raise KeyboardInterrupt

    with tiles_writer(tmp_path, ledger.trust_root) as writer, pytest.raises(KeyboardInterrupt):
        writer.write_chain(CHAIN, sign(records, ledger), break_off)
    assert read_back(tmp_path) == records[:known]
    assert add(tmp_path, records, ledger).added == GROWN - known
    assert read_back(tmp_path) == records


def test_what_a_killed_export_was_writing_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".writing").write_bytes(b"half a ti")
    add(tmp_path, entries(3))
    assert read_back(tmp_path) == entries(3)
    assert not (tmp_path / ".writing").exists()


def test_what_the_disk_refuses_is_our_error(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ExportError), tiles_writer(tmp_path / "out", ledger.trust_root):
        pass


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_ledger_verifies_from_its_tiles_as_from_its_records(ledger: Ledger, tmp_path: Path) -> None:
    tiles = write_tiles(ledger, tmp_path / "tiles")
    options = Options(pinned=ledger.root(), require_signed=True, replay=replay)
    report = verify_export(tiles, options)
    assert report.verified
    assert report.chains == verify_export(ledger.write(tmp_path / "records"), options).chains


def test_the_command_line_verifies_tiles(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiles = write_tiles(ledger, tmp_path / "tiles")
    assert run(["audit", "verify", str(tiles), "--decisions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verified"]
    (tiles / CHAIN / "tile/0/000.p/48").write_bytes(bytes(48 * 32))
    assert run(["audit", "verify", str(tiles), "--raw", "--json"]) == 1
    assert [finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]] == ["wrong_tile"]


def test_an_earlier_checkpoint_is_extended_by_tiles(ledger: Ledger, tmp_path: Path) -> None:
    tiles, chain = write_tiles(ledger, tmp_path / "tiles"), ledger.chains[CHAIN]
    assert codes(tiles, since=[chain.checkpoint(17)]) == set()
    assert codes(tiles, since=[ledger.sign_head(CHAIN, 17, bytes(32))]) == {"forked"}


@pytest.mark.parametrize("name", ["chains", "tile", "checkpoint", "signer"])
def test_a_chain_may_have_the_name_of_a_folder_of_either_layout(name: str, ledger: Ledger, tmp_path: Path) -> None:
    chain = ledger.open(name)
    chain.note = chain.checkpoint()
    for export in (write_tiles(ledger, tmp_path / "tiles"), ledger.write(tmp_path / "records")):
        report = verify_export(export)
        assert report.verified
        assert name in {each.chain for each in report.chains}


def test_what_lies_beside_the_logs_is_ignored(ledger: Ledger, tmp_path: Path) -> None:
    tiles = write_tiles(ledger, tmp_path / "tiles")
    (tiles / "README").write_text("served by nginx")
    (tiles / "index").write_text("a plain file by a chain's name")
    (tiles / ".well-known").mkdir()
    assert codes(tiles) == set()


def bundle(log: Path) -> Path:
    return log / "tile/entries/000.p/48"


def leaves(log: Path) -> Path:
    return log / "tile/0/000.p/48"


def change(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def link(path: Path) -> None:
    target = path.parents[4] / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def link_folder(folder: Path) -> None:
    target = folder.parents[3] / "elsewhere"
    folder.rename(target)
    folder.symlink_to(target)


def other_key(log: Path) -> None:
    name = VerifierKey.from_text((log / "signer.pub").read_text().strip()).name
    (log / "signer.pub").write_text(VerifierKey(name, ED25519, raw(ed25519("stranger"))).to_text() + "\n")


UNREAD = {"export_unreadable", "truncated", "chain_not_opened"}
# Each damages the log of acme, which has 48 records -> all that must be found.
DAMAGE: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "an entry is changed": (
        lambda log: change(bundle(log), b"test worker", b"test Worker"),
        {"broken_chain", "signature_invalid", "unknown_producer", "wrong_root", "wrong_tile"},
    ),
    "a bundle is cut short": (lambda log: os.truncate(bundle(log), 100), UNREAD),
    "a bundle has a byte more": (lambda log: bundle(log).write_bytes(bundle(log).read_bytes() + b"\0"), UNREAD),
    "a bundle is missing": (lambda log: bundle(log).unlink(), UNREAD),
    "a bundle is a symbolic link": (lambda log: link(bundle(log)), UNREAD),
    "a folder of bundles is a symbolic link": (
        lambda log: link_folder(log / "tile/entries"),
        UNREAD,
    ),
    "a bundle begins with an empty entry": (
        lambda log: bundle(log).write_bytes(b"\0\0" + bundle(log).read_bytes()),
        UNREAD,
    ),
    "a tile is changed": (lambda log: leaves(log).write_bytes(bytes(48 * 32)), {"wrong_tile"}),
    "a tile is cut short": (lambda log: os.truncate(leaves(log), 47 * 32), {"export_unreadable"}),
    "a tile is too long": (lambda log: leaves(log).write_bytes(bytes(8193)), {"export_unreadable"}),
    "a tile is missing": (lambda log: leaves(log).unlink(), {"export_unreadable"}),
    "all tiles are missing": (lambda log: shutil.rmtree(log / "tile"), UNREAD),
    "another key": (other_key, {"untrusted_key"}),
    "a key that is none": (lambda log: (log / "signer.pub").write_bytes(b"\xff"), {"malformed_note"}),
    "no key": (lambda log: (log / "signer.pub").unlink(), {"export_unreadable"}),
    "no checkpoint": (
        lambda log: (log / "checkpoint").unlink(),
        {"checkpoint_missing", "export_unreadable", "chain_not_opened"},
    ),
    "a checkpoint that is none": (
        lambda log: (log / "checkpoint").write_bytes(b"none"),
        {"malformed_note", "export_unreadable", "chain_not_opened"},
    ),
    "the checkpoint of another chain": (
        lambda log: shutil.copy(log.parent / "platform" / "checkpoint", log / "checkpoint"),
        {"untrusted_key", "export_unreadable", "chain_not_opened"},
    ),
    "an unknown file": (lambda log: (log / "x").write_bytes(b""), {"export_unreadable", "chain_missing"}),
    "no platform": (lambda log: shutil.rmtree(log.parent / "platform"), {"chain_missing"}),
    "no trust root": (lambda log: (log.parent / "trust-root.json").unlink(), {"export_unreadable"}),
}


@pytest.mark.parametrize(("damage", "expected"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_found(damage: Callable[[Path], object], expected: set[str], ledger: Ledger, tmp_path: Path) -> None:
    tiles = write_tiles(ledger, tmp_path / "tiles")
    damage(tiles / CHAIN)
    assert codes(tiles) == expected


def test_a_checkpoint_that_claims_more_than_there_is_ends_at_what_is_there(ledger: Ledger, tmp_path: Path) -> None:
    tiles = write_tiles(ledger, tmp_path / "tiles")
    (tiles / CHAIN / "checkpoint").write_bytes(ledger.sign_head(CHAIN, 1 << 62, bytes(32)))
    assert {"export_unreadable", "truncated"} <= codes(tiles)


@settings(max_examples=40)
@given(st.data())
def test_no_byte_of_a_log_can_be_changed_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    tiles = write_tiles(LEDGER, tmp_path_factory.mktemp("flipped") / "tiles")
    name = data.draw(st.sampled_from(sorted(files(tiles / CHAIN))))
    path = tiles / CHAIN / name
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert codes(tiles, decode=False)


LEDGER = good_ledger()
