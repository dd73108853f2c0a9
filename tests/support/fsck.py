"""Tessera's fsck: a checker of C2SP tlog-tiles logs that is not ours, built once from the Go module proxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.support.require import absent

MODULE = "github.com/transparency-dev/tessera/cmd/fsck"
VERSION = "v1.0.4"
_BUILD_SECONDS = 240
_CHECK_SECONDS = 30


def fsck(log: Path, public_key: Path | None = None, url: str | None = None) -> bool:
    """Whether fsck accepts a log's folder, read from the disk or a server, under the key that lies in it or another."""
    command = [_program(), "--ui=false", "-N", "4", "--storage_url", url or f"file://{log}/"]
    command += ["--public_key", str(public_key or log / "signer.pub")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CHECK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    # Its exit status is 0 on damage, too: what it prints decides.
    return done.returncode == 0 and "Successfully fsck'd" in done.stderr


@cache
def _program() -> str:
    cached = Path(os.environ.get("TG_CACHE") or Path.home() / ".cache" / "tensorguard") / "fsck" / VERSION / "fsck"
    if not cached.exists():
        _build(cached)
    return str(cached)


def _build(cached: Path) -> None:
    go = shutil.which("go")
    if go is None:
        absent("fsck", "there is no Go to build it")
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as folder:
        command = [str(go), "install", f"{MODULE}@{VERSION}"]
        environment = {**os.environ, "GOBIN": folder}
        try:
            subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=True)
        except subprocess.TimeoutExpired:
            absent("fsck", f"it was not built within {_BUILD_SECONDS} seconds")
        except subprocess.CalledProcessError as error:
            absent("fsck", f"it cannot be built: {error.stderr.strip().splitlines()[-1:]}")
        (Path(folder) / "fsck").replace(cached)
