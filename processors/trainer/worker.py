"""The worker: follows the ledger, executes operations in order within a run and in turn between tenants and runs.

One thread executes. It never waits for a decision: outcomes go into the intake one after another, and a rejection that
comes back later (another worker has the lease, say) makes it drop the run. Samples are generated in slices between
operations of other runs. Checkpoints of its own are sealed and written by a second thread from a copy of the state.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from processors.batches.inputs import BlobInputStore
from processors.batches.results import BlobResultStore
from processors.exchange.errors import ExchangeAwayError
from processors.placement.roster import ANNOUNCE_SECONDS
from processors.trainer.automatic import AutomaticCheckpoints
from processors.trainer.bases import Bases
from processors.trainer.beside import Beside
from processors.trainer.checkpoints import Checkpoints
from processors.trainer.failures import WORKER_KILLED, failure
from processors.trainer.live import Adapters, LiveRun, levels, standing_of
from processors.trainer.operations import Operations
from processors.trainer.outbox import Outbox, Outcome, outcome_of
from processors.trainer.replay import Replay
from processors.trainer.residence import make_room
from processors.trainer.runs import Runs, RunView
from processors.trainer.sample_turns import SampleTurns
from processors.trainer.samples import Samples
from processors.trainer.settings import Settings
from processors.trainer.suspects import FOLDER, Suspects
from processors.trainer.turns import Turns
from processors.trainer.watch import REPLAY, Watch
from producers.feed import Feed
from producers.positions import PositionFile
from producers.submitter import Submitter
from schemas import commands as c
from schemas import events as e

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from processors.base import Recorded
    from processors.exchange.trainer import TrainerClient
    from processors.trainer.announcing import Announcements
    from processors.trainer.runs import Pending
    from producers.installation import Installation
    from producers.telemetry.traces import Tracing
    from schemas.base import Command

NAME = "trainer"
WAIT_SECONDS = 0.5
LEASE_LOST = frozenset({"stale_lease", "wrong_worker", "no_lease", "forbidden"})
log = structlog.get_logger(__name__)


class Worker:
    """Trains the runs whose lease names ``worker``, until told to stop."""

    def __init__(
        self,
        installation: Installation,
        channel: TrainerClient,
        worker: str,
        stop: threading.Event,
        settings: Settings | None = None,
        seconds: Callable[[], float] = time.monotonic,
        tracing: Tracing | None = None,
        suspects: Suspects | None = None,
        announcements: Announcements | None = None,
    ) -> None:
        engine = installation.engine()
        self._worker = worker
        self._channel = channel
        self._stop = stop
        self._settings = settings or Settings()
        self._clock = installation.clock
        self._seconds = seconds
        self._feed = Feed(engine)
        self._position = PositionFile(installation.data_dir, [NAME], installation.clock)
        self._runs = Runs()
        self._live: dict[tuple[str, str], LiveRun] = {}
        self._turns = Turns()
        self._checkpoints = Checkpoints.of(installation)
        bases = Bases(installation, self._settings.compute)
        self._adapters = adapters = Adapters(bases, self._checkpoints, self._runs, self._open_runs)
        self._beside = Beside(channel, BlobInputStore.of(installation), BlobResultStore.of(installation))
        self._operations = Operations(adapters, self._checkpoints, self._beside, self._clock)
        self._samples = Samples(self._operations, channel.stream, seconds, self._settings.sampling)
        self._watch = Watch(channel.report, lambda: levels(self._live.values(), adapters), seconds, tracing)
        producer = installation.producer("worker")
        self._outbox = Outbox(Submitter(installation, engine), engine, producer, self._clock, stop, self._watch)
        self._automatic = AutomaticCheckpoints(
            self._checkpoints, self._outbox, self._watch, self._settings, self._clock, seconds
        )
        self._stored: dict[tuple[str, str], list[bytes]] = {}
        self._suspects = suspects or Suspects(installation.data_dir / "run" / FOLDER)
        self._mistaken = False
        self._announcements = announcements
        self._noted = (0.0, 0, 0)
        self._sampling = SampleTurns(
            self._samples,
            self._live.values(),
            self._suspects,
            self._watch,
            report=self._report_sample,
            started=self._make_room,
            seconds=seconds,
        )

    def run(self) -> None:
        """Work until ``stop`` is set or the server is gone; then make durable what is not yet.

        It also ends when the ledger refuses an outcome for another reason than a lost lease, such as its age: a
        worker that starts anew gets leases anew, and every run goes on from what is durable.
        """
        try:
            self._stored, unfinished = self._checkpoints.stored()
            if self._suspects.only():
                self._checkpoints.remove_unfinished(unfinished)
            self._catch_up()
            self._channel.ready()
            log.info("trainer_ready", worker=self._worker)
            while not (self._stop.is_set() or self._mistaken):
                self._turn()
            self._leave()
        except ExchangeAwayError:
            log.info("server_gone")
        finally:
            self._position.close()
            self._automatic.finish()
            self._suspects.close()

    def _turn(self) -> None:
        """Read what is new, execute one operation or a slice of the samples under way, else wait."""
        self._catch_up()
        self._position.note(self._feed.positions)
        self._watch.tell()
        self._note_standing()
        self._automatic.start_due(self._live.values())
        if self._outbox.full:
            self._wait()
            return
        self._sampling.start()
        if not self._sampling.owed and (live := self._whose_turn()) is not None:
            began = self._seconds()
            self._execute(live)
            self._sampling.owe(self._seconds() - began)
        elif self._samples.busy:
            self._sampling.advance()
        else:
            self._wait()

    def _note_standing(self) -> None:
        """Let it be announced how this trainer stands, when that has changed, or may have."""
        at, runs, bases = self._noted
        now, standing = self._seconds(), (len(self._live), self._adapters.bases)
        if self._announcements is None or (standing == (runs, bases) and now < at + ANNOUNCE_SECONDS):
            return
        self._noted = (now, *standing)
        self._announcements.note(standing_of(self._announcements.standing, self._live.values(), self._adapters))

    def _wait(self) -> None:
        if not self._feed.wait(WAIT_SECONDS):
            for outcome, code in self._outbox.refused():
                self._drop(outcome, code)

    # -- what the ledger says ------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Read to the end: records of one decision become visible together, and belong together."""
        while batch := self._feed.poll():
            for recorded in batch:
                self._take(recorded)

    def _take(self, recorded: Recorded) -> None:
        if rejected := self._outbox.decided(recorded):
            self._mistaken |= self._drop(*rejected) and rejected[1] not in LEASE_LOST
        before = self._pending_of(recorded) if isinstance(recorded.event, e.RunRolledBack) else {}
        view = self._runs.fold(recorded)
        if view is None:
            return
        match recorded.event:
            case e.RunLeaseGranted():
                self._lease(view)
            case e.RunRolledBack():
                self._forget_inputs(view, before)
                self._start_over(view)
        if view.closed and not view.pending:
            self._retire(view)

    def _pending_of(self, recorded: Recorded) -> dict[bytes, Pending]:
        view = self._runs.views.get((recorded.chain, getattr(recorded.event, "run_id", "")))
        return dict(view.pending) if view else {}

    def _lease(self, view: RunView) -> None:
        """Take a run over, or let it go; either way what was in memory belongs to an old lease."""
        key = (view.chain, view.run_id)
        self._release(key)
        lease = view.lease
        if lease is not None and lease.worker == self._worker:
            resumed = lease.resume_op_seq
            now = self._seconds()
            live = LiveRun(view, lease.lease_epoch, resumed, resumed, lease.resume_step, now, used_at=now)
            live.replay = Replay(view.undurable) if view.undurable else None
            self._live[key] = live
            self._turns.add(key)
            if lease.lease_epoch > 1:
                self._suspects.survey()  # its last worker may have died of what comes now
            self._remove_orphans(key)
            log.info("run_leased", run_id=view.run_id, lease_epoch=lease.lease_epoch, step=lease.resume_step)

    def _remove_orphans(self, key: tuple[str, str]) -> None:
        """Remove what earlier workers stored and nobody recorded: from this lease on, nobody can record it."""
        for artifact_id in self._stored.pop(key, ()):
            if (key[0], artifact_id) not in self._runs.manifests:
                self._checkpoints.delete(key[0], artifact_id)

    def _release(self, key: tuple[str, str]) -> None:
        live = self._live.pop(key, None)
        if live is not None:
            self._turns.remove(key)
            self._samples.drop(live)
            live.free()

    def _start_over(self, view: RunView) -> None:
        """What could not be done again is lost, and the run stands at its durable state."""
        live = self._live.get((view.chain, view.run_id))
        if live is not None and live.stopped:
            live.free()
            live.stopped = False

    def _open_runs(self) -> Iterator[RunView]:
        return (live.view for live in self._live.values() if live.wanted)

    def _drop(self, outcome: Outcome, code: str) -> bool:
        """An outcome was not accepted: this worker's idea of the run is wrong, so it has none any more.

        Whether a run was let go.
        """
        if isinstance(outcome.command, c.RecordCheckpoint):
            self._checkpoints.delete(outcome.chain, outcome.command.artifact_id)
            # A checkpoint of our own may have been overtaken by a newer one; only a lost lease means more than that.
            if outcome.command.operation_id is None and code not in LEASE_LOST:
                return False
        key = (outcome.chain, outcome.run_id)
        live = self._live.get(key)
        if live is None or live.lease_epoch != outcome.lease_epoch:
            return False
        log.warning("run_dropped", run_id=outcome.run_id, code=code, command=type(outcome.command).__name__)
        self._release(key)
        return True

    def _forget_inputs(self, view: RunView, before: dict[bytes, Pending]) -> None:
        if (view.chain, view.run_id) in self._live:
            for operation_id in before.keys() - view.pending.keys():
                self._beside.done_with(view, operation_id)

    def _retire(self, view: RunView) -> None:
        """A closed run with nothing left to do, or to do again, needs no memory."""
        live = self._live.get((view.chain, view.run_id))
        if live is not None and live.replay is None:
            if live.dirty:
                self._automatic.start(live)
            live.free()

    # -- operations ----------------------------------------------------------------------------------------------

    def _whose_turn(self) -> LiveRun | None:
        """The run whose turn it is, of those with something to execute."""
        key = self._turns.next(lambda each: self._may_go_on(self._live[each]))
        return self._live[key] if key is not None else None

    def _may_go_on(self, live: LiveRun) -> bool:
        resting = live.replay is not None and live.replay.due > self._seconds()
        return live.ready and not resting and not self._sampling.concerns(live)

    def _execute(self, live: LiveRun) -> None:
        if live.replay is not None:
            self._replay(live, live.replay)
        elif (pending := live.next_operation()) is not None:
            with self._watch.operation(pending) as came_of_it:
                command = self._outcome_of(live, pending)
                came_of_it(command)
                self._report(live, pending, command)
        self._make_room(live)

    def _outcome_of(self, live: LiveRun, pending: Pending) -> Command:
        if self._suspects.condemned(pending.operation_id):
            return failure(live, pending, WORKER_KILLED)
        with self._suspects.watching(pending.operation_id):
            return self._operations.execute(live, pending)

    def _replay(self, live: LiveRun, replay: Replay) -> None:
        with self._watch.timed(REPLAY), self._suspects.watching(replay.next):
            condemned = self._suspects.condemned(replay.next)
            command = replay.ended(live, WORKER_KILLED) if condemned else replay.advance(live, self._operations)
        if isinstance(command, c.FailReplay) and (later := replay.later(command.code, self._seconds())):
            live.free()
            live.replay = later
        elif command is not None:
            live.replay, live.stopped = None, isinstance(command, c.FailReplay)
            self._outbox.send(outcome_of(live, command, f"replay/{live.view.run_id}".encode()))

    def _report(self, live: LiveRun, pending: Pending, command: Command) -> None:
        live.executed = max(live.executed, pending.op_seq)
        with_optimizer = getattr(pending.submitted, "include_optimizer", False)
        if isinstance(command, c.RecordCheckpoint | c.RecordCheckpointLoaded) and with_optimizer:
            self._automatic.imaged(live)
        self._outbox.send(outcome_of(live, command, pending.operation_id, pending))
        self._beside.done_with(live.view, pending.operation_id)

    def _report_sample(self, live: LiveRun, pending: Pending, command: Command) -> None:
        self._report(live, pending, command)
        self._channel.end_stream(pending.operation_id)

    def _make_room(self, live: LiveRun) -> None:
        """Move adapters out for the one that was just at work."""
        live.used_at = self._seconds()
        settings = self._settings
        make_room(self._live.values(), settings.adapters_in_memory, settings.adapter_bytes, self._automatic.start)

    def _leave(self) -> None:
        """Make the last steps of every run durable; the ledger takes their records when it next decides."""
        self._automatic.finish(self._live.values())
        self._watch.tell(now=True)
        log.info("trainer_stopped", worker=self._worker)
