from __future__ import annotations

import io
import json
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.crypto.composite import CompositePrivateKey
from tensorguard.crypto.errors import UnknownAlgorithmError
from tensorguard.crypto.hpke import HpkePrivateKey
from tensorguard.tgsp import recipients
from tensorguard.tgsp.archive import Container, Content, write
from tensorguard.tgsp.errors import (
    PackageDamagedError,
    PackageError,
    PackageExpiredError,
    PackageMalformedError,
    PackagePolicyError,
    PackageRecipientError,
    PackageReleaseModeError,
    PackageSignatureError,
)
from tensorguard.tgsp.manifest import CONTEXT
from tensorguard.tgsp.package import Package, inspect

from tests.tgsp.examples import (
    DEVICE,
    DEVICE_KEY,
    NOW,
    OTHER,
    SIGNER,
    SUBJECT,
    WEIGHTS,
    build,
    decrypt,
    example,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorguard.errors import TensorGuardError

Files = dict[str, bytes]


def unpacked(data: bytes) -> Files:
    container = Container(io.BytesIO(data))
    return {name: container.read(name, 1 << 22) for name in container.entries}


def packed(files: Files) -> bytes:
    out = io.BytesIO()
    write(out, [Content.of(name, data) for name, data in files.items()])
    return out.getvalue()


def signed_again(change: Callable[[dict[str, Any]], object], files: Files | None = None) -> bytes:
    """The example with another manifest, properly signed: what a careless or old signer could make."""
    files = files or unpacked(example()[0])
    manifest = json.loads(files["manifest.json"])
    change(manifest)
    files["manifest.json"] = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    files["manifest.sig"] = SIGNER.sign(files["manifest.json"], CONTEXT)
    return packed(files)


def test_a_package_verifies_and_its_recipient_reads_the_weights() -> None:
    data, built = example()
    package = verify(data)
    assert package.manifest == built.manifest
    assert package.package_id == built.package_id == sha256(unpacked(data)["manifest.json"]).digest()
    assert package.container.file_digest() == built.file_digest == sha256(data).digest()
    assert decrypt(package) == WEIGHTS
    assert package.evidence.step == 7


def test_no_plaintext_is_in_the_file() -> None:
    assert b"plaintext weights" not in example()[0]


def test_the_id_is_of_signed_content_and_not_of_signature_bytes() -> None:
    files = unpacked(example()[0])
    again = dict(files, **{"manifest.sig": SIGNER.sign(files["manifest.json"], CONTEXT)})
    assert again["manifest.sig"] != files["manifest.sig"]
    assert verify(packed(again)).package_id == example()[1].package_id


def test_two_packages_of_one_order_share_no_key() -> None:
    first, second = build()[1].manifest.weights, build()[1].manifest.weights
    assert first.key_commitment != second.key_commitment
    assert first.nonce_prefix != second.nonce_prefix


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_changed_byte_is_found_before_any_weight_is_used(data: st.DataObject) -> None:
    original = example()[0]
    at = data.draw(st.integers(0, len(original) - 1))
    changed = original[:at] + bytes([original[at] ^ 1 << data.draw(st.integers(0, 7))]) + original[at + 1 :]
    with pytest.raises(PackageError):
        verify(changed)


ENTRIES = sorted(unpacked(example()[0]))


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_that_is_changed_with_its_checksums_is_found(name: str) -> None:
    files = unpacked(example()[0])
    files[name] = files[name][:-2] + bytes([files[name][-2] ^ 1]) + files[name][-1:]
    with pytest.raises(PackageError):
        decrypt(verify(packed(files)))


@pytest.mark.parametrize("name", ENTRIES)
def test_a_missing_entry_is_found(name: str) -> None:
    files = unpacked(example()[0])
    del files[name]
    with pytest.raises(PackageError):
        verify(packed(files))


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_of_another_package_is_found(name: str) -> None:
    other = SUBJECT.evidence.model_copy(update={"step": 8})
    files, others = unpacked(example()[0]), unpacked(build(b"other weights", evidence=other)[0])
    with pytest.raises(PackageError):
        decrypt(verify(packed({**files, name: others[name]})))


@pytest.mark.parametrize("name", ["policy.rego", "extra.bin", "a"])
def test_an_added_entry_is_found(name: str) -> None:
    with pytest.raises(PackageDamagedError):
        verify(packed({**unpacked(example()[0]), name: b"x"}))


def test_a_package_signed_by_another_key_is_refused() -> None:
    with pytest.raises(PackageSignatureError):
        verify(build(signer=CompositePrivateKey.generate())[0])


def test_a_signature_made_for_another_purpose_is_refused() -> None:
    files = unpacked(example()[0])
    files["manifest.sig"] = SIGNER.sign(files["manifest.json"], b"tensorguard/artifact/v1")
    with pytest.raises(PackageSignatureError):
        verify(packed(files))


def test_without_any_trusted_key_nothing_verifies() -> None:
    with pytest.raises(PackageSignatureError):
        Package.verify(io.BytesIO(example()[0]), [])


def set_in(*path: str, to: object) -> Callable[[dict[str, Any]], object]:
    def change(manifest: dict[str, Any]) -> None:
        for step in path[:-1]:
            manifest = manifest[step]
        manifest[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param(set_in("format", to="TGSP/v2"), UnknownAlgorithmError, id="another format"),
        pytest.param(set_in("suites", "signature", to="Ed25519"), UnknownAlgorithmError, id="a weaker signature"),
        pytest.param(set_in("suites", "payload", to="none"), UnknownAlgorithmError, id="no encryption"),
        pytest.param(set_in("suites", "recipients", to="RSA"), UnknownAlgorithmError, id="another key encapsulation"),
        pytest.param(set_in("suites", "hash", to="SHA-1"), UnknownAlgorithmError, id="another hash"),
        pytest.param(set_in("suites", "extra", to="x"), UnknownAlgorithmError, id="an algorithm more"),
        pytest.param(lambda m: m["suites"].pop("hash"), UnknownAlgorithmError, id="an algorithm less"),
        pytest.param(lambda m: m.pop("suites"), PackageMalformedError, id="no suites"),
        pytest.param(set_in("surprise", to=1), PackageMalformedError, id="an unknown field"),
        pytest.param(lambda m: m.pop("tenant"), PackageMalformedError, id="a field less"),
        pytest.param(set_in("tenant", to="../x"), PackageMalformedError, id="a tenant that is none"),
        pytest.param(set_in("release_counter", to=-1), PackageMalformedError, id="a negative counter"),
        pytest.param(set_in("release_counter", to="3"), PackageMalformedError, id="a counter as text"),
        pytest.param(set_in("release_counter", to=True), PackageMalformedError, id="a counter as a truth value"),
        pytest.param(set_in("release_mode", to="open"), PackageMalformedError, id="an unknown release mode"),
        pytest.param(set_in("weights", "chunk_size", to=0), PackageMalformedError, id="chunks of nothing"),
        pytest.param(set_in("weights", "chunk_size", to=1 << 30), PackageMalformedError, id="chunks too large"),
        pytest.param(set_in("weights", "plaintext_size", to=1), PackageMalformedError, id="sizes that contradict"),
        pytest.param(set_in("weights", "nonce_prefix", to="00"), PackageMalformedError, id="a short nonce prefix"),
        pytest.param(lambda m: m["entries"].pop("evidence.json"), PackageMalformedError, id="evidence not listed"),
        pytest.param(
            set_in("entries", "run.sh", to={"sha256": "00" * 32, "size": 0}), PackageMalformedError, id="unknown entry"
        ),
        pytest.param(set_in("entries", "evidence.json", "size", to=0), PackageDamagedError, id="another size"),
        pytest.param(set_in("signing_key_id", to="00" * 32), PackageSignatureError, id="another key named"),
    ],
)
def test_a_signed_manifest_that_is_not_right_is_refused(
    change: Callable[[dict[str, Any]], object], error: type[TensorGuardError]
) -> None:
    with pytest.raises(error) as caught:
        verify(signed_again(change))
    assert caught.value.next_step


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b'{"format":"TGSP/v1","format":"TGSP/v1"}', id="a key twice"),
    ],
)
def test_a_signed_manifest_that_is_no_manifest_is_refused(manifest: bytes) -> None:
    files = unpacked(example()[0])
    files |= {"manifest.json": manifest, "manifest.sig": SIGNER.sign(manifest, CONTEXT)}
    with pytest.raises(PackageMalformedError):
        verify(packed(files))


