"""What names models may have: in the catalogue, and on a hub."""

from __future__ import annotations

import re

from processors.errors import ModelNameError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def check_name(name: str) -> None:
    """Hold a name to what names may be.

    Raises:
        ModelNameError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise ModelNameError("That is no name for a catalogue model.")


def is_hub_id(text: str) -> bool:
    """Whether a text may name a model of a hub: ``owner/name`` or ``name``."""
    return _HUB_ID.fullmatch(text) is not None
