"""The data key, sealed to each recipient; outside of the signed content, bound to it through HPKE's ``info``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import StringConstraints, ValidationError

from tensorguard.artifact.manifest import Hex32, Strict, unique_object
from tensorguard.crypto import binding, hpke
from tensorguard.crypto.errors import WrongKeyError
from tensorguard.tgsp.errors import PackageMalformedError, PackageRecipientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorguard.crypto.hpke import HpkePrivateKey
    from tensorguard.tgsp.manifest import PackageManifest

FORMAT: Final = "TGSP/v1/recipients"
MAX_RECIPIENTS = 512


@dataclass(frozen=True, slots=True)
class Device:
    """A recipient: its enrolled key id (32 bytes) and its raw X-Wing public key."""

    key_id: bytes
    hpke_public_key: bytes


class Seal(Strict):
    """One recipient's sealed key; ``hpke_key`` is the SHA-256 of the public key that it was sealed to."""

    device: Hex32
    hpke_key: Hex32
    sealed: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$", max_length=8192)]


class Recipients(Strict):
    """The whole file."""

    format: Literal["TGSP/v1/recipients"] = FORMAT
    suite: Literal["HPKE-MLKEM768_X25519-HKDF_SHA256-AES_256_GCM"] = hpke.SUITE_NAME
    recipients: list[Seal]


def seal_to(devices: Sequence[Device], key: bytes, manifest: PackageManifest, package_id: bytes) -> bytes:
    """The file with the key sealed once per device.

    Raises:
        KeyMalformedError: a device's public key is none.
    """
    seals = [
        Seal(
            device=device.key_id.hex(),
            hpke_key=hpke.key_id_of(device.hpke_public_key).hex(),
            sealed=hpke.seal(device.hpke_public_key, key, info(manifest, package_id, device.key_id)).hex(),
        )
        for device in sorted(devices, key=lambda device: device.key_id)
    ]
    value = Recipients(recipients=seals).model_dump()
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def parse(data: bytes) -> Recipients:
    """The file's content.

    Raises:
        PackageMalformedError: it is none, or names a device twice.
    """
    try:
        found = Recipients.model_validate(json.loads(data, object_pairs_hook=unique_object))
    except (ValidationError, ValueError, RecursionError) as error:
        raise PackageMalformedError("The package's recipients are not in the known form.") from error
    devices = [seal.device for seal in found.recipients]
    if len(devices) > MAX_RECIPIENTS or devices != sorted(set(devices)):
        raise PackageMalformedError("The package's recipients are too many, or not sorted and all different.")
    return found


def open_key(
    data: bytes, *, device: bytes, private_key: HpkePrivateKey, manifest: PackageManifest, package_id: bytes
) -> bytes:
    """The data key that was sealed to this device.

    Raises:
        PackageRecipientError: none was, or it does not open.
        PackageMalformedError: the file is no list of recipients.
    """
    seal = next((seal for seal in parse(data).recipients if seal.device == device.hex()), None)
    if seal is None:
        raise PackageRecipientError("The package is not sealed to this device.")
    try:
        return private_key.open(bytes.fromhex(seal.sealed), info(manifest, package_id, device))
    except WrongKeyError as error:
        raise PackageRecipientError("The package's key for this device does not open with its private key.") from error


def info(manifest: PackageManifest, package_id: bytes, device: bytes) -> bytes:
    """What a seal is bound to: package, header, tenant, recipient and suite."""
    return binding.bind(
        "TGSP/v1/recipient",
        package_id,
        manifest.header_hash,
        manifest.tenant.encode(),
        device,
        hpke.SUITE_NAME.encode(),
    )
