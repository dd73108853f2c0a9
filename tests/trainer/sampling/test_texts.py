from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.trainer.sampling.texts import REPLACEMENT, GrowingText

if TYPE_CHECKING:
    from collections.abc import Sequence


def decode(tokens: list[int]) -> str:
    """A tokenizer whose tokens are bytes."""
    return bytes(tokens).decode(errors="replace")


def grown(data: bytes, stop: Sequence[str] = ()) -> tuple[GrowingText, list[str]]:
    """A text that grew by these bytes, and what was told of it after each."""
    text, told = GrowingText(decode, stop), []
    for byte in data:
        text.add(byte)
        told.append(text.news(last=False))
        if text.stopped:
            break
    text.finish()
    return text, [*told, text.news(last=True)]


@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_what_is_told_is_the_text_up_to_the_first_stop_string(whole: str, stop: list[str]) -> None:
    whole = whole.replace(REPLACEMENT, "")
    text, told = grown(whole.encode(), stop)
    places = [whole.find(each) for each in stop if each in whole]
    assert text.stopped == bool(places)
    assert "".join(told) == text.text
    if not places:
        assert text.text == whole
    assert not any(each in text.text for each in stop)
    assert whole.startswith(text.text)


def test_half_a_character_is_not_told() -> None:
    _, told = grown("é☃".encode())
    assert told == ["", "é", "", "", "☃", ""]


def test_what_is_no_character_comes_at_the_end() -> None:
    text, told = grown(b"a\xe2\x98")
    assert text.text == f"a{REPLACEMENT}"
    assert told[:3] == ["a", "", ""]


STOPS = {
    "inside": ("one stop two", ["stop"], "one "),
    "the first of two": ("a b c", ["c", "b"], "a "),
    "of one letter": ("abc", ["b"], "a"),
    "at the very beginning": ("abc", ["abc"], ""),
    "overlapping itself": ("aab", ["ab"], "a"),
    "never": ("abc", ["abd"], "abc"),
}


@pytest.mark.parametrize(("whole", "stop", "wanted"), STOPS.values(), ids=STOPS)
def test_a_text_ends_before_a_stop_string(whole: str, stop: list[str], wanted: str) -> None:
    text, told = grown(whole.encode(), stop)
    assert text.text == "".join(told) == wanted


def test_what_may_become_a_stop_string_is_held_back() -> None:
    _, told = grown(b"xENx", ["END"])
    assert told == ["x", "", "", "ENx", ""]