def test_a_manifest_over_the_limit_is_refused_before_its_signature_is_looked_at() -> None:
    with pytest.raises(PackageMalformedError):
        verify(packed({**unpacked(example()[0]), "manifest.json": b" " * (1 << 20)}))


def test_a_package_with_a_policy_is_refused_until_policies_can_be_evaluated() -> None:
    policy = b"package tgsp\nallow := true\n"
    files = {**unpacked(example()[0]), "policy.rego": policy}
    entry = {"sha256": sha256(policy).hexdigest(), "size": len(policy)}
    package = verify(signed_again(set_in("entries", "policy.rego", to=entry), files))
    with pytest.raises(PackagePolicyError):
        package.check_policy()
    verify(example()[0]).check_policy()


def test_a_package_expires_at_its_time() -> None:
    package = verify(build(expires_at=NOW + 10)[0])
    package.check_expiry(NOW + 9)
    with pytest.raises(PackageExpiredError):
        package.check_expiry(NOW + 10)
    verify(example()[0]).check_expiry(1 << 62)


def test_a_key_in_broker_mode_is_not_opened_here() -> None:
    package = verify(signed_again(set_in("release_mode", to="broker")))
    with pytest.raises(PackageReleaseModeError):
        package.open_key(DEVICE.key_id, DEVICE_KEY)


