"""A data dir: what belongs to one installation, made once on first use.

Layout: ``installation.json``, ``ledger.db``, ``keys/`` (mode 0700: the producers' seeds and what the platform encrypts
with), ``signer/`` (the signer's alone), ``checkpoints/``, ``trust-root.json``, ``bells/``, ``run/``.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from producers.clock import Clock, system_clock
from producers.engines.opening import open_engine
from producers.engines.sqlite_errors import typed_errors
from producers.errors import InstallationError
from producers.files import replace_file
from producers.identities import ROLES, SEED_BYTES, Producer
from producers.locks import locked
from producers.secretfiles import ensure_secret, private_folder, read_secret
from producers.settings import Settings, child_environment, read
from producers.settings.about import SIGNER
from producers.trustroot import COMPOSITE_SEED_BYTES, PUBLIC_KEYS_FILE, make_trust_root

if TYPE_CHECKING:
    from pathlib import Path

    from producers.engines.port import LogEngine

FORMAT = 1
_SIGNER_SECONDS = 60


class Installation:
    """One data dir with its identity, keys and ledger."""

    def __init__(
        self, data_dir: Path, installation_id: str, origin: str, settings: Settings, clock: Clock = system_clock
    ) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.installation_id = installation_id
        self.origin = origin
        self.clock = clock
        self._engine: LogEngine | None = None
        self._engine_lock = threading.Lock()

    @classmethod
    def open(cls, data_dir: Path) -> Installation:
        """The installation in a folder, with everything that was missing; several processes may do this at once.

        Raises:
            InstallationError: the folder cannot be used, holds another format, or the signer could not start.
            SettingsError: a setting holds what it cannot.
            StorageFullError: there is no space for what is missing.
        """
        data_dir = data_dir.resolve()
        settings = read(data_dir).settings
        try:
            with typed_errors("data dir"), locked(data_dir / "run" / "installation.lock"):
                return cls._complete(data_dir, settings)
        except OSError as error:
            raise InstallationError(f"The data dir {data_dir} cannot be used.") from error

    @classmethod
    def _complete(cls, data_dir: Path, settings: Settings) -> Installation:
        identity = _identity(data_dir)
        installation = cls(data_dir, identity["installation_id"], identity["origin"], settings)
        _ensure_keys(data_dir / "keys")
        _ensure_signer(data_dir)
        if not installation.trust_root_path.exists():
            installation.write_trust_root()
        return installation

    def producer(self, role: str) -> Producer:
        """The producer of a role of this installation.

        Raises:
            KeyFileError: there is no sound key file of that role.
        """
        return Producer.load(self.keys_dir / f"{role}.key", role)

    def engine(self, nap: float = 0.0) -> LogEngine:
        """The ledger, opened once for this object; ``nap`` is that of the first call, see :func:`open_engine`."""
        with self._engine_lock:
            if self._engine is None:
                self._engine = open_engine(self.settings, self.data_dir, nap)
            return self._engine

    @property
    def blobs_dir(self) -> Path:
        """Where sealed blobs lie."""
        return self.settings.blobs_path(self.data_dir)

    @property
    def views_path(self) -> Path:
        """Where the read models lie."""
        return self.settings.views_path(self.data_dir)

    @property
    def keys_dir(self) -> Path:
        """Where the platform's keys lie."""
        return self.data_dir / "keys"

    @property
    def artifact_signing_key(self) -> Path:
        """The file of the composite key that signs checkpoints and packages: ML-DSA-65 seed, then Ed25519 seed."""
        return self.keys_dir / "artifact.key"

    @property
    def trust_root_path(self) -> Path:
        """What an auditor starts from."""
        return self.data_dir / "trust-root.json"

    def api_key_pepper(self) -> bytes:
        """The key of the keyed hashes of API keys: 32 bytes."""
        return read_secret(self.keys_dir / "api-key-pepper", SEED_BYTES)

    def write_trust_root(self) -> Path:
        """Write what an auditor starts from, by the keys of now, signed by the authority; its path."""
        replace_file(self.trust_root_path, make_trust_root(self))
        return self.trust_root_path

    def close(self) -> None:
        """Give back the ledger."""
        with self._engine_lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


def _identity(data_dir: Path) -> dict[str, Any]:
    path = data_dir / "installation.json"
    if not path.exists():
        name = secrets.token_hex(16)
        fresh = {"format": FORMAT, "installation_id": name, "origin": f"tensorguard.local/{name}"}
        replace_file(path, json.dumps(fresh, indent=2).encode() + b"\n")
    return read_identity(data_dir)


def read_identity(data_dir: Path) -> dict[str, Any]:
    """The identity of an existing installation: ``installation_id`` and ``origin``.

    Raises:
        InstallationError: there is none, or it is of another format.
    """
    try:
        value = json.loads((data_dir / "installation.json").read_text())
        if value["format"] == FORMAT and all(isinstance(value[key], str) for key in ("installation_id", "origin")):
            return dict(value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallationError(f"{data_dir} holds no readable installation.json.") from error
    raise InstallationError(f"{data_dir} is an installation of another format.")


def _ensure_keys(folder: Path) -> None:
    private_folder(folder)
    for role in ROLES:
        ensure_secret(folder / f"{role}.key", secrets.token_bytes(SEED_BYTES))
    ensure_secret(folder / "artifact.key", secrets.token_bytes(COMPOSITE_SEED_BYTES))
    ensure_secret(folder / "api-key-pepper", secrets.token_bytes(SEED_BYTES))


def _ensure_signer(data_dir: Path) -> None:
    """Let the signer make its keys in its own process; this one learns only the public ones."""
    if (data_dir / PUBLIC_KEYS_FILE).exists():
        return
    command = [sys.executable, "-m", "producers.signer", "--data-dir", str(data_dir), "--init"]
    try:
        environment = child_environment(SIGNER)
        subprocess.run(command, check=True, timeout=_SIGNER_SECONDS, stdin=subprocess.DEVNULL, env=environment)
    except (subprocess.SubprocessError, OSError) as error:
        raise InstallationError("The signer could not make its keys.") from error
