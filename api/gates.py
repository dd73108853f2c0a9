"""The gates of production: what must be so before a server with ``TG_ENVIRONMENT=production`` starts."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

from api.errors import ProductionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.settings import Settings

PRODUCTION = "production"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_DEBUGGING = ("PYTHONASYNCIODEBUG", "PYTHONINSPECT")


def check(settings: Settings, data_dir: Path) -> None:
    """Refuse to start where production's gates are not met; in development there are none.

    Raises:
        ProductionError: with everything that is to be set, in one go.
    """
    if settings.environment == PRODUCTION and (found := list(unmet(settings, data_dir))):
        raise ProductionError(" ".join(found))


def unmet(settings: Settings, data_dir: Path) -> Iterator[str]:
    """What production still asks for, a sentence each that says what to set."""
    if settings.tls_cert is None and settings.trusted_proxy is None:
        yield (
            "API keys would travel in the clear: set TG_TLS_CERT and TG_TLS_KEY, or name the proxy that ends TLS in "
            "TG_TRUSTED_PROXY."
        )
    if settings.secret_key is None:
        yield "TG_SECRET_KEY is not set: `openssl rand -hex 32` makes one."
    for path in open_key_files(settings, data_dir):
        yield f"{path} is open to other users: `chmod go-rwx {path}`."
    if sys.flags.dev_mode or any(map(os.environ.get, _DEBUGGING)):
        yield f"Python runs with debugging on: unset PYTHONDEVMODE, {', '.join(_DEBUGGING)}, and leave -X dev out."


def open_key_files(settings: Settings, data_dir: Path) -> list[Path]:
    """Keys, and folders of keys, that a group or others may read; what is not there yet is made private."""
    below = [data_dir / "signer", data_dir / "keys", *sorted((data_dir / "keys").rglob("*"))]
    paths = [path for path in (*below, settings.tls_key, settings.kafka_ssl_key) if path is not None and path.exists()]
    return [path for path in paths if stat.S_IMODE(path.stat().st_mode) & _OTHERS]
