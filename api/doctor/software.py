"""The libraries: there, new enough, and able to do what is asked of them."""

from __future__ import annotations

import re
import sqlite3
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import TYPE_CHECKING

from api.doctor.findings import Finding, failed, ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.settings import Settings

PLATFORM = "tensorguardflow"
LEAST_SQLITE = (3, 37)
_NEEDED = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*\])?(?:>=(?P<least>[0-9.]+))?")
_STEP = "Run `make setup`."


def look(settings: Settings) -> Iterator[Finding]:
    """Everything about the libraries."""
    yield libraries()
    yield sqlite()
    yield post_quantum()
    if settings.device.startswith("cuda"):
        yield device(settings.device)


def libraries() -> Finding:
    """Each library that the platform names, in the version that it needs at least."""
    wrong = [fault for each in distribution(PLATFORM).requires or () if (fault := _fault(each))]
    if wrong:
        return failed("libraries", "; ".join(wrong) + ".", _STEP)
    shown = (f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "cryptography"))
    return ok("libraries", f"All are there: {', '.join(shown)}.")


def _fault(requirement: str) -> str | None:
    needed = _NEEDED.match(requirement)
    if needed is None or "extra ==" in requirement:
        return None
    name, least = needed["name"], needed["least"]
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is missing"
    return f"{name} {found} is older than {least}" if least and _parts(found) < _parts(least) else None


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])


def sqlite() -> Finding:
    """The SQLite that Python brings keeps the ledger."""
    if sqlite3.sqlite_version_info < LEAST_SQLITE:
        return failed(
            "sqlite", f"SQLite {sqlite3.sqlite_version} is too old.", "Take a Python with SQLite 3.37 or newer."
        )
    return ok("sqlite", f"SQLite {sqlite3.sqlite_version}.")


def post_quantum() -> Finding:
    """A checkpoint is cosigned with ML-DSA-44, a package signed with ML-DSA-65: try both."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415 -- light start
    from cryptography.hazmat.primitives.asymmetric import mldsa  # noqa: PLC0415

    try:
        for kind in (mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey):
            key = kind.generate()
            key.public_key().verify(key.sign(b"doctor"), b"doctor")
    except (UnsupportedAlgorithm, InvalidSignature) as error:
        detail = f"ML-DSA does not work with cryptography {version('cryptography')} ({type(error).__name__})."
        return failed("ml-dsa", detail, f"Install cryptography 48 or newer from its own wheel. {_STEP}")
    return ok("ml-dsa", "ML-DSA-44 and ML-DSA-65 sign and verify.")


def device(name: str) -> Finding:
    """A GPU that the settings name is there."""
    import torch  # noqa: PLC0415 -- seconds, and only where a GPU is asked for

    number = int(name.partition(":")[2] or 0)
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= found:
        return failed("device", f"{found} CUDA devices are there.", "Set TG_DEVICE to cpu or auto, or to one of them.")
    return ok("device", f"{torch.cuda.get_device_name(number)} is there.")
