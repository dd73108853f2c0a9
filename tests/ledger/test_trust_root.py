"""The trust root: signed as it is stored, pinned, rotated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger import trust
from tensorguard.ledger.errors import (
    LedgerError,
    MalformedTrustRootError,
    SignatureInvalidError,
    UntrustedKeyError,
)

from tests.ledger.build import Ledger, ed25519, good_ledger, raw

LEDGER = good_ledger()
ROOT = LEDGER.root()
DATA = LEDGER.trust_root


def spelled(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def resigned(signed: bytes) -> bytes:
    signature = LEDGER.authority.sign(trust.DOMAIN + signed).hex()
    return b'{"signed":' + signed + b',"signature":"' + signature.encode() + b'"}\n'


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(DATA)["signed"]
    change(value)
    return resigned(spelled(value))


def test_a_trust_root_reads_back_and_is_plain_json() -> None:
    assert trust.parse(DATA) == ROOT
    value = json.loads(DATA)
    assert set(value) == {"signed", "signature"}
    assert value["signed"]["authority_key"] == raw(LEDGER.authority).hex()
    assert changed(lambda _: None) == DATA


@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(data: st.DataObject) -> None:
    damaged = bytearray(DATA)
    bit = data.draw(st.integers(0, len(damaged) * 8 - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LedgerError):
        trust.parse(bytes(damaged))


@given(st.binary(max_size=300))
def test_garbage_raises_our_errors_alone(data: bytes) -> None:
    for each in (data, resigned(data)):
        with pytest.raises(LedgerError):
            trust.parse(each)


NO_TRUST_ROOTS: dict[str, bytes] = {
    "empty": b"",
    "a list": resigned(b"[]"),
    "no fields": resigned(b"{}"),
    "deep nesting": resigned(b"[" * 100_000),
    "a duplicate key": resigned(spelled(json.loads(DATA)["signed"])[:-1] + b',"format":1}'),
    "spaces": resigned(json.dumps(json.loads(DATA)["signed"], sort_keys=True).encode()),
    "bytes behind the end": DATA + b"\n",
    "no newline": DATA[:-1],
    "another order": json.dumps({k: json.loads(DATA)[k] for k in ("signature", "signed")}).encode() + b"\n",
    "format 2": changed(lambda s: s.update(format=2)),
    "format true": changed(lambda s: s.update(format=True)),
    "an unknown field": changed(lambda s: s.update(more=1)),
    "no origin": changed(lambda s: s.update(origin="")),
    "a space in the origin": changed(lambda s: s.update(origin="a b")),
    "a number as origin": changed(lambda s: s.update(origin=1)),
    "a short authority key": changed(lambda s: s.update(authority_key="00")),
    "upper-case hex": changed(lambda s: s.update(authority_key=s["authority_key"].upper())),
    "a short signer key": changed(lambda s: s["signer_keys"][0].update(mldsa44="00")),
    "a signer without times": changed(lambda s: s["signer_keys"][0].pop("from")),
    "an odd time": changed(lambda s: s.update(issued_at="2026-01-01 00:00:00")),
    "a time without zeroes": changed(lambda s: s.update(issued_at="2026-1-1T0:0:0Z")),
    "no artifact key id": changed(lambda s: s["artifact_keys"][0].pop("key_id")),
    "signer keys as an object": changed(lambda s: s.update(signer_keys={})),
}


@pytest.mark.parametrize("data", NO_TRUST_ROOTS.values(), ids=NO_TRUST_ROOTS.keys())
def test_what_is_no_trust_root_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedTrustRootError):
        trust.parse(data)


def test_only_the_authority_signs() -> None:
    with pytest.raises(SignatureInvalidError):
        trust.build(ROOT, ed25519("stranger").sign)


def later(ledger: Ledger, *signers: str) -> trust.TrustRoot:
    ledger.signers = list(signers)
    return ledger.root()


def test_of_a_pinned_and_a_found_root_the_later_one_counts() -> None:
    rotated = later(Ledger(), "signer-1", "signer-2")
    assert trust.newest(ROOT, rotated) == rotated
    assert trust.newest(rotated, ROOT) == rotated


def test_a_root_that_exchanges_a_signer_is_refused() -> None:
    with pytest.raises(UntrustedKeyError):
        trust.newest(ROOT, later(Ledger(), "signer-x", "signer-2"))


@pytest.mark.parametrize("field", ["installation_id", "origin", "authority_key"])
def test_a_root_of_another_installation_or_authority_is_refused(field: str) -> None:
    values: dict[str, Any] = {"installation_id": "x", "origin": "x", "authority_key": raw(ed25519("stranger"))}
    with pytest.raises(UntrustedKeyError):
        trust.newest(ROOT, replace(ROOT, **{field: values[field]}))
