"""Damage to a good export: every kind of it is found, by our verifier and by the second one alike."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.errors import TensorGuardError
from tensorguard.ledger import record as records
from tensorguard.ledger import trust
from tensorguard.ledger.verify import Options, verify_export, verify_raw

from producers.deciders import engine
from producers.deciders.context import Rejected
from producers.decisions import replay
from tests.ledger import tiny_verifier
from tests.ledger.build import Chain, Ledger, good_ledger, rotate_signer, schema_texts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

tiny_problems: Any = tiny_verifier.problems
FLIPS = 150


@pytest.fixture
def ledger() -> Ledger:
    return good_ledger()


def codes(directory: Path, **options: Any) -> set[str]:
    """What is found; both verifiers must agree on whether anything is."""
    found = {finding.code for finding in verify_export(directory, Options(**options)).all_findings}
    pinned = options.get("pinned")
    tiny = tiny_problems(directory, since=options.get("since", ()), pinned=pinned and trust_root_bytes(pinned))
    assert bool(found) == bool(tiny), (found, tiny)
    return found


def trust_root_bytes(root: trust.TrustRoot) -> bytes:
    return trust.build(root, Ledger(root.installation_id).authority.sign)


def records_file(directory: Path, chain: str = "acme") -> Path:
    return directory / "chains" / chain / "records"


def checkpoint_file(directory: Path, chain: str = "acme") -> Path:
    return directory / "chains" / chain / "checkpoint"


def test_a_good_export_verifies(ledger: Ledger, tmp_path: Path) -> None:
    export = ledger.write(tmp_path / "export")
    assert codes(export) == set()
    assert codes(export, require_signed=True, pinned=ledger.root(), replay=replay) == set()
    assert verify_raw(export).verified
    report = verify_export(export)
    assert {chain.chain: chain.records for chain in report.chains} == {
        chain.name: len(chain.records) for chain in ledger.chains.values()
    }
    assert all(chain.unsigned == 0 for chain in report.chains)


# Each takes the records of a chain and gives others -> what must be found among the findings.
RECORD_DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "one dropped within": (lambda r: r[:7] + r[8:], "broken_chain"),
    "the first dropped": (lambda r: r[1:], "broken_chain"),
    "the last dropped": (lambda r: r[:-1], "truncated"),
    "all dropped": (lambda _: [], "truncated"),
    "two exchanged": (lambda r: [*r[:7], r[8], r[7], *r[9:]], "broken_chain"),
    "reversed": (lambda r: r[::-1], "broken_chain"),
    "one doubled": (lambda r: [*r[:8], *r[7:]], "broken_chain"),
    "the last doubled": (lambda r: [*r, r[-1]], "broken_chain"),
    "one cut short": (lambda r: [*r[:7], r[7][:-1], *r[8:]], "malformed_record"),
    "one with a byte more": (lambda r: [*r[:7], r[7] + b"\0", *r[8:]], "malformed_record"),
    "one emptied to its link": (lambda r: [*r[:7], r[7][:32], *r[8:]], "malformed_record"),
}


@pytest.mark.parametrize(("damage", "code"), RECORD_DAMAGE.values(), ids=RECORD_DAMAGE.keys())
def test_damaged_records_are_found(
    ledger: Ledger, tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]], code: str
) -> None:
    chain = ledger.chains["acme"]
    chain.records = damage(chain.records)
    export = ledger.write(tmp_path / "export")
    assert code in codes(export)
    assert not verify_raw(export).verified


def test_records_spliced_from_another_ledger_are_found(ledger: Ledger, tmp_path: Path) -> None:
    other = good_ledger("another").chains["acme"].records
    chain = ledger.chains["acme"]
    chain.records = chain.records[:20] + other[20:]
    assert "broken_chain" in codes(ledger.write(tmp_path / "export"))


def test_a_whole_chain_of_another_ledger_is_found(ledger: Ledger, tmp_path: Path) -> None:
    other = good_ledger("another").chains["acme"]
    other.note = other.checkpoint()
    ledger.chains["acme"] = other
    assert "untrusted_key" in codes(ledger.write(tmp_path / "export"))


def test_one_chain_in_the_place_of_another_is_found(ledger: Ledger, tmp_path: Path) -> None:
    export = ledger.write(tmp_path / "export")
    shutil.copytree(export / "chains" / "acme", export / "chains" / "acme-2")
    assert {"untrusted_key", "wrong_position", "wrong_opening"} <= codes(export)


def test_a_flipped_bit_anywhere_is_found(ledger: Ledger, tmp_path: Path) -> None:
    export = ledger.write(tmp_path / "export")
    files = [path for path in sorted(export.rglob("*")) if path.is_file()]
    moments = random.Random(3)
    for path in files:
        good = path.read_bytes()
        for _ in range(FLIPS // len(files)):
            bit = moments.randrange(len(good) * 8)
            damaged = bytearray(good)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            assert codes(export), f"bit {bit} of {path.name}"
            assert not verify_raw(export).verified
        path.write_bytes(good)
    assert codes(export) == set()


def test_a_file_cut_anywhere_is_found(ledger: Ledger, tmp_path: Path) -> None:
    export = ledger.write(tmp_path / "export")
    moments = random.Random(4)
    for path in (each for each in sorted(export.rglob("*")) if each.is_file()):
        good = path.read_bytes()
        for _ in range(12):
            path.write_bytes(good[: moments.randrange(len(good))])
            assert codes(export), path.name
        path.write_bytes(good)


def garble_trust_root(export: Path) -> None:
    (export / "trust-root.json").write_bytes(b"{}\n")


def remove_platform(export: Path) -> None:
    shutil.rmtree(export / "chains" / "platform")


def add_file(export: Path) -> None:
    (export / "chains" / "acme" / "notes.txt").write_text("hello")


def odd_chain_name(export: Path) -> None:
    (export / "chains" / "acme").rename(export / "chains" / "ACME")


def link_records(export: Path) -> None:
    path = records_file(export)
    path.rename(export / "elsewhere")
    path.symlink_to(export / "elsewhere")


def zero_length(export: Path) -> None:
    path = records_file(export)
    path.write_bytes(path.read_bytes() + b"\0\0")


def half_a_length(export: Path) -> None:
    path = records_file(export)
    path.write_bytes(path.read_bytes() + b"\0")


def folder_for_a_checkpoint(export: Path) -> None:
    checkpoint_file(export).unlink()
    checkpoint_file(export).mkdir()


LAYOUT_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no trust root": (lambda d: (d / "trust-root.json").unlink(), "export_unreadable"),
    "another trust root": (garble_trust_root, "malformed_trust_root"),
    "no chains": (lambda d: shutil.rmtree(d / "chains"), "export_unreadable"),
    "no platform chain": (remove_platform, "chain_missing"),
    "no records": (lambda d: records_file(d).unlink(), "export_unreadable"),
    "no checkpoint": (lambda d: checkpoint_file(d).unlink(), "checkpoint_missing"),
    "an empty checkpoint": (lambda d: checkpoint_file(d).write_bytes(b""), "malformed_note"),
    "a folder as checkpoint": (folder_for_a_checkpoint, "export_unreadable"),
    "an unknown file in a chain": (add_file, "export_unreadable"),
    "a file among the chains": (lambda d: (d / "chains" / "x").write_bytes(b""), "export_unreadable"),
    "an odd chain name": (odd_chain_name, "export_unreadable"),
    "a symbolic link": (link_records, "export_unreadable"),
    "a record of no bytes": (zero_length, "export_unreadable"),
    "half a length": (half_a_length, "export_unreadable"),
}


@pytest.mark.parametrize(("damage", "code"), LAYOUT_DAMAGE.values(), ids=LAYOUT_DAMAGE.keys())
def test_a_damaged_layout_is_found(ledger: Ledger, tmp_path: Path, damage: Callable[[Path], object], code: str) -> None:
    export = ledger.write(tmp_path / "export")
    damage(export)
    assert code in codes(export)


@settings(deadline=None, max_examples=60)
@given(records=st.binary(max_size=400), note=st.binary(max_size=100))
def test_garbage_is_a_finding_and_never_an_exception(
    tmp_path_factory: pytest.TempPathFactory, records: bytes, note: bytes
) -> None:
    export = good_ledger().write(tmp_path_factory.mktemp("garbage") / "export")
    records_file(export).write_bytes(records)
    assert codes(export)
    checkpoint_file(export).write_bytes(note)
    assert codes(export)


def test_a_directory_that_is_not_there_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(TensorGuardError):
        verify_export(tmp_path / "nowhere")


# --- older, newer and other histories -----------------------------------------------------------------------------


def test_a_rolled_back_chain_verifies_alone_and_is_found_by_a_checkpoint_seen_earlier(
    ledger: Ledger, tmp_path: Path
) -> None:
    chain = ledger.chains["acme"]
    newer = chain.checkpoint()
    chain.note, chain.records = chain.checkpoint(30), chain.records[:30]
    export = ledger.write(tmp_path / "export")
    assert codes(export) == set()
    assert codes(export, since=[newer]) == {"rolled_back"}


def test_an_earlier_checkpoint_of_the_same_history_is_extended(ledger: Ledger, tmp_path: Path) -> None:
    chain = ledger.chains["acme"]
    seen = [chain.checkpoint(size) for size in (1, 17, len(chain.records))]
    assert codes(ledger.write(tmp_path / "export"), since=seen) == set()


def test_another_history_is_found_by_a_checkpoint_seen_earlier(ledger: Ledger, tmp_path: Path) -> None:
    forked = good_ledger(steps=1).chains["acme"].checkpoint(40)
    assert "forked" in codes(ledger.write(tmp_path / "export"), since=[forked])


def test_a_chain_that_was_seen_earlier_and_is_gone_is_found(ledger: Ledger, tmp_path: Path) -> None:
    seen = ledger.chains.pop("acme").checkpoint()
    assert codes(ledger.write(tmp_path / "export"), since=[seen]) == {"chain_missing"}


def test_an_earlier_checkpoint_by_nobody_is_found(ledger: Ledger, tmp_path: Path) -> None:
    seen = ledger.chains["acme"].checkpoint(signer="stranger")
    assert codes(ledger.write(tmp_path / "export"), since=[seen]) == {"untrusted_key"}


def test_records_behind_the_checkpoint_are_counted_and_fail_only_if_asked(ledger: Ledger, tmp_path: Path) -> None:
    chain = ledger.chains["acme"]
    chain.note = chain.checkpoint(len(chain.records) - 3)
    export = ledger.write(tmp_path / "export")
    assert codes(export) == set()
    (report,) = (each for each in verify_export(export).chains if each.chain == "acme")
    assert (report.unsigned, report.signed) == (3, len(chain.records) - 3)
    assert verify_export(export, Options(require_signed=True)).all_findings[0].code == "not_signed"


def test_a_checkpoint_over_another_root_is_found(ledger: Ledger, tmp_path: Path) -> None:
    chain = ledger.chains["acme"]
    chain.note = ledger.sign_head("acme", len(chain.records), bytes(32))
    assert codes(ledger.write(tmp_path / "export")) == {"wrong_root"}


# --- trust --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_by_a_stranger_is_found(ledger: Ledger, tmp_path: Path) -> None:
    chain = ledger.chains["acme"]
    chain.note = chain.checkpoint(signer="stranger")
    assert codes(ledger.write(tmp_path / "export")) == {"untrusted_key"}


def test_a_rotated_signer_is_followed_with_a_root_pinned_before(ledger: Ledger, tmp_path: Path) -> None:
    pinned = ledger.root()
    rotate_signer(ledger, "signer-2")
    ledger.publish()
    ledger.chains["acme"].note = ledger.chains["acme"].checkpoint(signer="signer-1")
    assert codes(ledger.write(tmp_path / "export"), pinned=pinned) == set()


def test_a_signer_that_is_not_published_on_the_platform_chain_is_found(ledger: Ledger, tmp_path: Path) -> None:
    ledger.signers.append("signer-2")
    ledger.publish()
    assert codes(ledger.write(tmp_path / "export")) == {"trust_root_disagrees"}


def test_an_export_of_another_installation_than_the_pinned_one_is_found(ledger: Ledger, tmp_path: Path) -> None:
    export = ledger.write(tmp_path / "export")
    assert codes(export, pinned=good_ledger("another").root()) == {"untrusted_key"}


def test_a_ledger_of_somebody_else_under_the_same_name_is_found_by_pinning(ledger: Ledger, tmp_path: Path) -> None:
    impostor = Impostor("test")
    for name in ("platform", "acme"):
        impostor.enrol(impostor.open(name), "gateway")
    impostor.publish()
    export = impostor.write(tmp_path / "export")
    assert "trust_root_disagrees" in codes(export)
    assert codes(export, pinned=ledger.root()) == {"untrusted_key"}


class Impostor(Ledger):
    """An installation that calls itself like another one and has its own keys."""

    def key(self, role: str) -> Any:
        return super().key(f"impostor {role}")


# --- a dishonest operator, whose own keys sign a consistent history -----------------------------------------------


def test_a_decision_turned_around_with_every_hash_made_right_is_found_by_the_decisions_alone(tmp_path: Path) -> None:
    honest, forged = good_ledger(), Ledger()
    for chain in honest.chains.values():
        forged.chains[chain.name] = Chain(forged, chain.name)
    turn_around(honest, forged)
    forged.publish()
    export = forged.write(tmp_path / "export")
    assert codes(export) == set()
    assert codes_with_replay(export)


def codes_with_replay(export: Path) -> set[str]:
    return {finding.code for finding in verify_export(export, Options(replay=replay)).all_findings}


def turn_around(honest: Ledger, forged: Ledger) -> None:
    """The same commands, decided the same way but for the run's closing, which is now refused."""
    for chain in honest.chains.values():
        copy = forged.chains[chain.name]
        copy.open()
        for data in chain.records[2:]:
            record = records.decode_record(data, schema_texts())
            if record.event == "EpochOpened":
                copy.take_over()
            elif record.command is not None and record.event == "RunClosed":
                rejected = Rejected("run_closed", "The run takes no more operations.")
                copy.seal(record.command, "rejections", (engine.rejection_event(record.command.envelope(), rejected),))
            elif record.command is not None:
                copy.decide(record.command)
