"""An operation that ends its process again and again is failed at last, and nobody else is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processors.trainer.suspects import MOST_DEATHS, Suspects
from schemas import events as e
from tests.support.tiny_platform import TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Iterator

POISON, OTHER = b"p" * 16, b"o" * 16


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir) as started:
        yield started


def executing(folder: Path) -> bytes:
    return (folder / "trainer-executing").read_bytes()


def die_while(folder: Path, operation_id: bytes, times: int = 1) -> None:
    """Lives of a trainer that each end in the middle of an operation."""
    for _ in range(times):
        suspects = Suspects(folder)
        with suspects.watching(operation_id):
            left = executing(folder)
        suspects.close()
        (folder / "trainer-executing").write_bytes(left)


def test_so_many_deaths_in_the_middle_of_one_operation_condemn_it(tmp_path: Path) -> None:
    die_while(tmp_path, POISON, MOST_DEATHS - 1)
    assert not Suspects(tmp_path).condemned(POISON)
    die_while(tmp_path, POISON)
    die_while(tmp_path, OTHER)
    suspects = Suspects(tmp_path)
    assert suspects.condemned(POISON)
    assert not suspects.condemned(OTHER)


def test_what_ended_by_itself_or_with_the_server_is_not_suspected(tmp_path: Path) -> None:
    for _ in range(MOST_DEATHS):
        suspects = Suspects(tmp_path)
        with suspects.watching(POISON):
            pass
        with pytest.raises(MemoryError), suspects.watching(POISON):
            raise MemoryError
        with suspects.watching(POISON):
            suspects.forgive()  # the server is gone, and takes this process with it
            assert executing(tmp_path) != POISON
        suspects.close()
    assert not Suspects(tmp_path).condemned(POISON)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"'], ids=["empty", "a list", "cut", "a text"])
def test_a_damaged_memory_suspects_nobody(tmp_path: Path, text: str) -> None:
    die_while(tmp_path, POISON, MOST_DEATHS)
    (tmp_path / "trainer-suspects.json").write_text(text)
    assert not Suspects(tmp_path).condemned(POISON)


def test_a_condemned_batch_is_failed_and_the_run_goes_on(platform: TinyPlatform) -> None:
    run = platform.create_run("poisoned", batch_retention="sealed")
    rows = [[1, 2, 3, 4]] * 2
    poison, good = run.forward_backward(rows), run.forward_backward(rows)
    sample = run.sample(["to be"], 3)
    folder = platform.installation.data_dir / "run"
    die_while(folder, poison, MOST_DEATHS)
    die_while(folder, sample, MOST_DEATHS)
    with platform.worker():
        outcomes = [run.outcome(each) for each in (poison, good, sample)]
        later = run.outcome(run.optim_step())
    assert [getattr(each, "code", None) for each in outcomes] == ["worker_killed", None, "worker_killed"]
    assert isinstance(outcomes[1], e.ForwardBackwardCompleted)
    assert isinstance(later, e.StepApplied)
