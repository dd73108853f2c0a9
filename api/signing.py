"""Calling the signer where no server keeps one running; it works in its own process, alone with its keys."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tensorguard.errors import TensorGuardError

from api.roll_call import server_runs
from producers.settings import child_environment
from producers.settings.about import SIGNER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECONDS = 120


class SigningError(TensorGuardError):
    """The signer did not do what it was asked for."""

    code = "signing_failed"
    next_step = "Read what the signer wrote above; it refuses to sign behind or beside what it signed before."


class ServerSignsError(TensorGuardError):
    """A server's signer holds the keys."""

    code = "signer_active"
    next_step = "Stop the server on this data directory first."


def sign_once(data_dir: Path) -> None:
    """Sign what is committed now; nothing to do if a signer is running.

    Raises:
        SigningError: the signer refused.
    """
    if not server_runs(data_dir):
        _call(data_dir, "--once")


def sign_at(data_dir: Path, log_url: str, *, locked: bool) -> None:
    """Sign what is committed in the ledger of a URL; nothing to do if a signer is running.

    ``locked`` says that the caller itself holds the writer's lock, so that no server can be running.

    Raises:
        SigningError: the signer refused.
    """
    if locked or not server_runs(data_dir):
        _call(data_dir, "--once", {"TG_LOG_URL": log_url})


def rotate(data_dir: Path) -> None:
    """Make new keys.

    Raises:
        ServerSignsError: a server runs.
        SigningError: the signer refused.
    """
    if server_runs(data_dir):
        raise ServerSignsError("A running server holds the signer's keys.")
    _call(data_dir, "--rotate")


def _call(data_dir: Path, mode: str, given: Mapping[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "producers.signer", "--data-dir", str(data_dir), mode]
    environment = {**child_environment(SIGNER), **(given or {})}
    try:
        done = subprocess.run(command, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL, env=environment)
    except (subprocess.SubprocessError, OSError) as error:
        raise SigningError("The signer did not answer.") from error
    if done.returncode != 0:
        raise SigningError("The signer refused.")
