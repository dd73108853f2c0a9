"""The order in which a device comes to trust a package. Any doubt ends it; nothing is decrypted before the last step.

signature, digests -> expiry, release -> ledger receipt -> policy -> base model -> key -> weights, into locked memory
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tensorguard.model_manifest import digest_files, manifest_digest, stamps
from tensorguard.tgsp import tensors
from tensorguard.tgsp.errors import PackageDamagedError, PackageModelError
from tensorguard.tgsp.package import Package, trusted_keys
from tensorguard.tgsp.receipt import check_receipt

from edge.memory import LockedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tensorguard.ledger.proof import Receipt
    from tensorguard.ledger.trust import TrustRoot
    from tensorguard.tgsp.tensors import Slice

    from edge.identity import Identity
    from edge.releases import Releases


@dataclass(frozen=True, slots=True)
class Checked:
    """A package about which nothing is in doubt any more; its weights are still sealed."""

    package: Package
    receipt: Receipt
    model: Path
    model_stamps: Mapping[str, tuple[int, ...]]

    def confirm_model(self) -> None:
        """Once the base model is in memory: its files are still those that were checked.

        Raises:
            PackageModelError: one changed meanwhile.
        """
        if stamps(self.model) != self.model_stamps:
            raise PackageModelError("The base model's files changed while they were loaded.")


@dataclass(frozen=True, slots=True)
class Weights:
    """Plaintext weights in locked memory; valid inside the block that made them."""

    image: memoryview
    tensors: dict[str, Slice]
    locked: bool


def check(file: BinaryIO, *, receipt: bytes, root: TrustRoot, releases: Releases, model: Path, now: int) -> Checked:
    """Run every check that needs no key; ``now`` is microseconds since the epoch.

    Raises:
        PackageError, CryptoError, LedgerError, IdentityError: what is in doubt.
    """
    package = Package.verify(file, trusted_keys(root))
    package.check_expiry(now)
    releases.check(package)
    proven = check_receipt(receipt, root, package)
    package.check_policy()
    found = stamps(model)
    check_model(package, model)
    return Checked(package, proven, model, found)


def check_model(package: Package, folder: Path) -> None:
    """Hash the base model's files and compare.

    Raises:
        PackageModelError: they are not those that the weights belong on.
    """
    try:
        found = manifest_digest(digest_files(folder)).hex()
    except OSError as error:
        raise PackageModelError(f"The base model's files cannot be read ({error.strerror}).") from error
    if found != package.manifest.compatibility.model_manifest_digest:
        raise PackageModelError("The base model's files are not those that the package was made for.")


@contextmanager
def opened_weights(checked: Checked, identity: Identity) -> Iterator[Weights]:
    """Open the key, decrypt the weights into locked memory, and wipe that memory when the block ends.

    Raises:
        PackageRecipientError, PackageReleaseModeError: there is no key for this device.
        PackageDamagedError, PackageMalformedError: the weights are not what was signed.
        MemoryNotLockedError: they could reach the swap area.
    """
    package = checked.package
    key = package.open_key(identity.key_id, identity.hpke_key)
    with LockedMemory(package.manifest.weights.plaintext_size) as memory:
        package.decrypt_weights(key, memory.view)
        found, _ = tensors.parse(memory.view)
        if tensors.adapter_digest(memory.view, found).hex() != package.evidence.adapter_digest:
            raise PackageDamagedError("The weights are not those of the checkpoint in the evidence.")
        yield Weights(memory.view, found, memory.locked)
