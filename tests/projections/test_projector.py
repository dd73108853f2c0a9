from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, inspect, select, text
from sqlalchemy.orm import Session

from api import keys
from producers.deciders import registry
from producers.deciders.run import RunState
from producers.engines.errors import UnreachableError
from producers.engines.sqlite import SqliteEngine
from producers.feed import Feed
from projections import projector as projector_module
from projections.database import open_database, sqlite_url
from projections.errors import CorruptLedgerError, ForeignHistoryError, ViewsInUseError, ViewsUnavailableError
from projections.models import Artifact
from projections.notices import Notice, NoticeBoard
from projections.projector import Projector
from projections.queries import Views
from projections.rebuild import keeping_views, rebuild
from schemas import commands as c
from schemas.types import StartSpec
from tests.deciders.examples import make
from tests.support.doors import TENANT, Doors, enrol_device, open_doors, opening, register_model


def lived(doors: Doors) -> None:
    """A session that touches every table and every way an operation can end."""
    run = doors.create(metadata={"a": 1}, batch_retention="memory")
    doors.worker.take(run)
    first, step = doors.forward_backward(run), doors.operate(run, "optim_step", {})
    doors.worker.gradient(first)
    doors.worker.step(step, 1)
    saving = doors.operate(run, "save_state", {"name": "one"})
    artifact = doors.worker.saved(run, through=2, step=1, future=saving, name="one")
    after, failing = doors.forward_backward(run), doors.forward_backward(run)
    sampling, cancelled = doors.operate(run, "sample", {"prompts": ["x"]}), doors.forward_backward(run)
    doors.post(f"/v1/futures/{cancelled['future_id']}/cancel")
    doors.worker.gradient(after)
    doors.worker.fail(failing, "non_finite_loss")
    doors.worker.sampled(sampling, None, step=1)
    doors.worker.fail(cancelled, "cancelled")
    doors.forward_backward(run)
    doors.worker.take(run)
    loading = doors.operate(run, "load_state", {"artifact_id": artifact.hex()})
    doors.worker.loaded(loading, artifact, 1)
    doors.call("POST", f"/v1/training_clients/{run}/optim_step", json={})
    device = enrol_device(doors.worker, "till", secrets.token_bytes(32))
    asked = {"artifact_id": artifact.hex(), "recipients": [device.key_id.hex()]}
    package = bytes.fromhex(doors.post("/v1/packages", asked)["package_id"])
    doors.worker.say("packager", c.RecordPackageSigned(package, bytes(32), bytes(32), 9, bytes(32)))
    doors.platform.submission.forward(opening(device, package, bytes(32), doors.platform.installation.clock()))
    other = bytes.fromhex(doors.post("/v1/packages", asked)["package_id"])
    doors.worker.say("packager", c.FailPackage(other, "internal_error"))
    kept(doors, run, artifact)
    evaluated(doors)
    doors.post("/v1/training_clients", {"model_ref": "tiny"}, key=doors.other_key)
    doors.post(f"/v1/training_clients/{run}/close")
    doors.worker.say("authority", c.RevokeApiKey(keys.id_of(doors.issue(TENANT)) or ""))


def kept(doors: Doors, run: str, artifact: bytes) -> None:
    """Checkpoints handed out and deleted, and a model that came and went."""
    for number in (1, 2):
        doors.worker.say("gateway", c.ExportArtifact(run, artifact, bytes(32), bytes([number]) * 16, "peft"))
    doors.worker.say("packager", c.RecordArtifactExported(run, b"\x01" * 16, bytes(32), 9))
    doors.worker.say("packager", c.FailArtifactExport(run, b"\x02" * 16, "checkpoint_damaged"))
    superseded, unwanted = (doors.worker.saved(run, through=9, step=1) for _ in range(2))
    doors.worker.saved(run, through=9, step=1)
    doors.worker.say("gateway", c.DeleteArtifact(run, unwanted))
    doors.worker.say("retention", c.RecordArtifactDeleted(run, superseded))
    model = register_model("passing")
    doors.worker.say("authority", model, tenant="platform")
    doors.worker.say("authority", c.RemoveModel("passing", model.manifest_digest), tenant="platform")


