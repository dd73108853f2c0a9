"""The base model is made from text, beats unigrams on unseen text or is not kept, and can be loaded by anyone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from api.demo import base_model
from api.demo.base_model import Recipe, make_base_model, rate_share, unigram_loss
from api.demo.corpus import Corpus, code_corpus
from api.demo.errors import ModelTooWeakError, TextTooShortError

TINY = Recipe(
    vocabulary=320,
    layers=1,
    hidden=32,
    intermediate=64,
    heads=2,
    positions=64,
    window=32,
    batch=8,
    steps=60,
    learning_rate=2e-2,
    held_out_windows=32,
)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return code_corpus(150_000)


def test_a_model_is_made_that_beats_unigrams_and_loads(corpus: Corpus, tmp_path: Path) -> None:
    steps: list[int] = []
    report = make_base_model(tmp_path / "m", corpus, TINY, lambda step, _steps, _loss: steps.append(step))
    assert report.held_out_loss < report.unigram_loss < np.log(TINY.vocabulary)
    assert steps == list(range(1, TINY.steps + 1))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    text = "def f(x):\n    return 'Grüße €'"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == text
    assert model(input_ids=ids).logits.shape == (1, ids.shape[1], TINY.vocabulary)
    assert not list((tmp_path / "m").glob("*.bin"))


def test_a_model_that_is_too_weak_is_not_kept(corpus: Corpus, tmp_path: Path) -> None:
    hopeless = Recipe(**{**TINY.__dict__, "steps": 1, "learning_rate": 0.0})
    with pytest.raises(ModelTooWeakError):
        make_base_model(tmp_path / "m", corpus, hopeless, lambda *_: None)
    assert not (tmp_path / "m").exists()


def test_a_slow_machine_makes_fewer_steps_but_enough(corpus: Corpus, tmp_path: Path) -> None:
    hurried = Recipe(**{**TINY.__dict__, "steps": 500, "least_steps": 60, "most_seconds": 1e-6})
    assert make_base_model(tmp_path / "m", corpus, hurried, lambda *_: None).steps == 60


def test_text_that_fills_no_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextTooShortError):
        make_base_model(tmp_path / "m", Corpus(("a b",), ("c",)), TINY, lambda *_: None)


def test_the_unigram_loss_is_that_of_counting() -> None:
    train, held_out = np.array([[0, 0, 0, 1]]), np.array([[1, 0, 1]])
    p = np.array([4 / 6, 2 / 6])  # counts 3 and 1, one added to each
    assert unigram_loss(train, held_out, 2) == pytest.approx(-(np.log(p[0]) + np.log(p[1])) / 2)


def test_the_rate_warms_up_and_ends_low() -> None:
    assert rate_share(1, 0.0, 20) == pytest.approx(1 / 20)
    assert rate_share(20, 0.0, 20) == 1.0
    assert rate_share(300, 1.0, 20) == pytest.approx(0.02)


def test_the_command_says_its_progress_and_its_report_as_json(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("x = 1\n" * 10)
    command = [sys.executable, "-m", base_model.__name__, "--out", str(tmp_path / "m"), "--text", str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert json.loads(done.stdout.splitlines()[-1])["error"]["code"] == "text_too_short"


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)
