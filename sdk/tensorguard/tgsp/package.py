"""Reading a package: nothing is parsed before its signature holds, nothing is decrypted before all else is checked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from tensorguard.crypto import composite, stream
from tensorguard.crypto.composite import CompositePublicKey
from tensorguard.crypto.errors import CryptoError, KeyMalformedError, StreamError, WrongKeyError
from tensorguard.tgsp import evidence, recipients
from tensorguard.tgsp.archive import Container
from tensorguard.tgsp.errors import (
    PackageDamagedError,
    PackageExpiredError,
    PackageMalformedError,
    PackagePolicyError,
    PackageReleaseModeError,
    PackageSignatureError,
)
from tensorguard.tgsp.manifest import (
    CONTEXT,
    EVIDENCE,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_SMALL_BYTES,
    OUTSIDE,
    POLICY,
    RECIPIENTS,
    SIGNATURE,
    WEIGHTS,
    PackageManifest,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tensorguard.crypto.hpke import HpkePrivateKey
    from tensorguard.ledger.trust import TrustRoot
    from tensorguard.tgsp.evidence import Evidence

_MICROSECONDS = 1_000_000


def package_id_of(manifest: bytes) -> bytes:
    """The id of a package: SHA-256 of its manifest's exact bytes (32 bytes); the ledger's ``package_digest``."""
    return sha256(manifest).digest()


def trusted_keys(root: TrustRoot) -> list[CompositePublicKey]:
    """The keys of a trust root that may sign packages."""
    return [CompositePublicKey(key.public_key) for key in root.artifact_keys]


def inspect(file: BinaryIO) -> tuple[PackageManifest, Container]:
    """The manifest of a file, with nothing checked but its form: for looking, never for using.

    Raises:
        PackageMalformedError, PackageDamagedError, UnknownAlgorithmError: the file is no package of ours.
    """
    container = Container(file)
    return parse_manifest(container.read(MANIFEST, MAX_MANIFEST_BYTES)), container


@dataclass(frozen=True, slots=True)
class Package:
    """A package whose signature and digests hold; ``evidence`` is its lineage."""

    manifest: PackageManifest
    package_id: bytes
    evidence: Evidence
    container: Container

    @classmethod
    def verify(cls, file: BinaryIO, trusted: Iterable[CompositePublicKey]) -> Package:
        """Check form, signature and every digest.

        Raises:
            PackageMalformedError: the file is not in the one allowed form.
            PackageSignatureError: no trusted key signed the manifest.
            UnknownAlgorithmError: it uses an algorithm that is not accepted.
            PackageDamagedError: an entry is not what the manifest says.
        """
        container = Container(file)
        data = container.read(MANIFEST, MAX_MANIFEST_BYTES)
        key_id = _check_signature(data, container.read(SIGNATURE, composite.SIGNATURE_BYTES), trusted)
        manifest = parse_manifest(data)
        if manifest.signing_key_id != key_id.hex():
            raise PackageSignatureError("The manifest names another signing key than the one that signed it.")
        _check_entries(manifest, container)
        lineage = evidence.parse(container.read(EVIDENCE, MAX_SMALL_BYTES))
        return cls(manifest, package_id_of(data), lineage, container)

    def check_expiry(self, now: int) -> None:
        """Refuse a package whose time is over; ``now`` is microseconds since the epoch.

        Raises:
            PackageExpiredError: it is.
        """
        expiry = self.manifest.expires_at
        if expiry is not None and now >= expiry:
            when = datetime.fromtimestamp(min(expiry, now) // _MICROSECONDS, UTC).isoformat()
            raise PackageExpiredError(f"The package expired at {when}.")

    def check_policy(self) -> None:
        """Refuse a package with a policy: what cannot be evaluated denies.

        Raises:
            PackagePolicyError: it has one.
        """
        if POLICY in self.manifest.entries:
            raise PackagePolicyError("The package carries a policy, and this build evaluates none.")

    def open_key(self, device: bytes, private_key: HpkePrivateKey) -> stream.StreamKey:
        """What opens the weights, for a recipient.

        Raises:
            PackageReleaseModeError: the key is a broker's to release.
            PackageRecipientError: it is not sealed to this device.
            PackageDamagedError: the key is not the one that the manifest commits to.
        """
        if self.manifest.release_mode != "offline":
            raise PackageReleaseModeError("The package is in broker mode.")
        sealed = self.container.read(RECIPIENTS, MAX_SMALL_BYTES)
        key = recipients.open_key(
            sealed, device=device, private_key=private_key, manifest=self.manifest, package_id=self.package_id
        )
        try:
            stream.check_commitment(key, bytes.fromhex(self.manifest.weights.key_commitment))
            return self.manifest.stream_key(key)
        except (WrongKeyError, KeyMalformedError) as error:
            raise PackageDamagedError("The sealed key is not the one that the signed manifest commits to.") from error

    def decrypt_weights(self, key: stream.StreamKey, target: memoryview) -> None:
        """Decrypt the weights, chunk by chunk, into memory of exactly ``plaintext_size`` bytes; wipe it on an error.

        Raises:
            PackageDamagedError: the ciphertext is not what was signed.
        """
        try:
            digest = stream.decrypt_into(self.container.section(WEIGHTS), target, key)
        except StreamError as error:
            raise PackageDamagedError("The package's weights do not decrypt.") from error
        if digest.hex() != self.manifest.entries[WEIGHTS].sha256:
            raise PackageDamagedError("The package's weights changed while they were read.")


def _check_signature(data: bytes, signature: bytes, trusted: Iterable[CompositePublicKey]) -> bytes:
    """The id of the trusted key that signed."""
    for key in trusted:
        try:
            key.verify(signature, data, CONTEXT)
        except CryptoError:
            continue
        return key.key_id
    raise PackageSignatureError("No key of the trust root signed this package.")


def _check_entries(manifest: PackageManifest, container: Container) -> None:
    if container.entries.keys() != OUTSIDE | manifest.entries.keys():
        raise PackageDamagedError("The package has other entries than its manifest lists.")
    for name, expected in manifest.entries.items():
        entry, _ = container.entries[name]
        if entry.size != expected.size or container.digest(name).hex() != expected.sha256:
            raise PackageDamagedError(f"The package's {name} is not what the manifest says.")
    header = manifest.weights
    if manifest.entries[WEIGHTS].size != stream.sealed_size(header.plaintext_size, header.chunk_size):
        raise PackageMalformedError("The sizes in the package's manifest contradict each other.")
    recipients.parse(container.read(RECIPIENTS, MAX_SMALL_BYTES))