def evaluated(doors: Doors) -> None:
    """Runs of other kinds: sealed ones, computed again with the same outcome, another or none; and a sampler."""
    for ending in ("identical", "differing", "failed"):
        sealed(doors, ending)
    sampler = {"run_id": "sampler", "interval": 0}
    say(
        doors,
        "gateway",
        c.CreateRun,
        **sampler,
        trainable=False,
        batch_retention="sealed",
        start=StartSpec(bytes(16), bytes(32), 7),
    )
    say(doors, "dispatcher", c.GrantLease, **sampler)
    first, _ = (say(doors, "gateway", c.SubmitSample, **sampler) for _ in range(2))
    say(doors, "worker", c.CompleteSample, **sampler, operation_id=first, step=7)


def sealed(doors: Doors, ending: str) -> None:
    """A sealed run whose worker changes while a step is not durable."""
    run: dict[str, Any] = {"run_id": ending, "interval": 0}
    say(doors, "gateway", c.CreateRun, **run, batch_retention="sealed")
    say(doors, "dispatcher", c.GrantLease, **run)
    evaluation, batch = (
        say(doors, "gateway", c.SubmitForward, **run),
        say(doors, "gateway", c.SubmitForwardBackward, **run),
    )
    step = say(doors, "gateway", c.SubmitOptimStep, **run)
    say(doors, "worker", c.CompleteForward, **run, operation_id=evaluation, step=0)
    say(doors, "worker", c.CompleteForwardBackward, **run, operation_id=batch)
    say(doors, "worker", c.RecordStep, **run, operation_id=step)
    waiting = say(doors, "gateway", c.SubmitForward, **run)
    say(doors, "dispatcher", c.GrantLease, **run, worker="other")
    again: dict[str, Any] = {**run, "lease_epoch": 2, "through_op_seq": 3}
    match ending:
        case "identical":
            say(doors, "worker", c.RecordReplay, **again)
            checkpoint = {"operation_id": None, "name": None, "artifact_id": sha256(ending.encode()).digest()[:16]}
            say(doors, "worker", c.RecordCheckpoint, **again, **checkpoint)
            say(doors, "gateway", c.RequestCancellation, **run, operation_id=waiting)
            say(doors, "worker", c.FailOperation, **again, operation_id=waiting, code="cancelled")
            say(doors, "gateway", c.CloseRun, **run)
            say(doors, "retention", c.RecordBatchKeyDestroyed, **run)
        case "differing":
            say(doors, "worker", c.RecordReplay, **again, identical=False, differing_step=1)
            say(doors, "dispatcher", c.GrantLease, **run)
        case _:
            say(doors, "worker", c.FailReplay, **again, code="batch_lost")


def say(doors: Doors, role: str, command: type[Any], **given: Any) -> bytes:
    """A command with defaults, decided and folded; its id."""
    return doors.worker.say(role, make(command, **given)).command_id


def dump(database: Engine) -> dict[str, list[Any]]:
    """All rows of all tables, in the order of their keys."""
    with database.connect() as connection:
        return {
            name: sorted(connection.execute(text(f'SELECT * FROM "{name}"')).all(), key=repr)  # noqa: S608
            for name in sorted(inspect(database).get_table_names())
        }


@contextlib.contextmanager
def database_at(path: Path) -> Iterator[Engine]:
    database = open_database(sqlite_url(path))
    try:
        yield database
    finally:
        database.dispose()


@pytest.fixture
def ledger(data_dir: Path) -> Iterator[SqliteEngine]:
    """The ledger of a lived session, whose server has stopped."""
    with open_doors(data_dir) as doors:
        lived(doors)
    with contextlib.closing(SqliteEngine(data_dir / "ledger.db")) as engine:
        yield engine


def test_a_rebuild_gives_the_identical_database(ledger: SqliteEngine, data_dir: Path) -> None:
    with database_at(data_dir / "views.db") as live:
        before = dump(live)
    sizes = rebuild(data_dir, ledger)
    with database_at(data_dir / "views.db") as rebuilt:
        assert dump(rebuilt) == before
    assert sizes == {chain: ledger.size(chain) for chain in ledger.chains()}
    assert all(before.values())
    assert not list(data_dir.glob("views.db.*"))


@pytest.mark.parametrize("size", [1, 7])
def test_batches_of_any_size_fold_to_the_same_rows(ledger: SqliteEngine, tmp_path: Path, size: int) -> None:
    with database_at(tmp_path / "whole") as whole, database_at(tmp_path / "parts") as parts:
        Projector(ledger, whole).catch_up()
        projector = Projector(ledger, parts)
        while projector.step(size):
            pass
        assert dump(parts) == dump(whole)


def test_records_that_come_again_change_nothing(ledger: SqliteEngine, tmp_path: Path) -> None:
    with database_at(tmp_path / "views") as database:
        projector = Projector(ledger, database)
        projector.catch_up()
        before = dump(database)
        projector._feed = Feed(ledger)
        projector.catch_up()
        assert dump(database) == before


