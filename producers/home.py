"""Which ledger is an installation's own, once it was moved: a name in the data dir, beside no ledger and in none.

The records of a ledger that was moved say so themselves. A backup of it from before the move does not; this file does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from producers.errors import InstallationError
from producers.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

FILE = "ledger.json"
_FORMAT = 1


def read_home(data_dir: Path) -> str | None:
    """The name of the ledger that the installation moved to last; None if it never did.

    Raises:
        InstallationError: the file cannot be read.
    """
    try:
        value = json.loads((data_dir / FILE).read_bytes())
        if value["format"] == _FORMAT and isinstance(value["ledger"], str):
            return str(value["ledger"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InstallationError(f"{data_dir / FILE} cannot be read.") from error
    raise InstallationError(f"{data_dir / FILE} is of another format.")


def write_home(data_dir: Path, ledger: str) -> None:
    """Remember where the ledger is now."""
    replace_file(data_dir / FILE, json.dumps({"format": _FORMAT, "ledger": ledger}, indent=2).encode() + b"\n")
