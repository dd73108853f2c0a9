"""The process of one partition's sequencer: it decides, ends when told to or fenced, and lets a rival be."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tensorguard.errors import TensorGuardError

from producers.engines.errors import FencedError
from producers.engines.kafka.intake import hashed_partition
from producers.engines.port import ACCEPTED
from producers.errors import LedgerMovedError, WriterActiveError
from producers.sequencer import SequencerLock
from producers.sequencer.lock import sequencer_runs
from producers.sequencer.process import GIVEN_UP, decide_partition, exit_status
from producers.sequencer.recover import recover
from producers.sequencer.standby import SHORT_SECONDS, Fencings, stand_by
from tests.support.kafka import PARTITIONS, broker
from tests.support.ledgers import ROOT, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON = 60.0
ACME = hashed_partition("acme", PARTITIONS)


class Deciding:
    """The process's body in a thread of this one."""

    def __init__(self, folder: Path) -> None:
        self.error: TensorGuardError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder,))
        self._thread.start()

    def _run(self, folder: Path) -> None:
        try:
            decide_partition(folder, ACME, self._stop)
        except TensorGuardError as error:
            self.error = error

    def ended(self) -> TensorGuardError | None:
        self._thread.join(SOON)
        assert not self._thread.is_alive()
        return self.error

    def stop(self) -> TensorGuardError | None:
        self._stop.set()
        return self.ended()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data directory whose ledger is on the broker, in topics of its own."""
    made = tmp_path / "data"
    made.mkdir()
    config = broker().config()
    settings = {"log_url": f"kafka://{config.servers}", "kafka_prefix": config.prefix, "kafka_partitions": PARTITIONS}
    (made / "settings.toml").write_text("".join(f"{name} = {json.dumps(each)}\n" for name, each in settings.items()))
    return made


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    with closing(Ledger(folder)) as ledger:
        yield ledger


@pytest.mark.timeout(240)
def test_it_decides_its_partition_and_ends_with_snapshots_when_told(ledger: Ledger) -> None:
    command = [sys.executable, "-m", "producers.sequencer", "--data-dir", str(ledger.folder), "--partition", str(ACME)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        ledger.submitter.ensure_chain("acme")
        reply = ledger.submitter.submit_and_wait(ledger.authority, ledger.issue())
        assert reply.outcome == ACCEPTED
        assert sequencer_runs(ledger.folder)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0
    snapshot = ledger.engine.load_snapshot("acme")
    assert snapshot is not None
    assert snapshot.size == ledger.engine.size("acme")
    assert not sequencer_runs(ledger.folder)


@pytest.mark.timeout(240)
def test_two_machines_take_the_role_from_each_other_until_one_stands_by(ledger: Ledger, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(ledger.folder, twin, ignore=shutil.ignore_patterns("run", "bells"))
    first = Deciding(ledger.folder)
    ledger.submitter.ensure_chain("acme")
    for _ in range(2):
        second = Deciding(twin)
        assert isinstance(first.ended(), FencedError)
        first = Deciding(ledger.folder)
        if Fencings(ledger.folder, ACME, ledger.clock).often():
            break
        assert isinstance(second.ended(), FencedError)
    assert ledger.submitter.submit_and_wait(ledger.authority, ledger.issue()).outcome == ACCEPTED
    assert second.stop() is None
    reply = ledger.submitter.submit_and_wait(ledger.authority, ledger.issue(), timeout=SOON)
    assert reply.outcome == ACCEPTED, "who stood by takes over when nobody decides any more"
    assert first.stop() is None
    fold, _ = recover(ledger.engine, "acme")
    assert fold.head.size == ledger.engine.size("acme"), "one history, whoever wrote it"


def test_it_stands_by_for_as_long_as_somebody_decides(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "data")) as ledger:
        sequencer, stop, now = ledger.sequencer(), threading.Event(), [0.0]

        class Watched:
            """The engine, with a rival that decides what waits, and is asked again, for the first hour."""

            intake = ledger.engine.intake
            wait_intake = ledger.engine.wait_intake

            @staticmethod
            def intake_position() -> int:
                now[0] += 600.0
                if now[0] <= 3600.0:
                    sequencer.step()
                    ledger.submit(ledger.issue())
                return ledger.engine.intake_position()

        stand_by(Watched(), stop, 60.0, lambda: now[0])  # type: ignore[arg-type]
        assert now[0] == 3600.0 + 600.0, "the first command that stayed undecided ends it"
        stop.set()
        stand_by(Watched(), stop, 60.0, lambda: now[0])  # type: ignore[arg-type]
        assert now[0] == 3600.0 + 600.0, "told to stop, it looks no more"


def test_fencings_of_long_ago_or_a_single_one_let_nobody_stand_by(tmp_path: Path) -> None:
    now = 10**15
    fencings = Fencings(tmp_path, 0, lambda: now)
    assert not fencings.often()
    fencings.note()
    assert not fencings.often()
    now += (SHORT_SECONDS + 1) * 1_000_000
    fencings.note()
    assert not fencings.often()
    fencings.note()
    patience = fencings.patience()
    assert patience > 0
    fencings.note()
    assert fencings.patience() > patience
    (tmp_path / "run" / "fenced-0.json").write_text("{")
    assert not fencings.often()


def test_one_process_decides_a_partition_and_who_must_write_alone_waits_for_all(tmp_path: Path) -> None:
    first, second, again = (SequencerLock(tmp_path, partition) for partition in (0, 1, 0))
    alone = SequencerLock(tmp_path)
    first.acquire()
    second.acquire()
    with pytest.raises(WriterActiveError):
        again.acquire(0.01)
    second.release()
    assert not alone.try_acquire()
    assert sequencer_runs(tmp_path)
    first.release()
    assert alone.try_acquire()
    assert not second.try_acquire()
    assert sequencer_runs(tmp_path)
    for lock in (first, second, again, alone):
        lock.close()
    assert not sequencer_runs(tmp_path)


@pytest.mark.parametrize(("partition", "says"), [(0, "TG_LOG_URL=kafka"), (7, "TG_LOG_URL=kafka")])
def test_a_ledger_in_a_file_has_no_such_process(tmp_path: Path, partition: int, says: str) -> None:
    Ledger(tmp_path / "data").close()
    command = [sys.executable, "-m", "producers.sequencer", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [*command, "--partition", str(partition)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert says in json.loads(done.stderr.splitlines()[-1])["next_step"]


def test_what_starting_again_does_not_heal_has_an_exit_status_of_its_own() -> None:
    assert exit_status(LedgerMovedError("moved")) == GIVEN_UP
    assert exit_status(FencedError("fenced")) == 1
