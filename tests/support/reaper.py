"""Removes a container when its folder or its owner is gone: ``python -m tests.support.reaper CONTAINER FOLDER PID``.

It is a process of its own, so that a test run that is killed leaves nothing behind either.
"""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path

import docker
from docker.errors import APIError, NotFound

from tests.support.shared import lives

GLANCE_SECONDS = 0.5


def main() -> None:
    container, folder, owner = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    while folder.exists() and lives(owner):
        time.sleep(GLANCE_SECONDS)
    with suppress(NotFound):
        found = docker.from_env().containers.get(container)
        with suppress(APIError):
            found.unpause()
        found.remove(force=True, v=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
