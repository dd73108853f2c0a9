"""Merging in a process of its own: it needs torch and the whole model in memory, and gives both back when it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from processors.exporter.errors import ExportError, MergingEndedError
from producers.settings.reading import child_environment

if TYPE_CHECKING:
    from pathlib import Path

_PACKAGER = "packager"


@dataclass(frozen=True, slots=True)
class Task:
    """What the process is told, on its standard input as one line of JSON; ids and digests are hex."""

    tenant: str
    export_id: str
    artifact_id: str
    manifest_digest: str
    dtype: str

    def to_line(self) -> bytes:
        """The line."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Merger:
    """Starts the process and waits for it. It ends with us: its standard input is then closed."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def merge(self, task: Task) -> None:
        """Have an export's files written.

        Raises:
            ExportError: it could not be made, with the code of why.
        """
        command = [sys.executable, "-m", "processors.exporter", "--data-dir", str(self._data_dir)]
        environment = child_environment(_PACKAGER)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("a process without its pipes")
            process.stdin.write(task.to_line())
            process.stdin.flush()
            answer = process.stdout.read()
        if process.returncode == -signal.SIGKILL:
            raise MergingEndedError("The process that merged was killed.")
        if process.returncode:
            raise MergingFailedError(_code_in(answer))


class MergingFailedError(ExportError):
    """What the process said before it ended."""

    def __init__(self, code: str) -> None:
        super().__init__("The weights could not be merged.")
        self.code = code


def _code_in(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["code"])
    except (ValueError, KeyError, TypeError):
        return ExportError.code
