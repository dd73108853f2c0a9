"""Files become records one at a time; what is wrong with one is told by file and line, and never by its content."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from tg_tinker import errors
from tg_tinker.data import Record, Stream, read_jsonl, read_parquet, read_text, readers, records

SECRET = "the patient's name"


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _places(records: Stream[Record]) -> list[tuple[int, Any]]:
    return [(record.line, record.value) for record in records]


def test_json_lines_are_objects_with_their_lines(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": "\xc3\xbc"}')
    records = read_jsonl(path)
    assert _places(records) == [(1, {"a": 1}), (4, {"b": "ü"})]
    assert _places(records) == _places(read_jsonl(str(path)))
    assert [record.path for record in read_jsonl(path, path)] == [path] * 4


def test_text_is_cut_by_paragraphs_or_lines(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.txt", b"\n one\ntwo \n\n\n \nthree\r\n\r\nfour")
    assert _places(read_text(path)) == [(2, " one\ntwo"), (7, "three"), (9, "four")]
    assert _places(read_text(path, unit="line")) == [(2, " one"), (3, "two "), (7, "three"), (9, "four")]


def test_parquet_rows_are_objects_and_their_number_is_known(tmp_path: Path) -> None:
    rows = [{"text": f"row {n}", "messages": [{"role": "user", "content": "hi"}], "n": n} for n in range(600)]
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    records = read_parquet(path, path)
    assert len(records) == 1200
    assert [record.value for record in records] == rows + rows
    assert [record.line for record in read_parquet(path)] == list(range(1, 601))
    assert next(iter(read_parquet(path, columns=["n"]))).value == {"n": 0}


@given(st.lists(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())), max_size=6))
def test_whatever_json_writes_a_line_of_is_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [record.value for record in read_jsonl(path)] == rows


MALFORMED: dict[str, tuple[bytes, Callable[..., Stream[Record]], int | None]] = {
    "no JSON": (b'{"a": 1}\n{"a": the patient\'s name', read_jsonl, 2),
    "JSON cut short": (b'{"a": "the patient\'s name', read_jsonl, 1),
    "a list": (b'["the patient\'s name"]', read_jsonl, 1),
    "a number": (b"\n\n7", read_jsonl, 3),
    "no UTF-8": (b'{}\n"the patient\'s name \xff"', read_jsonl, 2),
    "no UTF-8 in text": (b"the patient's name \xff", read_text, 1),
    "too deep": (b"[" * 100_000, read_jsonl, 1),
    "no Parquet": (b"the patient's name" * 10, read_parquet, None),
    "an empty file for Parquet": (b"", read_parquet, None),
    "Parquet with a broken end": (b"PAR1" + b"the patient's name" + b"PAR1", read_parquet, None),
}


@pytest.mark.parametrize(("content", "read", "line"), MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_told_by_its_place_alone(
    tmp_path: Path, content: bytes, read: Callable[..., Stream[Record]], line: int | None
) -> None:
    path = _file(tmp_path / "data", content)
    with pytest.raises(errors.DataError) as caught:
        list(read(path))
    assert (caught.value.path, caught.value.line) == (path, line)
    assert str(path) in str(caught.value)
    assert f"line {line}" in str(caught.value) or line is None
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("read", [read_jsonl, read_text, read_parquet])
def test_a_file_that_is_not_there_is_told(tmp_path: Path, read: Callable[..., Stream[Record]]) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(errors.DataFileError) as caught:
            list(read(path))
        assert caught.value.path == path
    with pytest.raises(errors.DataFileError):
        read()


def test_a_column_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(errors.DataFileError, match="no column b"):
        read_parquet(tmp_path / "a.parquet", columns=["b"])


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LONGEST_LINE", 100)
    path = _file(tmp_path / "a.txt", b"x" * 1000)
    for read in (read_jsonl, read_text):
        with pytest.raises(errors.MalformedLineError):
            list(read(path))
    endless = _file(tmp_path / "b.txt", b"x" * 60 + b"\n" + b"y" * 60)
    with pytest.raises(errors.MalformedLineError, match="line 1"):
        list(read_text(endless))
    assert len(list(read_text(endless, unit="line"))) == 2


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = _file(tmp_path / "a.jsonl", b'{"a": 1}\nnot yet')
    records = iter(read_jsonl(path))
    assert next(records).value == {"a": 1}
    with pytest.raises(errors.MalformedLineError):
        next(records)


def test_what_is_in_memory_is_a_stream_too() -> None:
    held = records(["a", {"text": "b"}])
    assert (_places(held), len(held)) == ([(1, "a"), (2, {"text": "b"})], 2)


def test_a_record_never_shows_its_value(tmp_path: Path) -> None:
    assert SECRET not in repr(Record(SECRET, tmp_path, 1))


def test_without_the_extra_parquet_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(errors.MissingExtraError, match="pip install"):
        read_parquet(tmp_path)


def test_a_stream_knows_its_length_or_says_that_it_does_not(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        len(read_jsonl(_file(tmp_path / "a.jsonl", b"{}")))
    numbers = Stream(lambda: iter(range(10)), 10)
    assert (list(numbers.skip(7)), len(numbers.skip(7)), len(numbers.skip(11))) == ([7, 8, 9], 3, 0)
    assert (list(numbers.take(2)), len(numbers.take(2)), len(numbers.take(20))) == ([0, 1], 2, 10)
    assert list(Stream(lambda: iter(range(3))).skip(1)) == [1, 2]
