"""docs/ledger-format.md says what the code does: the schemas, digests, codes and limits that it quotes are real."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tensorguard.ledger import envelope, errors, note, trust
from tensorguard.ledger import format as fmt
from tensorguard.ledger.command_rules import AUTHORITY_EVENTS
from tensorguard.ledger.schema import KEYS, MAX_DEPTH, SCALARS

from tests.ledger import tiny_verifier

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ledger-format.md").read_text()
LEDGER = ROOT / "sdk" / "tensorguard" / "ledger"


def test_the_quoted_schemas_are_the_real_ones_in_their_order() -> None:
    quoted = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
    real = (fmt.META, fmt.SIGNED_COMMAND, fmt.CHAIN_OPENED, fmt.SCHEMA_REGISTERED, fmt.EPOCH_OPENED, fmt.ENVELOPE)
    assert quoted == [fmt.compact(schema) for schema in real]


@pytest.mark.parametrize("digest", fmt.BOOTSTRAP)
def test_the_fixed_digests_are_the_real_ones(digest: bytes) -> None:
    event, _ = fmt.BOOTSTRAP[digest]
    assert f"`{event}`, digest `{digest.hex()}`" in PAGE
    assert tiny_verifier.FIXED_EVENTS[digest.hex()] == event


def test_the_composition_of_a_record_schema_is_the_real_one() -> None:
    (template,) = re.findall(r'^(\{"type":"record","name":"tensorguard.record.Event".*)$', PAGE, re.MULTILINE)
    parts = {"Event": "EpochOpened", "META": fmt.compact(fmt.META), "SIGNED_COMMAND": fmt.compact(fmt.SIGNED_COMMAND)}
    for name, text in {**parts, "BODY": fmt.compact(fmt.EPOCH_OPENED)}.items():
        template = template.replace(name, text, 1)
    assert template == fmt.record_schema_text(fmt.EPOCH_OPENED)


def test_the_events_of_the_authority_are_the_real_ones() -> None:
    quoted = dict(re.findall(r"^  \| `(\w+)` \| `(\w+)` \|$", PAGE, re.MULTILINE))
    assert quoted == AUTHORITY_EVENTS == tiny_verifier.FROM_AUTHORITY


def test_every_code_of_a_finding_is_on_the_page() -> None:
    literal = re.compile(r'(?:RuleBrokenError|Finding)\(\s*"(\w+)"')
    codes = {code for path in LEDGER.glob("*.py") for code in literal.findall(path.read_text())}
    classes = (
        errors.MalformedRecordError,
        errors.MalformedNoteError,
        errors.MalformedTrustRootError,
        errors.SignatureInvalidError,
        errors.UntrustedKeyError,
        errors.ProofInvalidError,
        errors.ExportError,
    )
    codes |= {each.code for each in classes} | {"chain_missing", "bad_schema"}
    checks = PAGE.partition("## The checks, in order")[2]
    named = set(re.findall(r"`([a-z_]+)`", checks.partition("`tensorguard audit")[0]))
    fields = {"platform", "prev_hash", "seq", "stream_seq", "recorded_at", "event_id"}
    assert named - fields == codes


def test_limits_and_domains_are_the_real_ones() -> None:
    for said in (
        f"1 to {fmt.MAX_RECORD_BYTES:,} bytes",
        f"1 to {note.MAX_SIGNATURES} signature lines",
        f"at most {MAX_DEPTH} deep",
        f'"{envelope.DOMAIN[:-1].decode()}" ‖ 00',
        f'"{trust.DOMAIN[:-1].decode()}" ‖ 00',
        *(f"`{name}`" for name in (*SCALARS, *KEYS)),
    ):
        assert said in PAGE, said
    assert note.MAX_NOTE_BYTES == trust.MAX_BYTES == 2**20


def test_the_page_says_that_the_format_is_not_frozen() -> None:
    assert "Not frozen yet" in PAGE


def test_the_second_verifier_owes_nothing_to_the_first() -> None:
    tree = ast.parse(Path(tiny_verifier.__file__).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"tensorguard", "schemas", "producers", "fastavro", "tests"}
    assert "cryptography" in imported
