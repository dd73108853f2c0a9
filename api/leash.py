"""Runs a module as a child that does not outlive the server: ``python -m api.leash PARENT_PID MODULE [ARGUMENT …]``.

The kernel kills the child when its parent dies, whatever the reason: the next server must not meet workers of this one.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

from producers import logs

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put the leash on, then become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server ends its children itself
    logs.configure()
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the leash was on
        sys.exit(0)


if __name__ == "__main__":
    main()
