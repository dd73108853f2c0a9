"""Real text of two kinds that any machine with Python has: code of the standard library, and its docstrings.

Texts are split by a hash of their file's name, so that a held-out file is unseen by the base model and by fine-tuning
alike, on every machine. Sizes are bytes of UTF-8.
"""

from __future__ import annotations

import ast
import codecs
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from inspect import cleandoc
from pathlib import Path

from api.demo.errors import TextTooShortError

HELD_OUT_OF_256 = 26
PIECE_CHARS = 4_096
LARGEST_READ = 8 << 20
# Tests, generated tables and other people's packages are neither the library's code nor its prose.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "lib2to3", "encodings", "pydoc_data"})

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, and texts of unseen files to measure on."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all texts."""
        return sum(len(text.encode()) for text in (*self.train, *self.held_out))


def code_corpus(limit: int) -> Corpus:
    """Code of the standard library without its docstrings, up to about ``limit`` bytes."""
    return split(library_texts(without_docstrings), limit)


def docstring_corpus(limit: int) -> Corpus:
    """Docstrings of the standard library, those of one file joined by blank lines, up to about ``limit`` bytes."""
    return split(library_texts(lambda source: "\n\n".join(docstrings(source))), limit)


def path_corpus(path: Path, limit: int) -> Corpus:
    """The UTF-8 files below a path (or that one file), cut into pieces, up to about ``limit`` bytes."""
    return split(pieces_below(path), limit)


def split(named: Iterable[tuple[str, str]], limit: int) -> Corpus:
    """Part named texts by their names, until the limit is reached.

    Raises:
        TextTooShortError: nothing is left to learn from or to measure on.
    """
    train: list[str] = []
    held_out: list[str] = []
    size = 0
    for name, text in named:
        (held_out if is_held_out(name) else train).append(text)
        size += len(text.encode())
        if size >= limit:
            break
    if not train or not held_out:
        raise TextTooShortError(
            f"{size} bytes of text cannot be parted into text to learn from and text to measure on."
        )
    return Corpus(tuple(train), tuple(held_out))


def is_held_out(name: str) -> bool:
    """Whether the text of this name is kept for measuring; about one in ten is."""
    return _hash(name)[-1] < HELD_OUT_OF_256


def docstrings(source: str) -> list[str]:
    """The docstrings of a module, its classes and functions, in the source's order and without indentation."""
    return [cleandoc(str(node.value)) for node in _docstring_nodes(source)]


def without_docstrings(source: str) -> str:
    """The source with the lines of its docstrings left out."""
    lines = source.splitlines()
    for node in _docstring_nodes(source):
        lines[node.lineno - 1 : node.end_lineno] = [""] * (_last_line(node) - node.lineno + 1)
    return "\n".join(line for line in lines if line.strip())


def library_texts(extract: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """What ``extract`` takes from each file of the standard library, with the file's name, in hash order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    names = [file.relative_to(root).as_posix() for file in root.rglob("*.py")]
    for name in sorted((name for name in names if not LEFT_OUT & set(name.split("/"))), key=_hash):
        if text := extract(_read(root / name)):
            yield name, text


def pieces_below(path: Path) -> Iterator[tuple[str, str]]:
    """Pieces of the files below a path, each with a name of its own, in the order of name hashes."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    texts = ((file.relative_to(path).as_posix(), _read(file)) for file in files)
    named = [
        (f"{name}:{start}", text[start : start + PIECE_CHARS])
        for name, text in texts
        for start in range(0, len(text), PIECE_CHARS)
    ]
    return iter(sorted(named, key=lambda piece: _hash(piece[0])))


def _docstring_nodes(source: str) -> list[ast.Constant]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a template, or a file for another version of the language
        return []
    found = [_docstring_of(node) for node in ast.walk(tree) if isinstance(node, Documented)]
    return sorted((node for node in found if node), key=lambda node: node.lineno)


def _docstring_of(node: Documented) -> ast.Constant | None:
    first = node.body[0] if node.body else None
    value = first.value if isinstance(first, ast.Expr) else None
    return value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _last_line(node: ast.Constant) -> int:
    return node.end_lineno or node.lineno


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return codecs.getincrementaldecoder("utf-8")().decode(opened.read(LARGEST_READ))
    except (OSError, UnicodeDecodeError):  # what cannot be read as text is no text
        return ""


def _hash(name: str) -> bytes:
    return sha256(name.encode("utf-8", "surrogateescape")).digest()