def test_a_projector_goes_on_where_the_views_stand(ledger: SqliteEngine, tmp_path: Path) -> None:
    with database_at(tmp_path / "views") as database, database_at(tmp_path / "whole") as whole:
        Projector(ledger, whole).catch_up()
        for _ in range(3):
            Projector(ledger, database).step(11)
        Projector(ledger, database).catch_up()
        assert dump(database) == dump(whole)


class Away:
    """A ledger that cannot be reached at first."""

    def __init__(self, ledger: SqliteEngine, times: int) -> None:
        self._ledger = ledger
        self._left = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def sizes(self) -> dict[str, int]:
        if self._left:
            self._left -= 1
            raise UnreachableError("Nobody answers.")
        return self._ledger.sizes()


def test_a_projector_waits_for_a_ledger_that_is_out_of_reach(
    ledger: SqliteEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_module, "IDLE_SECONDS", 0.01)
    away: Any = Away(ledger, 3)
    with database_at(tmp_path / "views") as database:
        projector, stop = Projector(away, database), threading.Event()
        running = threading.Thread(target=projector.run, args=(stop,))
        running.start()
        assert projector.wait_for("acme", ledger.size("acme") - 1, 60)
        stop.set()
        running.join()
        assert (away._left, projector.failure()) == (0, None)


