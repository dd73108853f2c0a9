"""The first cosine of a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Children of a process that has loaded torch and computed nothing: each is as fresh as a trainer that has just begun,
# at a hundredth of the price. Their numbers are enough for two threads of torch and too few for the parent's to start.
FIRST_COSINES = """
import os, sys, torch
from processors.trainer.device import settle_vector_math
angles = torch.arange(4096, dtype=torch.float32).mul_(0.0311)
wrong, live = 0, 0
def child():
    settle_vector_math()
    os._exit(not torch.equal(torch.cos(angles), torch.cos(angles)))
for number in range(int(sys.argv[1])):
    if live == 4:
        wrong, live = wrong + (os.wait()[1] != 0), live - 1
    if os.fork() == 0:
        child()
    live += 1
for _ in range(live):
    wrong += os.wait()[1] != 0
print(wrong)
"""
CHILDREN = 4_000


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_first_cosines_of_a_process_are_those_of_later_ones() -> None:
    command = [sys.executable, "-c", FIRST_COSINES, str(CHILDREN)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) == 0, f"of {CHILDREN} processes"
