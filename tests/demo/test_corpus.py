"""Texts come from files that every machine has; what is measured on has never been learnt from."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.demo import corpus
from api.demo.corpus import docstrings, is_held_out, path_corpus, split, without_docstrings
from api.demo.errors import TextTooShortError

SOURCE = '''"""A module."""
import os

class C:
    """A class.

    With more.
    """

    def f(self):
        "One line."
        return """no docstring"""

async def g(): """On the line."""
'''


def test_docstrings_are_taken_in_order_and_without_indentation() -> None:
    assert docstrings(SOURCE) == ["A module.", "A class.\n\nWith more.", "One line.", "On the line."]


def test_code_keeps_everything_but_its_docstrings() -> None:
    kept = without_docstrings(SOURCE)
    assert '"""no docstring"""' in kept
    assert not any(text in kept for text in ("A module.", "A class", "With more", "One line."))
    assert [line for line in kept.splitlines() if line.strip()] == kept.splitlines()


@pytest.mark.parametrize("source", ["def broken(:", "\0", ""])
def test_what_is_no_python_has_no_docstrings(source: str) -> None:
    assert docstrings(source) == []


def test_both_kinds_of_text_hold_out_the_same_files() -> None:
    names = [name for name, _ in corpus.library_texts(lambda source: source[:1])]
    held = [name for name in names if is_held_out(name)]
    assert 0.03 < len(held) / len(names) < 0.25
    code, prose = corpus.code_corpus(300_000), corpus.docstring_corpus(100_000)
    assert not set(code.train) & set(code.held_out)
    assert not set(prose.train) & set(prose.held_out)
    assert code.size >= 300_000


def test_files_below_a_path_are_cut_and_parted(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(40):
        (tmp_path / "deep" / f"{number}.txt").write_text(f"{number} " * 3000)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff\xfe")
    found = path_corpus(tmp_path, 10_000_000)
    assert all(len(text) <= corpus.PIECE_CHARS for text in (*found.train, *found.held_out))
    assert found.train
    assert found.held_out
    assert 100_000 <= path_corpus(tmp_path, 100_000).size < 110_000
    assert path_corpus(tmp_path, 10_000_000) == found


def test_a_single_file_is_cut_into_pieces_too(tmp_path: Path) -> None:
    file = tmp_path / "one.txt"
    file.write_text("word " * 100_000)
    assert path_corpus(file, 10_000_000).held_out


@pytest.mark.parametrize("named", [[], [("a", "text")], [("a", "")]])
def test_text_that_cannot_be_parted_is_refused(named: list[tuple[str, str]]) -> None:
    with pytest.raises(TextTooShortError):
        split(named, 100)
