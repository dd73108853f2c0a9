"""Each benchmark runs at a tiny size and yields figures that make sense; how fast is no test's business."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tests.bench.__main__ import NAMES, chosen, main, run
from tests.bench.sizes import TINY

WITH_A_SERVER = frozenset({"training", "long_steps", "memory", "retention", "reads", "start", "sampling"})
"""Each of these starts a server of its own, which takes its time: one of them stands for all but in the long tests."""
ON_KAFKA = frozenset(name for name in NAMES if name.startswith("kafka_"))
"""Each of these starts several processes on a broker: here the same holds."""
IN_THE_SUITE = frozenset({"long_steps", "kafka_appends"})


def _benches() -> list[Any]:
    long = (WITH_A_SERVER | ON_KAFKA) - IN_THE_SUITE
    return [pytest.param(name, marks=pytest.mark.soak) if name in long else name for name in NAMES]


@pytest.mark.parametrize("name", _benches())
def test_a_benchmark_yields_finite_positive_figures(name: str) -> None:
    figures = run(name, TINY)
    assert figures
    for figure in figures:
        for spread in (figure.value, figure.baseline_value):
            assert spread is None or all(math.isfinite(each) and each > 0 for each in spread.values), figure


def test_the_command_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "--tiny", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["figures"]) == {"checkpoint"}
    assert printed["machine"]["cores"] >= 1


def test_the_command_prints_a_table_that_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "--tiny", "--markdown"]) == 0
    about, _, *table = capsys.readouterr().out.splitlines()
    assert "cores" in about
    assert table[:2] == ["| checkpoint | ours | baseline | ratio |", "|---|---|---|---|"]
    assert all(row.count("|") == 5 for row in table[2:] if row.startswith("|"))


def test_a_name_stands_for_all_that_begin_with_it() -> None:
    assert set(chosen(["kafka", "start"])) == {*ON_KAFKA, "start"}
    assert chosen([]) == list(NAMES)


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["speed"])
    assert ended.value.code == 2
    assert "appends" in capsys.readouterr().err
