"""Files as streams of records: JSON Lines, plain text, Parquet. An error names the place and never the content."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tg_tinker.data.stream import Stream
from tg_tinker.errors import DataFileError, MalformedLineError
from tg_tinker.extras import need

LONGEST_LINE = 64 << 20
ROWS_AT_ONCE = 256
MEMORY = Path("<memory>")
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """What a file holds at one place: a text, or the fields of an object. ``line`` counts from 1 (in Parquet: rows)."""

    value: Any = field(repr=False)
    path: Path
    line: int


def records(values: Iterable[Any]) -> Stream[Record]:
    """What is in memory already: texts, or objects as dicts. Errors count them from 1."""
    held = list(values)
    return Stream(lambda: (Record(value, MEMORY, number) for number, value in enumerate(held, 1)), len(held))


def read_jsonl(*paths: Path | str) -> Stream[Record]:
    """One JSON object a line; blank lines are passed over. Each value is a dict.

    Raises (when it is gone through):
        DataFileError: a file cannot be read.
        MalformedLineError: a line is no JSON object in UTF-8, or longer than 64 MiB.
    """
    files = _files(paths)
    return Stream(lambda: (record for path in files for record in _objects(path)))


def read_text(*paths: Path | str, unit: Literal["line", "paragraph"] = "paragraph") -> Stream[Record]:
    """Plain text in UTF-8: a record is a line, or a paragraph (lines up to a blank one). Each value is a str.

    Raises (when it is gone through):
        DataFileError: a file cannot be read.
        MalformedLineError: a line is no UTF-8, or a line or paragraph is longer than 64 MiB.
    """
    files, cut = _files(paths), _paragraphs if unit == "paragraph" else _filled_lines
    return Stream(lambda: (record for path in files for record in cut(path)))


def read_parquet(*paths: Path | str, columns: Sequence[str] | None = None) -> Stream[Record]:
    """Rows of Parquet files. Each value is a dict, with these columns only if they are given.

    Raises:
        MissingExtraError: the ``data`` extra is not installed.
        DataFileError: a file cannot be read, is no Parquet file or lacks a column.
    """
    files, parquet = _files(paths), need("pyarrow.parquet")
    length = sum(_rows_in(parquet, path, columns) for path in files)
    return Stream(lambda: (record for path in files for record in _rows(parquet, path, columns)), length)


def _files(paths: Iterable[Path | str]) -> list[Path]:
    files = [Path(path) for path in paths]
    if not files:
        raise DataFileError("No file is named.", next_step="Name at least one.")
    return files


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with _reading(path), path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise MalformedLineError(f"The line has more than {LONGEST_LINE} bytes.", path=path, line=number)
            yield number, _decoded(line.removeprefix(_MARK) if number == 1 else line, path, number)


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:  # which would quote the line
        raise MalformedLineError("The line is no UTF-8.", path=path, line=number) from None


def _objects(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        if line.strip():
            yield Record(_object(line, path, number), path, number)


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # which would hold the line
        raise MalformedLineError("The line is no JSON.", path=path, line=number) from None
    if not isinstance(value, dict):
        raise MalformedLineError("The line is no JSON object.", path=path, line=number)
    return value


def _filled_lines(path: Path) -> Iterator[Record]:
    for number, line in _lines(path):
        text = line.rstrip("\r\n")
        if text.strip():
            yield Record(text, path, number)


def _paragraphs(path: Path) -> Iterator[Record]:
    held: list[str] = []
    first = size = 0
    for number, line in _lines(path):
        if line.strip():
            first = first if held else number
            held.append(line)
            size += len(line)
            if size > LONGEST_LINE:
                raise MalformedLineError("The paragraph is too long; read it by lines.", path=path, line=first)
        elif held:
            yield Record("".join(held).rstrip(), path, first)
            held, size = [], 0
    if held:
        yield Record("".join(held).rstrip(), path, first)


def _rows_in(parquet: Any, path: Path, columns: Sequence[str] | None) -> int:
    with _reading(path), parquet.ParquetFile(path) as file:
        missing = sorted(set(columns or ()) - set(file.schema_arrow.names))
        if missing:
            raise DataFileError(f"There is no column {missing[0]}.", path=path)
        return int(file.metadata.num_rows)


def _rows(parquet: Any, path: Path, columns: Sequence[str] | None) -> Iterator[Record]:
    number = 0
    with _reading(path), parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(columns) if columns else None):
            for value in batch.to_pylist():
                number += 1
                yield Record(value, path, number)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """While a file is read: what the system or the library of Parquet finds wrong with it is told with its name."""
    try:
        yield
    except OSError as error:
        raise DataFileError(f"The file cannot be read ({error.strerror or 'damaged'}).", path=path) from error
    except ValueError:  # pyarrow's ArrowInvalid is one
        raise DataFileError("The file is none of its format, or damaged.", path=path) from None
