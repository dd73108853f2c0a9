"""What commands print: results on stdout, errors on stderr, both as JSON for programs when they ask for it."""

from __future__ import annotations

import json
import sys
from typing import Any

from tensorguard.errors import TensorGuardError

PROBLEM_PREFIX = "urn:tensorguard:problem:"


def print_json(value: Any) -> None:
    """A result for programs."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_line(text: str) -> None:
    """A line for people."""
    sys.stdout.write(text + "\n")


def problem(error: TensorGuardError) -> dict[str, Any]:
    """An error in the shape of the REST problem documents (RFC 9457)."""
    return {
        "type": PROBLEM_PREFIX + error.code,
        "title": type(error).__name__.removesuffix("Error"),
        "detail": error.detail,
        "code": error.code,
        "next_step": error.next_step,
    }


def print_error(error: TensorGuardError, *, as_json: bool) -> None:
    """An error with its next step; never a traceback."""
    text = json.dumps(problem(error)) if as_json else f"error[{error.code}]: {error}"
    sys.stderr.write(text + "\n")
