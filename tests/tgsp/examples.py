"""A real small package, made by the real builder, for tests to look at and to damage."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from functools import cache
from typing import Any

from tensorguard.artifact import LoraSettings
from tensorguard.crypto.composite import CompositePrivateKey
from tensorguard.crypto.hpke import HpkePrivateKey
from tensorguard.tgsp.building import BuiltPackage, PackageSubject, build_package
from tensorguard.tgsp.evidence import Evidence
from tensorguard.tgsp.manifest import Compatibility
from tensorguard.tgsp.package import Package
from tensorguard.tgsp.recipients import Device

SIGNER = CompositePrivateKey.generate()
DEVICE_KEY = HpkePrivateKey.generate()
DEVICE = Device(b"\x0d" * 32, DEVICE_KEY.public_key)
OTHER = Device(b"\x0e" * 32, HpkePrivateKey.generate().public_key)
WEIGHTS = b"plaintext weights " * 40
NOW = 1_700_000_000_000_000

SUBJECT = PackageSubject(
    request_id=bytes(range(16)),
    line="run-1",
    release_counter=3,
    created_at=NOW,
    expires_at=None,
    compatibility=Compatibility(
        model="org/base",
        model_manifest_digest="11" * 32,
        tokenizer_digest="22" * 32,
        architecture="LlamaForCausalLM",
        adapter=LoraSettings(rank=4, alpha=8.0, dropout=0.0, target_modules=["q_proj"], bias="none"),
    ),
    evidence=Evidence(
        tenant="acme",
        run_id="run-1",
        artifact_id="33" * 16,
        artifact_manifest_digest="44" * 32,
        artifact_content_hash="55" * 32,
        adapter_digest="66" * 32,
        model="org/base",
        model_manifest_digest="11" * 32,
        tokenizer_digest="22" * 32,
        step=7,
        checkpoint_created_at=NOW,
    ),
)


def build(
    weights: bytes = WEIGHTS, *, signer: CompositePrivateKey = SIGNER, **changes: Any
) -> tuple[bytes, BuiltPackage]:
    """A package's bytes and what was said of it."""
    out, scratch = io.BytesIO(), io.BytesIO()
    built = build_package(
        out,
        scratch,
        replace(SUBJECT, **changes),
        [weights[:5], weights[5:]],
        devices=[OTHER, DEVICE],
        signing_key=signer,
        chunk_size=256,
        random_bytes=os.urandom,
    )
    return out.getvalue(), built


@cache
def example() -> tuple[bytes, BuiltPackage]:
    """One package, made once."""
    return build()


def verify(data: bytes) -> Package:
    """What a reader does first."""
    return Package.verify(io.BytesIO(data), [SIGNER.public_key])


def decrypt(package: Package) -> bytes:
    """What a recipient does last."""
    target = bytearray(package.manifest.weights.plaintext_size)
    package.decrypt_weights(package.open_key(DEVICE.key_id, DEVICE_KEY), memoryview(target))
    return bytes(target)
