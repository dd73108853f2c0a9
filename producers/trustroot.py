"""The trust root of this installation: the public keys of the authority, the signer and the artifacts, in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tensorguard.crypto.composite import CompositePrivateKey
from tensorguard.ledger import trust
from tensorguard.ledger.checkpoint import SignerKeys

from producers.clock import SECOND, Clock
from producers.errors import InstallationError
from producers.secretfiles import read_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.identities import Producer

PUBLIC_KEYS_FILE = Path("checkpoints") / "signer.json"
COMPOSITE_SEED_BYTES = 64
_FORMAT = 1


class Keyring(Protocol):
    """What a trust root is made from."""

    data_dir: Path
    installation_id: str
    origin: str
    clock: Clock

    def producer(self, role: str) -> Producer:
        """The producer of a role."""

    @property
    def artifact_signing_key(self) -> Path:
        """The file of the composite private key."""


def make_trust_root(keyring: Keyring) -> bytes:
    """The bytes of the trust root, signed by the authority.

    Raises:
        InstallationError: the signer has published no keys.
        KeyFileError: a key file is missing or damaged.
    """
    authority = keyring.producer("authority")
    artifact = artifact_public_key(keyring.artifact_signing_key)
    root = trust.TrustRoot(
        installation_id=keyring.installation_id,
        origin=keyring.origin,
        authority_key=authority.public_key,
        signer_keys=tuple(signer_keys(keyring.data_dir)),
        artifact_keys=(artifact,),
        issued_at=keyring.clock() // SECOND,
    )
    return trust.build(root, authority.sign_message)


def artifact_public_key(path: Path) -> trust.ArtifactKey:
    """The public half of the composite key in a file.

    Raises:
        KeyFileError: the file is missing, damaged or open to others.
    """
    public = CompositePrivateKey(read_secret(path, COMPOSITE_SEED_BYTES)).public_key
    return trust.ArtifactKey(public.key_id, public.data)


def signer_keys(data_dir: Path) -> list[SignerKeys]:
    """The public keys that the signer published, in the order of their rotation.

    Raises:
        InstallationError: there are none, or the file is damaged.
    """
    try:
        value = json.loads((data_dir / PUBLIC_KEYS_FILE).read_bytes())
        return [
            SignerKeys(bytes.fromhex(key["ed25519"]), bytes.fromhex(key["mldsa44"]), key["since"], key["until"])
            for key in value["keys"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallationError("The signer's public keys cannot be read.") from error


def signer_keys_document(keys: Sequence[SignerKeys]) -> bytes:
    """What the signer publishes about itself; times are POSIX seconds."""
    rows = [
        {"ed25519": key.ed25519.hex(), "mldsa44": key.mldsa44.hex(), "since": key.since, "until": key.until}
        for key in keys
    ]
    return json.dumps({"format": _FORMAT, "keys": rows}, indent=2).encode() + b"\n"
