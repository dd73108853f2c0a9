"""Each benchmark runs at a tiny size and yields figures that make sense; how fast is no test's business."""

from __future__ import annotations

import json
import math

import pytest

from tests.bench.__main__ import NAMES, main, run
from tests.bench.sizes import TINY


@pytest.mark.parametrize("name", NAMES)
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


def test_an_unknown_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["speed"])
    assert ended.value.code == 2
    assert "appends" in capsys.readouterr().err
