"""A trainer says how it stands, also while a long operation computes, and nothing once it is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from tensorguard.errors import TensorGuardError

from processors.placement.roster import LocalRoster
from processors.placement.standing import Standing
from processors.trainer.announcing import Announcements
from tests.support.tiny_platform import PATIENCE, TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Listening(LocalRoster):
    """A roster that counts what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Semaphore(0)
        self.deaf = False

    def announce(self, standing: Standing) -> None:
        super().announce(standing)
        self.heard.release()
        if self.deaf:
            raise TensorGuardError("Nobody is there.")


def test_a_trainer_speaks_again_and_again_and_at_once_when_it_changes() -> None:
    roster = Listening()
    with Announcements(roster, Standing("w1"), seconds=0.01):
        for _ in range(3):
            assert roster.heard.acquire(timeout=PATIENCE)
    assert (roster.standings(), roster.lost("w1")) == ([], True)
    roster = Listening()
    with Announcements(roster, Standing("w1"), seconds=1e6) as announcements:
        assert roster.heard.acquire(timeout=PATIENCE)
        announcements.note(Standing("w1", runs=2))
        assert roster.heard.acquire(timeout=PATIENCE)
        assert roster.standings() == [Standing("w1", runs=2)]


def test_a_trainer_that_is_to_end_says_so_at_once_and_whatever_it_notes_then() -> None:
    roster = Listening()
    with Announcements(roster, Standing("w1"), seconds=1e6) as announcements:
        assert roster.heard.acquire(timeout=PATIENCE)
        announcements.leaving()
        assert roster.heard.acquire(timeout=PATIENCE)
        announcements.note(Standing("w1", runs=2))
        assert roster.heard.acquire(timeout=PATIENCE)
        assert roster.standings() == [Standing("w1", runs=2, leaving=True)]


ENDING = """
import hashlib
from processors.trainer.ending import Ending

Ending().then(lambda: print("told", flush=True))
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)  # for minutes, in which no handler of Python's runs
"""


def test_a_trainer_hears_that_it_is_to_end_while_it_computes() -> None:
    with subprocess.Popen([sys.executable, "-c", ENDING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "told\n"
        process.kill()


def test_who_is_not_heard_goes_on_speaking() -> None:
    roster = Listening()
    roster.deaf = True
    with Announcements(roster, Standing("w1"), seconds=0.01):
        for _ in range(3):
            assert roster.heard.acquire(timeout=PATIENCE)


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir) as platform:
        yield platform


def test_a_worker_notes_its_base_models_memory_and_runs(platform: TinyPlatform) -> None:
    roster = Listening()
    with Announcements(roster, Standing("w1", memory=1 << 40), seconds=1e6) as announcements:
        with platform.worker(announcements=announcements):
            run = platform.create_run("r1")
            run.train(seed=1, steps=1)
            wanted = platform.model.manifest_digest.hex()
            while not (standing := announcements.standing).bases:
                assert roster.heard.acquire(timeout=PATIENCE)
        assert standing.worker == "w1"
        assert standing.bases.keys() == {wanted}
        assert standing.used > standing.bases[wanted] > 0
        assert (standing.memory, standing.runs) == (1 << 40, 1)
