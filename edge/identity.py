"""A device's own keys: Ed25519 for what it signs, X-Wing for what is sealed to it. They never leave their folder."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tensorguard.crypto.hpke import HpkePrivateKey
from tensorguard.ledger.envelope import key_id_of, sign_batch

from edge.errors import IdentityError, IdentityExistsError
from edge.files import write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from tensorguard.ledger.envelope import SignedCommand

SIGNING, SEALING = "signing.key", "hpke.key"
SEED_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Identity:
    """Two seeds of 32 bytes; their text form shows neither."""

    signing_seed: bytes = field(repr=False)
    hpke_key: HpkePrivateKey = field(repr=False)

    @classmethod
    def create(cls, folder: Path) -> Identity:
        """Make an identity in a folder, which only its owner may enter.

        Raises:
            IdentityExistsError: there is one already.
            IdentityError: it cannot be written.
        """
        if any((folder / name).exists() for name in (SIGNING, SEALING)):
            raise IdentityExistsError(f"{folder} holds an identity already.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(stat.S_IRWXU)
            for name in (SIGNING, SEALING):
                write_durably(folder / name, secrets.token_bytes(SEED_BYTES), mode=0o600)
        except OSError as error:
            raise IdentityError(f"An identity cannot be written to {folder} ({error.strerror}).") from error
        return cls.load(folder)

    @classmethod
    def load(cls, folder: Path) -> Identity:
        """The identity of a folder.

        Raises:
            IdentityError: a key file is missing, of another size, or open to other users.
        """
        return cls(_read(folder / SIGNING), HpkePrivateKey(_read(folder / SEALING)))

    @property
    def public_key(self) -> bytes:
        """The raw Ed25519 public key."""
        return self._signing_key().public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        """How the ledger names this device: SHA-256 of the Ed25519 public key."""
        return key_id_of(self.public_key)

    def sign(self, payload: bytes) -> SignedCommand:
        """A command envelope, signed."""
        return sign_batch([payload], self.public_key, self._signing_key().sign)[0]

    def _signing_key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.signing_seed)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(SEED_BYTES + 1)
    except OSError as error:
        raise IdentityError(f"{path} cannot be read ({error.strerror}).") from error
    if mode & _OTHERS:
        raise IdentityError(f"{path} is open to other users.", next_step=f"Run `chmod 600 {path}`.")
    if len(data) != SEED_BYTES:
        raise IdentityError(f"{path} is no key file.")
    return data
