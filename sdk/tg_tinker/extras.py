"""Libraries of the optional ``data`` extra, imported when they are used and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tg_tinker.errors import MissingExtraError


def need(module: str) -> Any:
    """A module that needs an optional library.

    Raises:
        MissingExtraError: it, or a library below it, is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The library {error.name} is not installed.") from error
