"""Project Wycheproof's tables against the primitives, through our own doors.

The tables are read from the folder that TG_VECTORS names; without it these tests are skipped, and say so.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tensorguard.crypto import wrap
from tensorguard.crypto.errors import CryptoError, WrongKeyError
from tensorguard.crypto.mldsa import CryptographyProvider

FOLDER = Path(os.environ.get("TG_VECTORS", ""))
AES_256_BITS = 256
GCM_IV_BITS = 96


def cases(table: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Every (group, test) of a table."""
    path = FOLDER / f"{table}_test.json"
    if not os.environ.get("TG_VECTORS") or not path.is_file():
        pytest.skip(f"TG_VECTORS names no folder with {table}_test.json: this table did not run")
    groups = json.loads(path.read_text())["testGroups"]
    return [(group, test) for group in groups for test in group["tests"]]


def raw(value: str) -> bytes:
    return bytes.fromhex(value)


def accepted(attempt: Any, *refusals: type[Exception]) -> bool:
    try:
        attempt()
    except refusals:
        return False
    return True


def test_mldsa_65_accepts_exactly_the_valid_signatures() -> None:
    provider = CryptographyProvider()
    for group, test in cases("mldsa_65_verify"):
        arguments = (raw(group["publicKey"]), raw(test["sig"]), raw(test["msg"]), raw(test.get("ctx", "")))
        ok = accepted(lambda a=arguments: provider.verify(*a), CryptoError)
        assert ok == (test["result"] == "valid"), test["tcId"]


def test_mldsa_65_seeds_give_the_tables_public_keys_and_signatures_that_verify() -> None:
    provider, checked = CryptographyProvider(), 0
    for group, test in cases("mldsa_65_sign_seed"):
        if test["result"] != "valid" or "msg" not in test:
            continue
        seed, message, context = raw(group["privateSeed"]), raw(test["msg"]), raw(test.get("ctx", ""))
        public = provider.public_key(seed)
        assert public == raw(group["publicKey"]), test["tcId"]
        provider.verify(public, provider.sign(seed, message, context), message, context)
        checked += 1
    assert checked


def test_ed25519_accepts_exactly_the_valid_signatures() -> None:
    for group, test in cases("ed25519"):
        key = Ed25519PublicKey.from_public_bytes(raw(group["publicKey"]["pk"]))
        ok = accepted(lambda k=key, t=test: k.verify(raw(t["sig"]), raw(t["msg"])), InvalidSignature)
        assert ok == (test["result"] == "valid"), test["tcId"]


def test_aes_256_kwp_opens_exactly_the_valid_wraps() -> None:
    checked = 0
    for group, test in cases("aes_kwp"):
        if group["keySize"] != AES_256_BITS:
            continue
        key, wrapped = raw(test["key"]), raw(test["ct"])
        if test["result"] == "valid":
            assert wrap.unwrap_key(key, wrapped) == raw(test["msg"]), test["tcId"]
            assert wrap.wrap_key(key, raw(test["msg"])) == wrapped, test["tcId"]
        else:
            with pytest.raises(WrongKeyError):
                wrap.unwrap_key(key, wrapped)
        checked += 1
    assert checked


def test_aes_256_gcm_opens_exactly_the_valid_ciphertexts() -> None:
    checked = 0
    for group, test in cases("aes_gcm"):
        if (group["keySize"], group["ivSize"]) != (AES_256_BITS, GCM_IV_BITS):
            continue
        cipher, sealed, out = AESGCM(raw(test["key"])), raw(test["ct"] + test["tag"]), bytearray(len(test["msg"]) // 2)
        ok = accepted(
            lambda c=cipher, t=test, s=sealed, o=out: c.decrypt_into(raw(t["iv"]), s, raw(t["aad"]), o), InvalidTag
        )
        assert ok == (test["result"] == "valid"), test["tcId"]
        assert not ok or out == raw(test["msg"])
        checked += 1
    assert checked


def test_mlkem_768_decapsulates_as_the_table_says() -> None:
    for group, test in cases("mlkem_768"):
        key = MLKEM768PrivateKey.from_seed_bytes(raw(test["seed"])) if len(test["seed"]) == 128 else None
        if test["result"] == "valid":
            assert key is not None
            assert group["parameterSet"] == "ML-KEM-768"
            assert key.public_key().public_bytes_raw() == raw(test["ek"]), test["tcId"]
            assert key.decapsulate(raw(test["c"])) == raw(test["K"]), test["tcId"]
        elif key is not None:
            assert not accepted(lambda k=key, t=test: k.decapsulate(raw(t["c"])), ValueError), test["tcId"]


def test_x25519_agrees_or_refuses_a_zero_secret() -> None:
    for _, test in cases("x25519"):
        private, public = (
            X25519PrivateKey.from_private_bytes(raw(test["private"])),
            X25519PublicKey.from_public_bytes(raw(test["public"])),
        )
        try:
            assert private.exchange(public) == raw(test["shared"]), test["tcId"]
        except ValueError:
            assert "ZeroSharedSecret" in test["flags"], test["tcId"]
