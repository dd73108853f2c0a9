"""The newest release of each line that this device has opened: what is older is refused from then on."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tensorguard.crypto.binding import bind
from tensorguard.tgsp.errors import PackageRolledBackError

from edge.errors import IdentityError
from edge.files import locked, write_durably

if TYPE_CHECKING:
    from pathlib import Path

    from tensorguard.tgsp.package import Package


class Releases:
    """One small file per line, below the identity; a release is (counter, time of its making)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "releases"

    def check(self, package: Package) -> None:
        """Refuse a package that is older than one opened before.

        Raises:
            PackageRolledBackError: it is.
            IdentityError: what is remembered cannot be read; so nothing can be excluded.
        """
        newest = self._newest(package)
        if _release(package) < newest:
            raise PackageRolledBackError(
                f"Release {package.manifest.release_counter} of this line is older than release {newest[0]}, "
                "which was opened here before."
            )

    def remember(self, package: Package) -> None:
        """Let nothing older than this package be opened any more; durable when it returns.

        Raises:
            PackageRolledBackError: another agent of this device opened a newer one since the check.
            IdentityError: it cannot be written.
        """
        counter, created_at = _release(package)
        entry = {"release_counter": counter, "created_at": created_at, "package_id": package.package_id.hex()}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self._folder):
                self.check(package)
                write_durably(self._path(package), json.dumps(entry).encode() + b"\n", mode=0o600)
        except OSError as error:
            raise IdentityError(f"The opened release cannot be remembered ({error.strerror}).") from error

    def _newest(self, package: Package) -> tuple[int, int]:
        path = self._path(package)
        try:
            entry: dict[str, Any] = json.loads(path.read_bytes())
            return int(entry["release_counter"]), int(entry["created_at"])
        except FileNotFoundError:
            return (-1, -1)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IdentityError(
                f"{path} cannot be read.", next_step="Restore it; without it an old release could be passed off as new."
            ) from error

    def _path(self, package: Package) -> Path:
        line = bind("tensorguard/line/v1", package.manifest.tenant.encode(), package.manifest.line.encode())
        return self._folder / f"{sha256(line).hexdigest()}.json"


def _release(package: Package) -> tuple[int, int]:
    return package.manifest.release_counter, package.manifest.created_at