def test_a_batch_that_cannot_be_written_is_not_there_at_all_and_comes_again(
    ledger: SqliteEngine, tmp_path: Path
) -> None:
    with database_at(tmp_path / "views") as database:
        projector = Projector(ledger, database)
        projector.step(20)
        before = dump(database)
        with database.connect() as connection:
            room = [connection.execute(text("PRAGMA page_count")).scalar_one()]
        event.listen(database, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count={room[0]}"))
        with pytest.raises(ViewsUnavailableError):
            projector.catch_up()
        assert dump(database) == before
        room[0] = 1_000_000
        projector.catch_up()
        assert projector.behind() == 0


def damage(data_dir: Path, seq: int, change: bytes | None) -> None:
    """Change a byte in the middle of a record of the tenant's chain, or put other bytes in its place."""
    with contextlib.closing(sqlite3.connect(data_dir / "ledger.db")) as db, db:
        where = "chain = (SELECT id FROM chains WHERE name = ?) AND seq = ?"
        (data,) = db.execute(f"SELECT data FROM records WHERE {where}", (TENANT, seq)).fetchone()  # noqa: S608
        fresh = change if change is not None else data[:40] + bytes([data[40] ^ 1]) + data[41:]
        db.execute("DROP TRIGGER IF EXISTS records_are_final")
        db.execute(f"UPDATE records SET data = ? WHERE {where}", (fresh, TENANT, seq))  # noqa: S608


@pytest.mark.parametrize("change", [b"", b"\x00" * 50, None], ids=["emptied", "zeroed", "one bit"])
def test_a_damaged_record_stops_the_views_before_it_with_a_typed_error(
    ledger: SqliteEngine, data_dir: Path, tmp_path: Path, change: bytes | None
) -> None:
    damage(data_dir, 15, change)
    with database_at(tmp_path / "views") as database:
        projector = Projector(ledger, database)
        with pytest.raises((CorruptLedgerError, ForeignHistoryError)):
            projector.run(threading.Event())
        assert projector.sizes()[TENANT] == 15
        with pytest.raises((CorruptLedgerError, ForeignHistoryError)):
            projector.wait_for(TENANT, 15, 5)
        assert projector.wait_for(TENANT, 14, 0)


def test_views_of_another_history_are_refused(ledger: SqliteEngine, data_dir: Path, tmp_path: Path) -> None:
    with database_at(tmp_path / "views") as database:
        Projector(ledger, database).step(30)
        with database.begin() as connection:
            connection.execute(text("UPDATE watermarks SET last_leaf_hash = :zero"), {"zero": "00" * 32})
        with pytest.raises(ForeignHistoryError):
            Projector(ledger, database).catch_up()
        with database.begin() as connection:
            connection.execute(text("UPDATE watermarks SET size = 100000"))
        with pytest.raises(ForeignHistoryError):
            Projector(ledger, database)


def test_views_of_another_version_are_folded_anew(ledger: SqliteEngine, data_dir: Path) -> None:
    path = data_dir / "views.db"
    with database_at(path) as database:
        before = dump(database)
        with database.begin() as connection:
            connection.execute(text("UPDATE about SET version = 0"))
    with database_at(path) as database:
        assert dump(database)["audit"] == []
        Projector(ledger, database).catch_up()
        assert dump(database) == before


def test_a_rebuild_waits_for_no_server_but_refuses(ledger: SqliteEngine, data_dir: Path) -> None:
    with keeping_views(data_dir), pytest.raises(ViewsInUseError):
        rebuild(data_dir, ledger)


@pytest.mark.parametrize("change", [b"", None], ids=["emptied", "one bit"])
def test_a_rebuild_of_a_damaged_ledger_leaves_the_old_views(
    ledger: SqliteEngine, data_dir: Path, change: bytes | None
) -> None:
    with database_at(data_dir / "views.db") as database:
        before = dump(database)
    damage(data_dir, 15, change)
    with pytest.raises(CorruptLedgerError):
        rebuild(data_dir, ledger)
    with database_at(data_dir / "views.db") as database:
        assert dump(database) == before


def test_views_agree_with_what_the_deciders_fold(ledger: SqliteEngine, data_dir: Path) -> None:
    states: dict[str, object | None] = {}
    feed = Feed(ledger, chains=lambda chain: chain == TENANT)
    while found := feed.poll():
        for at in found:
            states[at.meta.stream] = registry.evolve(states.get(at.meta.stream), at.meta.stream, at.event)
    runs = [state for state in states.values() if isinstance(state, RunState)]
    with database_at(data_dir / "views.db") as database:
        views = Views(database)
        for state in runs:
            run = views.run(TENANT, state.run_id)
            assert run is not None
            assert (run.generation, run.step, run.last_op_seq) == (state.generation, state.step, state.last_op_seq)
            assert (run.lease_epoch, run.closed_at is not None) == (state.lease_epoch, state.closed)
            durable = state.durable
            assert (run.durable_step, run.durable_op_seq) == (durable.step, durable.op_seq)
            assert run.durable_artifact_id == (durable.artifact.hex() if durable.artifact else None)
            assert (run.replaying, run.trainable) == (state.replaying, state.trainable)
            held = {each.artifact.hex() for each in state.checkpoints}
            assert {row.artifact_id for row in views.artifacts(TENANT, state.run_id, None, 100)} == held
            for row in views.artifacts(TENANT, None, None, 100):
                rests = any(other.run_id == state.run_id for other in views.resting_on(TENANT, row.artifact_id))
                assert rests == (state.rests_on(bytes.fromhex(row.artifact_id)) and not state.closed)
    assert {state.replaying for state in runs} == {state.trainable for state in runs} == {True, False}


def test_what_was_handed_out_is_found_and_what_was_deleted_is_not(ledger: SqliteEngine, data_dir: Path) -> None:
    with database_at(data_dir / "views.db") as database:
        views = Views(database)
        failed, there = views.exports(TENANT, None, None, 10)
        assert (failed.status, failed.error_code) == ("failed", "checkpoint_damaged")
        assert (there.status, there.size_bytes) == ("exported", 9)
        assert views.export(TENANT, there.export_id) is not None
        assert views.exports(TENANT, there.artifact_id, there.seq, 10) == []
        listed = {row.artifact_id for row in views.artifacts(TENANT, None, None, 100)}
        with Session(database) as session:
            gone = [row.artifact_id for row in session.scalars(select(Artifact)) if row.deleted_at is not None]
        assert gone
        assert not listed & set(gone)
        assert all(views.artifact(TENANT, artifact) is None for artifact in gone)


def test_a_waiter_sleeps_until_its_record_is_folded(doors: Doors) -> None:
    projector = doors.platform.projector
    size = projector.sizes()[TENANT]
    assert not projector.wait_for(TENANT, size, 0.05)
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(projector.wait_for(TENANT, size, 20)))
    waiter.start()
    doors.create()
    waiter.join(5)
    assert woken == [True]


def test_a_listener_that_asks_the_views_is_answered_as_they_stand_now() -> None:
    board, seen = NoticeBoard({"acme": 3}), []
    board.listen(lambda _: seen.append(board.size("acme")))
    board.post(Notice({"acme": 5}, frozenset()))
    assert seen == [5]


def test_listeners_hear_what_was_touched_until_they_leave(doors: Doors) -> None:
    heard: set[str] = set()
    leave = doors.platform.projector.listen(lambda notice: heard.update(notice.touched))
    run = doors.create()
    future = doors.forward_backward(run)["future_id"]
    assert future in heard
    leave()
    other = doors.forward_backward(run)["future_id"]
    assert other not in heard
