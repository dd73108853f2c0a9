"""A KEK in a file of mode 0600, and DEKs wrapped by it with AES-256-KWP, one file per tenant.

With a master secret the KEK's file is wrapped under it; a bare one is wrapped when a server first starts with it.

The wrapped value is the DEK followed by a hash of tenant and key id, so that a file put under another tenant's name
does not open.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from typing import TYPE_CHECKING, Any

from tensorguard.crypto import binding, wrap
from tensorguard.crypto.errors import CryptoError
from tensorguard.crypto.wrap import Dek

from processors.keys import master
from processors.keys.port import KeyLostError, TenantNameError
from producers.errors import KeyFileError
from producers.files import replace_file
from producers.locks import locked
from producers.secretfiles import ensure_secret, private_folder, read_secret

if TYPE_CHECKING:
    from pathlib import Path

    from producers.installation import Installation

FORMAT = 1
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class FileKeyProvider:
    """The keys below one folder: ``kek`` and ``deks/<tenant>.wrapped``."""

    algorithm = wrap.ALGORITHM

    def __init__(self, keys_dir: Path, master: bytes | None = None) -> None:
        self.keys_dir = keys_dir
        self._master = master

    @classmethod
    def of(cls, installation: Installation) -> FileKeyProvider:
        """The keys of an installation, under the master secret that is set."""
        return cls(installation.keys_dir, master.secret_of(installation.settings.key_master))

    @property
    def wrapped(self) -> bool:
        """Whether no bare KEK lies on the disk."""
        path = self.keys_dir / "kek"
        return not path.exists() or master.is_wrapped(path.read_bytes())

    def check(self) -> int:
        """Open every key that is there and make none; how many tenants have one.

        Raises:
            KeyLockedError, KeyLostError: one does not open.
        """
        tenants = sorted(path.stem for path in (self.keys_dir / "deks").glob("*.wrapped"))
        if (self.keys_dir / "kek").exists() or tenants:
            self._kek()
        for tenant in tenants:
            self.tenant_dek(tenant)
        return len(tenants)

    def protect(self) -> None:
        """Wrap a bare KEK if there is a master secret, and make sure that the KEK opens, if there is one.

        Raises:
            KeyLockedError: it is wrapped under another secret, or none is set.
            KeyLostError: its file is damaged.
        """
        path = self.keys_dir / "kek"
        if not path.exists():
            return
        with locked(private_folder(self.keys_dir / "deks") / ".lock"):
            kek = self._kek()
            if self._master is not None and not master.is_wrapped(path.read_bytes()):
                _replace_secret(path, master.wrap_kek(self._master, kek))

    def tenant_dek(self, tenant: str) -> Dek:
        """See :class:`processors.keys.port.KeyProvider`."""
        if not _TENANT.fullmatch(tenant):
            raise TenantNameError("That is no name of a tenant.")
        path = self.keys_dir / "deks" / f"{tenant}.wrapped"
        if not path.exists():
            self._create(tenant, path)
        return _unwrap(self._kek(), tenant, path)

    def _create(self, tenant: str, path: Path) -> None:
        deks = private_folder(private_folder(self.keys_dir) / "deks")
        with locked(deks / ".lock"):
            if path.exists():
                return
            if not any(deks.glob("*.wrapped")):
                self._create_kek()
            dek_id, dek = secrets.token_hex(16), secrets.token_bytes(wrap.KEY_BYTES)
            wrapped = wrap.wrap_key(self._kek(), dek + _binding(tenant, dek_id))
            entry = {"format": FORMAT, "algorithm": wrap.ALGORITHM, "dek_id": dek_id, "wrapped": wrapped.hex()}
            replace_file(path, json.dumps(entry).encode() + b"\n", mode=0o600)

    def _create_kek(self) -> None:
        kek = secrets.token_bytes(wrap.KEY_BYTES)
        ensure_secret(self.keys_dir / "kek", master.wrap_kek(self._master, kek) if self._master else kek)

    def _kek(self) -> bytes:
        try:
            data = read_secret(self.keys_dir / "kek")
        except KeyFileError as error:
            raise KeyLostError(error.detail, next_step=error.next_step) from error
        return master.unwrap_kek(self._master, data) if master.is_wrapped(data) else data


def _replace_secret(path: Path, data: bytes) -> None:
    """Put new content in the place of a secret, and overwrite the old one where the file system writes in place."""
    with path.open("r+b") as old:
        replace_file(path, data, mode=stat.S_IRUSR | stat.S_IWUSR)
        old.write(bytes(path.stat().st_size))
        old.flush()
        os.fsync(old.fileno())


def _binding(tenant: str, dek_id: str) -> bytes:
    return binding.bound_hash("tensorguard/dek/v1", tenant.encode(), dek_id.encode())


def _unwrap(kek: bytes, tenant: str, path: Path) -> Dek:
    try:
        entry: dict[str, Any] = json.loads(path.read_bytes())
        if (entry["format"], entry["algorithm"]) != (FORMAT, wrap.ALGORITHM):
            raise KeyLostError(f"The key of tenant {tenant} was wrapped in a way that this version does not know.")
        dek_id = str(entry["dek_id"])
        opened = wrap.unwrap_key(kek, bytes.fromhex(entry["wrapped"]))
    except (OSError, ValueError, KeyError, TypeError, CryptoError) as error:
        raise KeyLostError(f"The key of tenant {tenant} cannot be unwrapped.") from error
    dek, bound = opened[: wrap.KEY_BYTES], opened[wrap.KEY_BYTES :]
    if bound != _binding(tenant, dek_id):
        raise KeyLostError(f"The key file of tenant {tenant} holds another tenant's key.")
    return Dek(dek_id, dek)
