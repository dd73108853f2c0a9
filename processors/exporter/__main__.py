"""One merged export: ``python -m processors.exporter --data-dir DIR``, with its task on standard input.

Exit codes: 0 made, 1 not made (why is on standard output, as JSON). It ends at once when standard input is closed:
whoever asked is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from pathlib import Path

from tensorguard.crypto.memory import harden_process
from tensorguard.errors import TensorGuardError

from processors.exporter.merging import Task
from producers import logs
from producers.installation import Installation


def main() -> int:
    """Make the export; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m processors.exporter", description="Merge one adapter.")
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    logs.configure()
    harden_process()
    task = Task(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from processors.exporter.merge import make_merged  # noqa: PLC0415 -- after the watch: it takes seconds

    try:
        make_merged(Installation.open(arguments.data_dir), task)
    except TensorGuardError as error:
        return _failed(error.code)
    except MemoryError:
        return _failed("out_of_memory")
    return 0


def _failed(code: str) -> int:
    sys.stdout.write(json.dumps({"code": code}))
    return 1


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # not the buffered stream, whose lock must be free when we end
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
