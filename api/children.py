"""The server's child processes: started, watched, started again with growing pauses, ended with the server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from processors.trainer.tuning import TUNING
from producers import logs
from producers.sequencer.process import GIVEN_UP
from producers.settings import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_SECONDS = 30.0
"""A child that lived this long is started again without a long pause."""
# A bar on stderr is no line of a log.
NO_PROGRESS_BARS = {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
log = structlog.get_logger(__name__)


def spawn(
    process: str, module: str, *arguments: str, name: str | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a module on a leash, with the secrets that such a process reads; its log lines have the name.

    The calling thread must live as long as the child: the kernel watches the thread.
    """
    command = [sys.executable, "-m", "api.leash", str(os.getpid()), module, *arguments]
    environment = {**TUNING, **NO_PROGRESS_BARS, **child_environment(process), logs.PROCESS: name or process}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=tuple(pass_fds), env=environment)


@dataclass(frozen=True, slots=True)
class Child:
    """A child by its name in logs, how to start it, and whom to tell that it ended.

    Children of a later ``stage`` need those of the earlier ones, and are ended before them.
    """

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    ended: Callable[[], None] = lambda: None
    stage: int = 0


class Supervisor:
    """Keeps children running, each in a thread of its own.

    ``changed`` is called when one was started or has ended; ``given_up`` with the name of one that ended with
    ``GIVEN_UP``, which is not started again.
    """

    def __init__(
        self,
        children: Sequence[Child],
        changed: Callable[[], None] = lambda: None,
        given_up: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._changed = changed
        self._given_up = given_up
        self._children = {child.name: child for child in children}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._starts = Counter({child.name: 0 for child in children})
        self._threads = {
            child.name: threading.Thread(target=self._keep, args=(child,), name=f"child-{child.name}")
            for child in children
        }

    def start(self) -> None:
        """Start all children, those of the first stage first."""
        for child in sorted(self._children.values(), key=lambda child: child.stage):
            self._threads[child.name].start()

    def alive(self, name: str) -> bool:
        """Whether a child runs now."""
        with self._lock:
            process = self._running.get(name)
        return process is not None and process.poll() is None

    def process_ids(self) -> dict[str, int | None]:
        """The process of each child; None where none runs now."""
        with self._lock:
            running = {name: self._running.get(name) for name in self._starts}
        return {name: child.pid if child and child.poll() is None else None for name, child in running.items()}

    def starts(self) -> dict[str, int]:
        """How often each child was started."""
        with self._lock:
            return dict(self._starts)

    def stop(self, seconds: float) -> None:
        """End all children, the last stage first: asked, then killed after so many seconds in all."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        stages = sorted({child.stage for child in self._children.values()}, reverse=True)
        for place, stage in enumerate(stages):
            now = time.monotonic()
            self._end_stage(stage, now + (deadline - now) / (len(stages) - place))
        self._signal(self._children, subprocess.Popen.kill)
        for thread in self._threads.values():
            thread.join()

    def _end_stage(self, stage: int, deadline: float) -> None:
        names = [name for name, child in self._children.items() if child.stage == stage]
        self._signal(names, subprocess.Popen.terminate)
        for name in names:
            self._threads[name].join(max(0.0, deadline - time.monotonic()))

    def _keep(self, child: Child) -> None:
        failures = 0
        while not self._stop.is_set():
            started = time.monotonic()
            status = self._run(child)
            self._changed()
            if self._stop.is_set():
                return
            if status == GIVEN_UP:
                log.error("child_gave_up", child=child.name)
                self._given_up(child.name)
                return
            failures = 0 if time.monotonic() - started > STEADY_SECONDS else failures + 1
            pause = PAUSES[min(failures, len(PAUSES) - 1)]
            log.warning("child_ended", child=child.name, status=status, restart_in=pause)
            self._stop.wait(pause)

    def _run(self, child: Child) -> int:
        try:
            process = self._started(child)
        except OSError:
            log.exception("child_not_started", child=child.name)
            return -1
        if process is None:
            return 0
        status = process.wait()
        child.ended()
        return status

    def _started(self, child: Child) -> subprocess.Popen[bytes] | None:
        with self._lock:  # so that stop() sees every child that was started before it
            if self._stop.is_set():
                return None
            process = self._running[child.name] = child.start()
            self._starts[child.name] += 1
        log.info("child_started", child=child.name, pid=process.pid)
        self._changed()
        return process

    def _signal(self, names: Iterable[str], send: Callable[[subprocess.Popen[bytes]], None]) -> None:
        with self._lock:
            for process in (self._running[name] for name in names if name in self._running):
                if process.poll() is None:
                    send(process)