@pytest.mark.parametrize(
    ("device", "key"),
    [
        pytest.param(b"\x01" * 32, DEVICE_KEY, id="a device that is no recipient"),
        pytest.param(DEVICE.key_id, HpkePrivateKey.generate(), id="a recipient with another key"),
        pytest.param(OTHER.key_id, DEVICE_KEY, id="a device in another's name"),
    ],
)
def test_nobody_but_a_recipient_opens_the_key(device: bytes, key: HpkePrivateKey) -> None:
    with pytest.raises(PackageRecipientError):
        verify(example()[0]).open_key(device, key)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{}", id="no fields"),
        pytest.param(b"", id="empty"),
        pytest.param(b'{"format":"TGSP/v1/recipients","suite":"RSA","recipients":[]}', id="another suite"),
        pytest.param(b"[" * 100_000, id="nested without end"),
    ],
)
def test_recipients_in_another_form_are_refused(content: bytes) -> None:
    with pytest.raises(PackageMalformedError):
        verify(packed({**unpacked(example()[0]), "recipients.json": content}))


def test_a_recipient_listed_twice_is_refused() -> None:
    files = unpacked(example()[0])
    value = json.loads(files["recipients.json"])
    value["recipients"] = [value["recipients"][0]] * 2
    with pytest.raises(PackageMalformedError):
        verify(packed({**files, "recipients.json": json.dumps(value).encode()}))


def test_a_seal_of_another_key_does_not_pass_for_the_committed_one() -> None:
    """A signer's ciphertext under one key, and a seal of another: the commitment tells them apart."""
    files = unpacked(example()[0])
    package = verify(example()[0])
    files["recipients.json"] = recipients.seal_to([DEVICE], bytes(32), package.manifest, package.package_id)
    with pytest.raises(PackageDamagedError):
        verify(packed(files)).open_key(DEVICE.key_id, DEVICE_KEY)


def test_inspecting_shows_the_manifest_without_trusting_it() -> None:
    manifest, container = inspect(io.BytesIO(build(signer=CompositePrivateKey.generate())[0]))
    assert manifest.line == "run-1"
    assert set(container.entries) == set(ENTRIES)


def test_checksums_of_the_container_are_those_of_its_contents() -> None:
    container = Container(io.BytesIO(example()[0]))
    for name, data in unpacked(example()[0]).items():
        assert container.entries[name][0].crc32 == zlib.crc32(data)
