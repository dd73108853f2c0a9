from __future__ import annotations

from typing import Any

import pytest

from api import batches
from api.batches import BatchLimits
from api.errors import ApiError

LIMITS = BatchLimits(vocabulary=100, positions=4, rows=4, tokens=64)
GOOD: dict[str, Any] = {"input_ids": [[1, 2], [3, 4]], "attention_mask": [[1, 1], [1, 1]], "labels": [[1, 2], [3, 4]]}
ONES, ROW = [[1, 1, 1, 1, 1]], [[1, 2, 3, 4, 5]]

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a text instead of rows": ({"input_ids": "ab"}, "wrong_dtype"),
    "null instead of rows": ({"input_ids": None}, "wrong_dtype"),
    "a flat list": ({"input_ids": [1, 2]}, "wrong_dtype"),
    "an object": ({"labels": {"0": [1]}}, "wrong_dtype"),
    "floats": ({"input_ids": [[1.0, 2.0], [3.0, 4.0]]}, "wrong_dtype"),
    "booleans": ({"attention_mask": [[True, True], [True, False]]}, "wrong_dtype"),
    "texts in a row": ({"labels": [["1", "2"], ["3", "4"]]}, "wrong_dtype"),
    "null in a row": ({"labels": [[1, None], [3, 4]]}, "wrong_dtype"),
    "no rows": ({"input_ids": [], "attention_mask": [], "labels": []}, "empty_batch"),
    "empty rows": ({"input_ids": [[], []], "attention_mask": [[], []], "labels": [[], []]}, "empty_batch"),
    "all labels ignored": ({"labels": [[-100, -100], [-100, -100]]}, "empty_batch"),
    "labels of first tokens only": ({"labels": [[1, -100], [3, -100]]}, "empty_batch"),
    "labels under the mask only": ({"attention_mask": [[1, 0], [1, 0]]}, "empty_batch"),
    "left padding, label of the first token": ({"attention_mask": [[0, 1], [0, 1]]}, "empty_batch"),
    "nothing attended to": ({"attention_mask": [[0, 0], [0, 0]]}, "empty_batch"),
    "rows of different lengths": ({"input_ids": [[1, 2], [3]]}, "ragged_batch"),
    "fewer labels than rows": ({"labels": [[1, 2]]}, "ragged_batch"),
    "a longer mask": ({"attention_mask": [[1, 1, 1], [1, 1, 1]]}, "ragged_batch"),
    "an id beyond the vocabulary": ({"input_ids": [[1, 100], [3, 4]]}, "token_out_of_vocabulary"),
    "a negative id": ({"input_ids": [[1, -1], [3, 4]]}, "token_out_of_vocabulary"),
    "an id of many digits": ({"input_ids": [[1, 10**40], [3, 4]]}, "token_out_of_vocabulary"),
    "a label beyond the vocabulary": ({"labels": [[1, 100], [3, 4]]}, "token_out_of_vocabulary"),
    "a negative label that is not -100": ({"labels": [[1, -1], [3, 4]]}, "token_out_of_vocabulary"),
    "a mask of twos": ({"attention_mask": [[1, 2], [1, 1]]}, "invalid_request"),
    "longer than the model": ({"input_ids": ROW, "attention_mask": ONES, "labels": ROW}, "sequence_too_long"),
    "too many rows": (
        {"input_ids": [[1, 2]] * 5, "attention_mask": [[1, 1]] * 5, "labels": [[1, 2]] * 5},
        "batch_too_large",
    ),
    "too many tokens": (
        {"input_ids": [[1] * 65], "attention_mask": [[0] * 65], "labels": [[1] * 65]},
        "batch_too_large",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_batch_that_cannot_be_trained_on_is_refused_by_its_own_code(name: str) -> None:
    change, code = WRONG[name]
    with pytest.raises(ApiError) as caught:
        batches.check({**GOOD, **change}, LIMITS)
    assert caught.value.code == code


def test_a_good_batch_counts_its_attended_tokens() -> None:
    batch = batches.check({**GOOD, "attention_mask": [[1, 1], [1, 0]]}, LIMITS)
    assert (batch.rows, batch.tokens) == (2, 3)


def test_padding_beyond_the_model_is_no_fault() -> None:
    padded = {"input_ids": [[1, 2, 0, 0, 0]], "attention_mask": [[1, 1, 0, 0, 0]], "labels": [[1, 2, -100, -100, -100]]}
    assert batches.check(padded, LIMITS).tokens == 2
