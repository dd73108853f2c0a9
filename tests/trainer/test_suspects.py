"""An operation that ends its process again and again is failed at last, and nobody else is."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processors.trainer.suspects import FOLDER, MOST_DEATHS, Suspects
from producers.locks import locked
from schemas import events as e
from tests.support.tiny_platform import TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Iterator

POISON, OTHER = b"p" * 16, b"o" * 16


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir) as started:
        yield started


@contextmanager
def living(folder: Path) -> Iterator[Suspects]:
    """A trainer's suspects for the length of its life."""
    suspects = Suspects(folder)
    try:
        yield suspects
    finally:
        suspects.close()


def executing(folder: Path, slot: int = 0) -> bytes:
    return (folder / f"{slot}.executing").read_bytes()


def die_while(folder: Path, *operation_ids: bytes, times: int = 1, slot: int = 0) -> None:
    """Lives of a trainer that each end in the middle of an operation, or of several samples."""
    for _ in range(times):
        with living(folder) as suspects, suspects.watching(*operation_ids):
            left = executing(folder, slot)
        (folder / f"{slot}.executing").write_bytes(left)


def condemned(folder: Path, operation_id: bytes) -> bool:
    with living(folder) as suspects:
        return suspects.condemned(operation_id)


def test_so_many_deaths_in_the_middle_of_one_operation_condemn_it(tmp_path: Path) -> None:
    die_while(tmp_path, POISON, times=MOST_DEATHS - 1)
    assert not condemned(tmp_path, POISON)
    die_while(tmp_path, POISON)
    die_while(tmp_path, OTHER)
    assert condemned(tmp_path, POISON)
    assert not condemned(tmp_path, OTHER)


def test_deaths_of_several_trainers_count_for_the_one_that_executes_next(tmp_path: Path) -> None:
    with living(tmp_path) as survivor:
        die_while(tmp_path, POISON, times=MOST_DEATHS - 1, slot=1)
        with living(tmp_path), living(tmp_path):
            die_while(tmp_path, POISON, slot=3)
        assert not survivor.condemned(POISON)
        survivor.survey()
        assert survivor.condemned(POISON)


def test_what_living_trainers_execute_is_not_suspected(tmp_path: Path) -> None:
    with living(tmp_path) as one, one.watching(POISON):
        for _ in range(MOST_DEATHS):
            assert not condemned(tmp_path, POISON)
        with living(tmp_path) as other, other.watching(OTHER):
            one.survey()
            assert (executing(tmp_path)[4:20], executing(tmp_path, 1)[4:20]) == (POISON, OTHER)
    assert not condemned(tmp_path, POISON)


def test_a_trainer_knows_whether_it_is_the_only_one(tmp_path: Path) -> None:
    with living(tmp_path) as one:
        assert one.only()
        with living(tmp_path) as other:
            assert (one.only(), other.only()) == (False, False)
        assert one.only()


def test_a_trainer_that_stands_still_while_it_remembers_holds_nobody_up(tmp_path: Path) -> None:
    with living(tmp_path), locked(tmp_path / "all.lock"):
        die_while(tmp_path, POISON, times=MOST_DEATHS, slot=1)
        assert condemned(tmp_path, POISON)


def test_what_ended_by_itself_or_with_the_server_is_not_suspected(tmp_path: Path) -> None:
    for _ in range(MOST_DEATHS):
        with living(tmp_path) as suspects:
            with suspects.watching(POISON):
                pass
            with pytest.raises(MemoryError), suspects.watching(POISON):
                raise MemoryError
            with suspects.watching(POISON):
                suspects.forgive()  # the server is gone, and takes this process with it
                assert executing(tmp_path)[:4] == bytes(4)
    assert not condemned(tmp_path, POISON)


def test_samples_that_were_under_way_together_are_not_condemned_but_generated_alone(tmp_path: Path) -> None:
    die_while(tmp_path, POISON, OTHER, times=MOST_DEATHS)
    with living(tmp_path) as suspects, living(tmp_path) as witness:
        assert not suspects.condemned(POISON)
        assert (suspects.alone(POISON), suspects.alone(OTHER), suspects.alone(b"n" * 16)) == (True, True, False)
        suspects.acquit(OTHER)
        assert (witness.alone(POISON), witness.alone(OTHER)) == (True, False)
    with living(tmp_path) as suspects:
        assert (suspects.alone(POISON), suspects.alone(OTHER)) == (True, False)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '"x"', "{}", '{"deaths": 1, "alone": 1}', '{"deaths": {"a": "b"}, "alone": []}'],
    ids=["empty", "a list", "cut", "a text", "no parts", "numbers", "no number"],
)
def test_a_damaged_memory_suspects_nobody(tmp_path: Path, text: str) -> None:
    die_while(tmp_path, POISON, times=MOST_DEATHS)
    (tmp_path / "suspects.json").write_text(text)
    assert not condemned(tmp_path, POISON)


def test_a_condemned_batch_is_failed_and_the_run_goes_on(platform: TinyPlatform) -> None:
    run = platform.create_run("poisoned", batch_retention="sealed")
    rows = [[1, 2, 3, 4]] * 2
    poison, good = run.forward_backward(rows), run.forward_backward(rows)
    sample = run.sample(["to be"], 3)
    folder = platform.installation.data_dir / "run" / FOLDER
    die_while(folder, poison, times=MOST_DEATHS)
    die_while(folder, sample, times=MOST_DEATHS)
    with platform.worker():
        outcomes = [run.outcome(each) for each in (poison, good, sample)]
        later = run.outcome(run.optim_step())
    assert [getattr(each, "code", None) for each in outcomes] == ["worker_killed", None, "worker_killed"]
    assert isinstance(outcomes[1], e.ForwardBackwardCompleted)
    assert isinstance(later, e.StepApplied)


def test_a_poisonous_sample_among_others_is_found_by_generating_each_alone(platform: TinyPlatform) -> None:
    run, other = platform.create_run("one"), platform.create_run("two")
    poison, good = run.sample(["to be"], 3), other.sample(["to be"], 3)
    folder = platform.installation.data_dir / "run" / FOLDER
    die_while(folder, poison, good)
    die_while(folder, poison, times=MOST_DEATHS)
    with platform.worker():
        outcomes = [run.outcome(poison), other.outcome(good)]
    assert [getattr(each, "code", None) for each in outcomes] == ["worker_killed", None]
    with living(folder) as suspects:
        assert not any(map(suspects.alone, (poison, good)))


def test_samples_that_have_to_be_alone_all_have_their_turn_and_so_have_others(platform: TinyPlatform) -> None:
    runs = [platform.create_run(name) for name in ("one", "two", "three")]
    samples = [run.sample(["to be"], 40) for run in runs]
    step = [runs[2].forward_backward([[1, 2, 3, 4]] * 2), runs[2].optim_step()]
    die_while(platform.installation.data_dir / "run" / FOLDER, *samples[:2])
    with platform.worker():
        outcomes = [run.outcome(sample) for run, sample in zip(runs, samples, strict=True)]
        later = [runs[2].outcome(each) for each in step]
    assert all(isinstance(each, e.SampleCompleted) for each in outcomes)
    assert isinstance(later[-1], e.StepApplied)
