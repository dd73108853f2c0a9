"""Batches may be lists, numpy arrays or torch tensors; what is no batch is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tg_tinker import TrainingClient, errors
from tg_tinker.batches import plain_batch

from tests.sdk.simulator import Simulator

ROWS = [[1, 2, 3], [4, 5, 6]]
MASK = [[1, 1, 1], [1, 1, 0]]
LABELS = [[1, 2, 3], [4, 5, -100]]
PLAIN = {"attention_mask": MASK, "input_ids": ROWS, "labels": LABELS}

SAME = {
    "lists": PLAIN,
    "tuples": {name: tuple(map(tuple, rows)) for name, rows in PLAIN.items()},
    "numpy int64": {name: np.array(rows) for name, rows in PLAIN.items()},
    "numpy int16": {name: np.array(rows, dtype=np.int16) for name, rows in PLAIN.items()},
    "torch long": {name: torch.tensor(rows) for name, rows in PLAIN.items()},
    "torch int32": {name: torch.tensor(rows, dtype=torch.int32) for name, rows in PLAIN.items()},
    "lists of numpy rows": {name: [np.array(row) for row in rows] for name, rows in PLAIN.items()},
    "lists of torch rows": {name: [torch.tensor(row) for row in rows] for name, rows in PLAIN.items()},
    "lists of numpy numbers": {name: [list(np.array(row)) for row in rows] for name, rows in PLAIN.items()},
}


def _with(name: str, value: Any) -> dict[str, Any]:
    return {**PLAIN, name: value}


REFUSED: dict[str, tuple[Any, type[errors.TGTinkerError]]] = {
    "floats": (_with("input_ids", [[1.0, 2.0, 3.0], [4, 5, 6]]), errors.WrongDtypeError),
    "booleans": (_with("attention_mask", [[True] * 3] * 2), errors.WrongDtypeError),
    "text": (_with("input_ids", [["1", "2", "3"]] * 2), errors.WrongDtypeError),
    "none": (_with("labels", None), errors.WrongDtypeError),
    "a missing number": (_with("labels", [[1, None, 3]] * 2), errors.WrongDtypeError),
    "float array": (_with("input_ids", np.ones((2, 3))), errors.WrongDtypeError),
    "boolean array": (_with("attention_mask", np.ones((2, 3), dtype=bool)), errors.WrongDtypeError),
    "float tensor": (_with("input_ids", torch.ones(2, 3)), errors.WrongDtypeError),
    "object array": (_with("input_ids", np.array([[1, 2, 3]] * 2, dtype=object)), errors.WrongDtypeError),
    "one row without its list": (_with("input_ids", [1, 2, 3]), errors.WrongDtypeError),
    "one array of one dimension": (_with("input_ids", np.array([1, 2, 3])), errors.WrongDtypeError),
    "three dimensions": (_with("input_ids", [[[1, 2, 3]], [[4, 5, 6]]]), errors.WrongDtypeError),
    "an array of three dimensions": (_with("input_ids", np.zeros((2, 3, 1), dtype=int)), errors.WrongDtypeError),
    "a text as field": (_with("input_ids", "123"), errors.WrongDtypeError),
    "float numpy numbers": (_with("input_ids", [[np.float32(1), 2, 3]] * 2), errors.WrongDtypeError),
    "no rows": (_with("input_ids", []), errors.EmptyBatchError),
    "an empty row": ({name: [[]] for name in PLAIN}, errors.EmptyBatchError),
    "an empty array": ({name: np.zeros((0, 4), dtype=int) for name in PLAIN}, errors.EmptyBatchError),
    "rows of different lengths": (_with("input_ids", [[1, 2], [3]]), errors.RaggedBatchError),
    "fields of different lengths": (_with("labels", [[1, 2]] * 2), errors.RaggedBatchError),
    "fields of different rows": (_with("labels", [[1, 2, 3]]), errors.RaggedBatchError),
    "no labels": ({"input_ids": ROWS, "attention_mask": MASK}, errors.InvalidRequestError),
    "weights of text": (_with("weights", [["1", "2", "3"]] * 2), errors.WrongDtypeError),
    "weights that are booleans": (_with("weights", [[True] * 3] * 2), errors.WrongDtypeError),
    "a boolean array of weights": (_with("weights", np.ones((2, 3), dtype=bool)), errors.WrongDtypeError),
    "a negative weight": (_with("weights", [[1, -1, 1]] * 2), errors.InvalidRequestError),
    "a weight that is no number": (_with("weights", [[1, float("nan"), 1]] * 2), errors.InvalidRequestError),
    "weights of different lengths": (_with("weights", [[1], [1, 2]]), errors.RaggedBatchError),
    "weights of another shape": (_with("weights", [[1, 2]] * 2), errors.RaggedBatchError),
    "no weights in them": (_with("weights", [[]]), errors.EmptyBatchError),
    "an unknown field": ({**PLAIN, "token_type_ids": ROWS}, errors.InvalidRequestError),
    "no object": (ROWS, errors.InvalidRequestError),
}


@pytest.mark.parametrize("batch", SAME.values(), ids=SAME)
def test_the_same_numbers_are_the_same_batch(batch: dict[str, Any]) -> None:
    plain = plain_batch(batch)
    assert plain == PLAIN
    assert all(type(item) is int for rows in plain.values() for row in rows for item in row)


@pytest.mark.parametrize(
    "weights",
    [[[1, 0.5, 0]] * 2, np.array([[1, 0.5, 0]] * 2, dtype=np.float32), torch.tensor([[1, 0.5, 0]] * 2), None],
    ids=["lists", "numpy", "torch", "none"],
)
def test_weights_travel_with_the_batch(weights: Any) -> None:
    plain = plain_batch(_with("weights", weights))
    assert plain == (PLAIN if weights is None else _with("weights", [[1.0, 0.5, 0.0]] * 2))


@pytest.mark.parametrize(("batch", "kind"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_batch_is_refused_by_its_type(batch: Any, kind: type[errors.TGTinkerError]) -> None:
    with pytest.raises(kind) as caught:
        plain_batch(batch)
    assert type(caught.value) is kind
    assert caught.value.next_step


def test_a_refused_batch_is_never_sent(simulator: Simulator, training: TrainingClient) -> None:
    requests = len(simulator.seen)
    with pytest.raises(errors.RaggedBatchError):
        training.forward_backward(_with("labels", [[1]]))
    with pytest.raises(errors.InvalidRequestError):
        training.sample([])
    with pytest.raises(errors.InvalidRequestError):
        training.sample(["a lone \ud800 surrogate"])
    assert len(simulator.seen) == requests


def test_tensors_travel_as_the_numbers_they_hold(simulator: Simulator, training: TrainingClient) -> None:
    training.forward_backward({name: torch.tensor(rows) for name, rows in PLAIN.items()})
    assert simulator.seen[-1].body["batch"] == PLAIN
