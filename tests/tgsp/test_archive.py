"""The container: one way to write it, and every other way is refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.tgsp.archive import Container, Content, write
from tensorguard.tgsp.container import END, FULL, LOCAL, Entry, layout
from tensorguard.tgsp.errors import PackageDamagedError, PackageError, PackageMalformedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,12}\Z")
FILES = st.dictionaries(NAMES, st.binary(max_size=200), max_size=8)
EXAMPLE = {"a.json": b"{}\n", "b.bin": bytes(range(200)), "empty": b""}


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    write(out, [Content.of(name, data) for name, data in files.items()])
    return out.getvalue()


def contents(data: bytes) -> dict[str, bytes]:
    container = Container(io.BytesIO(data))
    return {name: container.read(name, 1 << 20) for name in container.entries}


@given(FILES)
def test_what_is_packed_comes_out_and_the_order_of_packing_does_not_matter(files: dict[str, bytes]) -> None:
    data = packed(files)
    assert contents(data) == files
    assert packed(dict(reversed(files.items()))) == data


@given(FILES)
def test_other_zip_readers_agree(files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(packed(files))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
        assert archive.namelist() == sorted(files)


def test_the_digest_of_the_whole_is_given(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as out:
        digest = write(out, [Content.of("a", b"x")])
    assert digest == sha256((tmp_path / "x").read_bytes()).digest()
    with (tmp_path / "x").open("rb") as file:
        assert Container(file).file_digest() == digest


@settings(max_examples=400)
@given(st.data())
def test_no_byte_of_the_structure_can_be_another(data: st.DataObject) -> None:
    original = packed(EXAMPLE)
    at = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda v: v != original[at]))
    changed = original[:at] + bytes([value]) + original[at + 1 :]
    with pytest.raises(PackageError):
        contents(changed)


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_bytes_that_are_no_container_are_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(PackageMalformedError):
        Container(io.BytesIO(data))


@given(st.integers(0, len(packed(EXAMPLE)) - 1))
def test_a_cut_container_is_refused(length: int) -> None:
    with pytest.raises(PackageMalformedError):
        Container(io.BytesIO(packed(EXAMPLE)[:length]))


def by_zipfile(change: Callable[[zipfile.ZipFile], object], mode: str = "w") -> bytes:
    out = io.BytesIO(packed({"a": b"x"}) if mode == "a" else b"")
    with zipfile.ZipFile(out, mode) as archive:  # type: ignore[call-overload]
        change(archive)
    return out.getvalue()


def with_comment(archive: zipfile.ZipFile) -> None:
    archive.writestr("a", b"x")
    archive.comment = b"hello"


def doubled(data: bytes, files: dict[str, bytes]) -> bytes:
    """The directory lists the first entry twice."""
    plan = layout([Entry(name, len(c), zlib.crc32(c)) for name, c in sorted(files.items())])
    directory = plan.tail[: -END.size]
    first = directory[: 46 + len(min(files))]
    fields = list(END.unpack(plan.tail[-END.size :]))
    fields[3] = fields[4] = fields[4] + 1
    fields[5] += len(first)
    return data[: plan.directory_at] + first + directory + END.pack(*fields)


def with_gap(data: bytes) -> bytes:
    """A byte stands between the contents and the directory, which says so."""
    fields = list(END.unpack(data[-END.size :]))
    at = fields[6]
    fields[6] += 1
    return data[:at] + b"\x00" + data[at : -END.size] + END.pack(*fields)


def patched_local(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


GOOD = packed(EXAMPLE)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(GOOD + b"\x00", id="a byte after the end"),
        pytest.param(GOOD + GOOD, id="two containers in a row"),
        pytest.param(b"MZ" + GOOD, id="something before the start"),
        pytest.param(with_gap(GOOD), id="a gap before the directory"),
        pytest.param(doubled(GOOD, EXAMPLE), id="an entry listed twice"),
        pytest.param(by_zipfile(lambda z: z.writestr("a", b"x")), id="written by another tool"),
        pytest.param(by_zipfile(with_comment), id="a comment"),
        pytest.param(by_zipfile(lambda z: z.writestr("a", b"x" * 99, zipfile.ZIP_DEFLATED)), id="compressed"),
        pytest.param(by_zipfile(lambda z: z.writestr("../a", b"x")), id="a path that climbs up"),
        pytest.param(by_zipfile(lambda z: z.writestr("/etc/passwd", b"x")), id="an absolute path"),
        pytest.param(by_zipfile(lambda z: z.mkdir("a")), id="a folder"),
        pytest.param(by_zipfile(lambda z: z.writestr("b", b"x"), "a"), id="an entry appended by another tool"),
        pytest.param(patched_local(GOOD, 6, b"\x08\x00"), id="a data descriptor announced in an entry's own header"),
        pytest.param(patched_local(GOOD, 30, b"X"), id="another name in an entry's own header"),
        pytest.param(patched_local(GOOD, 18, b"\xff"), id="another size in an entry's own header"),
        pytest.param(patched_local(GOOD, 14, b"\x00\x00"), id="another checksum in an entry's own header"),
        pytest.param(patched_local(GOOD, len(GOOD) - 4, b"\xff\xff"), id="a directory outside of the file"),
        pytest.param(END.pack(0x06054B50, 0, 0, 65535, 65535, 0, 0, 0), id="more entries than a package has"),
        pytest.param(END.pack(0x06054B50, 0, 0, 0, 0, 0, FULL, 0), id="a ZIP64 end that is not there"),
        pytest.param(bytes(200) + END.pack(0x06054B50, 0, 0, 0, 0, 0, FULL, 0), id="zeros in place of a ZIP64 end"),
    ],
)
def test_a_container_that_is_written_differently_is_refused(data: bytes) -> None:
    with pytest.raises(PackageMalformedError):
        Container(io.BytesIO(data))


@pytest.mark.parametrize(
    "names",
    [["b", "a"], ["a", "a"], [""], ["a/b"], [".a"], ["ä"], ["a" * 65], ["a b"], [f"e{i:03}" for i in range(65)]],
)
def test_names_that_no_package_has_cannot_be_laid_out(names: list[str]) -> None:
    with pytest.raises(PackageMalformedError):
        layout([Entry(name, 0, 0) for name in names])


def test_a_size_over_the_limit_is_refused_before_anything_is_read() -> None:
    with pytest.raises(PackageMalformedError):
        Container(io.BytesIO(GOOD)).read("b.bin", 199)


def test_content_that_does_not_have_its_checksum_is_refused() -> None:
    at = layout([Entry(n, len(c), zlib.crc32(c)) for n, c in sorted(EXAMPLE.items())]).starts[1]
    container = Container(io.BytesIO(patched_local(GOOD, at, b"\xff")))
    for attempt in (lambda: container.read("b.bin", 999), lambda: container.digest("b.bin")):
        with pytest.raises(PackageDamagedError):
            attempt()


def test_content_that_changes_while_it_is_packed_is_noticed() -> None:
    content = Content(Entry("a", 5, zlib.crc32(b"12345")), io.BytesIO(b"1234"))
    with pytest.raises(PackageDamagedError):
        write(io.BytesIO(), [content])


def large(tmp_path: Path) -> Path:
    """Two entries on a sparse file: one over four gigabytes, one behind it."""
    plan = layout([Entry("large", FULL + 10, 0), Entry("small", 5, zlib.crc32(b"small"))])
    path = tmp_path / "large.tgsp"
    with path.open("wb") as out:
        out.write(plan.headers[0])
        out.seek(plan.starts[1] - len(plan.headers[1]))
        out.write(plan.headers[1] + b"small" + plan.tail)
    return path


def test_a_container_over_four_gigabytes_has_zip64_fields_that_others_read(tmp_path: Path) -> None:
    path = large(tmp_path)
    with path.open("rb") as file:
        container = Container(file)
        assert container.read("small", 5) == b"small"
        assert container.entries["large"][0].size == FULL + 10
    with zipfile.ZipFile(path) as archive:
        assert [(info.filename, info.file_size) for info in archive.infolist()] == [("large", FULL + 10), ("small", 5)]
        assert archive.read("small") == b"small"


@pytest.mark.parametrize("back", [4, 22 + 4, 22 + 20 - 1, 22 + 20 + 8, 22 + 20 + 30])
def test_a_large_container_with_another_ending_is_refused(tmp_path: Path, back: int) -> None:
    path = large(tmp_path)
    with path.open("r+b") as file:
        file.seek(-back - 1, io.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-back - 1, io.SEEK_END)
        file.write(bytes([byte ^ 1]))
        with pytest.raises(PackageMalformedError):
            Container(file)


def test_a_small_entry_with_needless_zip64_fields_is_refused() -> None:
    entry, name = Entry("a", 1, zlib.crc32(b"x")), b"a"
    plan = layout([entry])
    fields = list(LOCAL.unpack(plan.headers[0][: LOCAL.size]))
    fields[1], fields[7], fields[8], fields[10] = 45, FULL, FULL, 20
    header = LOCAL.pack(*fields) + name + struct.pack("<HHQQ", 1, 16, 1, 1)
    moved = list(END.unpack(plan.tail[-END.size :]))
    moved[6] += 20
    with pytest.raises(PackageMalformedError):
        Container(io.BytesIO(header + b"x" + plan.tail[: -END.size] + END.pack(*moved)))
