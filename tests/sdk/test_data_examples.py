"""Records become examples, and examples batches: what is learnt, what is cut, what is filled in."""

from __future__ import annotations

import io
import json
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from rich.console import Console
from tg_tinker import Tokenizer, errors
from tg_tinker.batches import plain_batch
from tg_tinker.data import (
    Collator,
    Example,
    Record,
    Stream,
    batches,
    chat_examples,
    packed,
    pair_examples,
    read_jsonl,
    read_parquet,
    text_examples,
    track,
)

from tests.support.tiny_model import CHAT, build_tiny_tokenizer

SECRET = "the patient's name"
CONVERSATION = [
    {"role": "user", "content": "To be?"},
    {"role": "assistant", "content": "Not to be."},
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_folder(build_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"), CHAT))


def _records(*values: Any) -> Stream[Record]:
    return Stream(lambda: (Record(value, Path("data"), line) for line, value in enumerate(values, 1)))


def _of(*lengths: int, weights: bool = False) -> Stream[Example]:
    made = [Example(range(1, n + 1), range(1, n + 1), [0.5] * n if weights else None) for n in lengths]
    return Stream(lambda: iter(made), len(made))


def test_a_text_is_learnt_whole_and_ends_with_the_end(tokenizer: Tokenizer) -> None:
    texts = ["To be, or not to be", "that is the question"]
    for records in (_records(*texts), _records(*({"text": text} for text in texts))):
        for text, example in zip(texts, text_examples(records, tokenizer, max_length=100), strict=True):
            assert list(example.input_ids) == [*tokenizer.encode(text), tokenizer.eos_id]
            assert example.labels == example.input_ids
            assert example.weights is None


@given(st.integers(2, 40), st.integers(1, 200))
def test_chunks_hold_every_token_once_and_truncation_the_first(length: int, size: int) -> None:
    from tg_tinker.data.examples import _cut  # noqa: PLC0415 -- the pure part, for properties

    whole = Example(range(size), range(size), [1.0] * size)
    chunks = list(_cut(whole, length, "chunk"))
    found = [token for chunk in chunks for token in chunk.input_ids]
    lonely = size % length == 1  # a last chunk of one token has nothing to tell it from
    assert found == list(range(size - lonely))
    assert all(len(chunk) <= length and chunk.labels == chunk.input_ids for chunk in chunks)
    cut = list(_cut(whole, length, "truncate"))
    assert [list(each.input_ids) for each in cut] == ([list(range(min(size, length)))] if size > 1 else [])


def test_of_a_pair_the_completion_alone_is_learnt(tokenizer: Tokenizer) -> None:
    records = _records({"prompt": "To be, ", "completion": "or not", "w": 2})
    (example,) = pair_examples(records, tokenizer, max_length=100, weight="w")
    asked, answered = tokenizer.encode("To be, "), [*tokenizer.encode("or not"), tokenizer.eos_id]
    assert list(example.input_ids) == asked + answered
    assert list(example.labels) == [-100] * len(asked) + answered
    assert example.weights == [2.0] * len(example)


def test_of_a_conversation_the_assistants_turns_alone_are_learnt(tokenizer: Tokenizer) -> None:
    (example,) = chat_examples(_records({"messages": CONVERSATION * 2}), tokenizer, max_length=500)
    learnt = [label for label in example.labels if label != -100]
    assert tokenizer.decode(learnt, skip_special_tokens=False) == "Not to be.<|end|>\n" * 2
    assert tokenizer.decode(example.input_ids, skip_special_tokens=False) == tokenizer.render_chat(CONVERSATION * 2)


def test_conversations_in_parquet_are_those_in_json_lines(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"messages": CONVERSATION}, {"messages": [{**CONVERSATION[0], "name": "Ann"}, CONVERSATION[1]]}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "chats.parquet")
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [
        [(example.input_ids, example.labels) for example in chat_examples(read, tokenizer, max_length=100)]
        for read in (read_parquet(tmp_path / "chats.parquet"), read_jsonl(tmp_path / "chats.jsonl"))
    ]
    assert found[0] == found[1]


def test_what_would_teach_nothing_after_it_was_cut_is_left_out(tokenizer: Tokenizer) -> None:
    long = [{"role": "user", "content": "To be " * 50}, CONVERSATION[1]]
    records = _records(
        {"messages": long, "w": 1}, {"messages": CONVERSATION, "w": 1}, {"messages": CONVERSATION, "w": 0}
    )
    assert len(list(chat_examples(records, tokenizer, max_length=60, weight="w"))) == 1
    with pytest.raises(errors.EmptyDataError):
        list(batches(chat_examples(_records({"messages": long}), tokenizer, max_length=20), 2, Collator(0)))


BAD_CHATS: dict[str, Any] = {
    "no messages": {"text": SECRET},
    "an empty list": {"messages": []},
    "a text": {"messages": SECRET},
    "texts": {"messages": [SECRET]},
    "no role": {"messages": [{"content": SECRET}]},
    "a number as content": {"messages": [{"role": "user", "content": 7}, CONVERSATION[1]]},
    "half a character": {"messages": [{"role": "user", "content": SECRET + "\ud800"}, CONVERSATION[1]]},
    "nobody answers": {"messages": [{"role": "user", "content": SECRET}]},
    "no object": SECRET,
}


@pytest.mark.parametrize("value", BAD_CHATS.values(), ids=BAD_CHATS)
def test_what_is_no_conversation_is_told_by_its_place_alone(tokenizer: Tokenizer, value: Any) -> None:
    examples = chat_examples(_records({"messages": CONVERSATION}, value), tokenizer, max_length=100)
    with pytest.raises(errors.MalformedChatError, match=r"data, line 2: ") as caught:
        list(examples)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_what_the_template_refuses_is_told_by_its_place_alone(tmp_path: Path) -> None:
    template = "{{ raise_exception(messages[0].content) }}"
    tokenizer = Tokenizer.from_folder(build_tiny_tokenizer(tmp_path, template))
    examples = chat_examples(
        _records({"messages": [{"role": "user", "content": SECRET}, CONVERSATION[1]]}), tokenizer, max_length=9
    )
    with pytest.raises(errors.MalformedChatError, match=r"data, line 1: ") as caught:
        list(examples)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_without_a_template_there_are_no_conversations(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(build_tiny_tokenizer(tmp_path))
    with pytest.raises(errors.ChatTemplateError):
        chat_examples(_records(), tokenizer, max_length=100)


BAD_FIELDS: dict[str, Any] = {
    "no text": {"other": "x", "w": 1},
    "a number": {"text": 7, "w": 1},
    "half a character": {"text": "\udfff", "w": 1},
    "no weight": {"text": "x"},
    "a negative weight": {"text": "x", "w": -1},
    "a weight that is no number": {"text": "x", "w": float("nan")},
    "a boolean as weight": {"text": "x", "w": True},
    "a text where a weight belongs": "x",
}


@pytest.mark.parametrize("value", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_missing_field_is_told_by_its_place(tokenizer: Tokenizer, value: Any) -> None:
    with pytest.raises(errors.MissingFieldError, match=r"data, line 1: "):
        list(text_examples(_records(value), tokenizer, max_length=100, weight="w"))


def test_an_example_never_shows_its_tokens() -> None:
    assert "777" not in repr(Example([777], [777], [777.0]))


def test_rows_are_filled_up_to_one_length() -> None:
    examples = list(_of(3, 5))
    assert Collator(9)(examples) == {
        "input_ids": [[1, 2, 3, 9, 9], [1, 2, 3, 4, 5]],
        "attention_mask": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
        "labels": [[1, 2, 3, -100, -100], [1, 2, 3, 4, 5]],
    }
    left = Collator(9, multiple_of=4, side="left")([examples[0], *_of(5, weights=True)])
    assert left["input_ids"][0] == [9] * 5 + [1, 2, 3]
    assert left["weights"] == [[0.0] * 5 + [1.0] * 3, [0.0] * 3 + [0.5] * 5]
    assert plain_batch(left) == left


@given(st.lists(st.integers(2, 30), min_size=1, max_size=40), st.integers(1, 6), st.none() | st.integers(1, 60))
def test_batches_hold_every_example_once_in_order(lengths: list[int], rows: int, most: int | None) -> None:
    found = list(batches(_of(*lengths), rows, Collator(0), most_tokens=most))
    assert [sum(mask) for batch in found for mask in batch["attention_mask"]] == lengths
    for batch in found:
        assert len(batch["input_ids"]) <= rows
        assert most is None or len(batch["input_ids"]) == 1 or sum(map(len, batch["input_ids"])) <= most
        assert plain_batch(batch) == batch


def test_the_number_of_batches_is_known_where_that_of_examples_is() -> None:
    assert len(batches(_of(2, 2, 2), 2, Collator(0))) == len(list(batches(_of(2, 2, 2), 2, Collator(0)))) == 2
    dropped = batches(_of(2, 2, 2), 2, Collator(0), drop_last=True)
    assert len(dropped) == len(list(dropped)) == 1
    with pytest.raises(TypeError):
        len(batches(_of(2, 2), 2, Collator(0), most_tokens=8))
    with pytest.raises(errors.ConfigurationError):
        batches(_of(2), 0, Collator(0))


@given(st.lists(st.integers(2, 12), max_size=30), st.integers(2, 20))
def test_packing_keeps_tokens_and_teaches_nothing_across_examples(lengths: list[int], size: int) -> None:
    rows = list(packed(_of(*lengths), size))
    assert [token for row in rows for token in row.input_ids] == [t for n in lengths for t in range(1, n + 1)]
    assert all(len(row) <= max(size, *lengths) for row in rows)
    for row in rows:
        assert all(label in (-100, token) for label, token in zip(row.labels, row.input_ids, strict=True))
        assert all(
            label == -100 for label, token in list(zip(row.labels, row.input_ids, strict=True))[1:] if token == 1
        )
        assert row.teaches


def test_packed_rows_keep_the_weights_of_their_examples() -> None:
    mixed = Stream(lambda: iter([*_of(2), *_of(3, weights=True)]))
    (row,) = packed(mixed, 10)
    assert row.weights == [1.0, 1.0, 0.5, 0.5, 0.5]


def test_too_short_examples_are_refused_at_once(tokenizer: Tokenizer) -> None:
    with pytest.raises(errors.ConfigurationError):
        text_examples(_records("x"), tokenizer, max_length=1)


def test_a_bar_counts_batches_and_shows_figures() -> None:
    screen = io.StringIO()
    bar = track(batches(_of(2, 2, 2), 1, Collator(0)), console=Console(file=screen, force_terminal=True, width=120))
    for number, _ in enumerate(bar):
        bar.note(loss=1.5 + number)
    assert "3/3" in screen.getvalue()
    assert "loss 3.5" in screen.getvalue()


def test_where_there_is_no_terminal_there_is_no_bar() -> None:
    screen = io.StringIO()
    assert list(track([1, 2], console=Console(file=screen))) == [1, 2]
    assert list(track((each for each in (1, 2)), console=Console(file=screen))) == [1, 2]
    assert not screen.getvalue()
