"""Who comes next, and who stays in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.live import LiveRun
from processors.trainer.residence import make_room
from processors.trainer.runs import RunView
from processors.trainer.turns import Turns
from schemas import events as e
from tests.support.tiny_platform import TinyPlatform
from tests.trainer.batches import random_rows
from tests.trainer.conftest import ADAMW, LORA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processors.trainer.adapter import Adapter

ALICE, BOB = [("alice", f"r{number}") for number in range(3)], ("bob", "r0")


def _turns() -> Turns:
    turns = Turns()
    for key in (*ALICE, BOB):
        turns.add(key)
    return turns


def test_tenants_take_turns_and_so_do_the_runs_of_each() -> None:
    turns = _turns()
    order = [turns.next(lambda _: True) for _ in range(8)]
    assert order[1::2] == [BOB] * 4
    assert order[::2] == [*ALICE, ALICE[0]]


def test_who_has_nothing_to_do_keeps_nobody_waiting_and_loses_no_turn() -> None:
    turns = _turns()
    assert turns.next(lambda key: key in ALICE[1:]) == ALICE[1]
    assert turns.next(lambda key: key[0] == "alice") == ALICE[0]
    assert turns.next(lambda _: False) is None
    turns.remove(BOB)
    assert turns.next(lambda _: True) == ALICE[2]


@pytest.fixture
def new_live(new_adapter: Callable[..., Adapter]) -> Callable[..., LiveRun]:
    def make(used_at: float, durable: int = 0) -> LiveRun:
        created = e.RunCreated("r", "tiny", bytes(32), bytes(32), LORA, ADAMW, 1, None, None, 7, None)
        view = RunView("alice", created, durable_op_seq=durable)
        return LiveRun(view, 1, 0, 0, 0, 0.0, used_at=used_at, adapter=new_adapter())

    return make


def _moved(live: LiveRun) -> LiveRun:
    assert live.adapter is not None
    forward_backward(live.adapter, random_rows(1), seed=1)
    optim_step(live.adapter, 2)
    return live


def _held(runs: list[LiveRun]) -> list[bool]:
    return [live.adapter is not None for live in runs]


def test_the_adapters_idle_longest_leave_memory(new_live: Callable[..., LiveRun]) -> None:
    runs, saved = [new_live(float(at)) for at in (3, 1, 2, 4)], list[LiveRun]()
    make_room(runs, 2, None, saved.append)
    assert _held(runs) == [True, False, False, True]
    assert saved == []


def test_what_no_checkpoint_covers_is_saved_before_it_leaves(new_live: Callable[..., LiveRun]) -> None:
    dirty, newest, saved = _moved(new_live(1.0)), new_live(2.0), list[LiveRun]()
    make_room([dirty, newest], 1, None, saved.append)
    assert saved == [dirty]
    assert _held([dirty, newest]) == [True, True]
    dirty.imaged = dirty.view.durable_op_seq = 2
    make_room([dirty, newest], 1, None, saved.append)
    assert _held([dirty, newest]) == [False, True]


def test_an_accumulated_gradient_keeps_its_adapter_in_memory(new_live: Callable[..., LiveRun]) -> None:
    busy, newest, saved = new_live(1.0), new_live(2.0), list[LiveRun]()
    assert busy.adapter is not None
    forward_backward(busy.adapter, random_rows(1), seed=1)
    make_room([busy, newest], 1, None, saved.append)
    assert _held([busy, newest]) == [True, True]


def test_bytes_count_too(new_live: Callable[..., LiveRun]) -> None:
    runs, saved = [new_live(float(at)) for at in (1, 2, 3)], list[LiveRun]()
    assert runs[0].adapter is not None
    size = runs[0].adapter.nbytes
    make_room(runs, 10, 2 * size, saved.append)
    assert _held(runs) == [False, True, True]
    make_room(runs, 10, 1, saved.append)
    assert _held(runs) == [False, False, True]


def test_runs_that_leave_memory_in_turns_train_as_if_they_had_not(tmp_path: Path, model_dir: Path) -> None:
    found = []
    for limit in (64, 1):
        with TinyPlatform(tmp_path / f"data-{limit}", model_dir) as platform:
            with platform.worker(checkpoint_steps=1000, checkpoint_seconds=1000.0, adapters_in_memory=limit):
                runs = [platform.create_run(name) for name in ("one", "two", "three")]
                steps = [run.train(seed, 1)[0] for seed in range(3) for run in runs]
            found.append([step.adapter_digest for step in steps])
            saves = [
                event for run in runs for event in platform.events(run.run_id) if isinstance(event, e.CheckpointSaved)
            ]
            assert (len(saves) > len(runs)) == (limit == 1)
    assert found[0] == found[1]
