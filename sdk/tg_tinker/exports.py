"""Fetching an artifact's weights: a folder that is whole or not there, file by file, going on where it broke off.

What was fetched stays in a hidden folder beside the target until all of it is there, under the names of artifact and
format: another call, or another process, goes on with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Literal

from tensorguard.model_manifest import FileDigest, manifest_digest

from tg_tinker import flows
from tg_tinker.errors import (
    DownloadDamagedError,
    OperationFailedError,
    ProtocolError,
    TargetExistsError,
    TransientError,
    from_problem,
)
from tg_tinker.flows import Flow, Request, Surroundings
from tg_tinker.types import Export, ExportFile

Format = Literal["peft", "merged"]
Report = Callable[[int, int], None]
"""Is told how many bytes of how many are there."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Wanted:
    """What to export, and where to."""

    artifact_id: str
    path: Path
    format: Format = "peft"
    timeout: float | None = None
    report: Report | None = None


def export(around: Surroundings, wanted: Wanted) -> Flow[Path]:
    """Have an export made, fetch it, and let the server drop it.

    Raises:
        TargetExistsError: something stands at the path.
        FutureTimeoutError: it is not made in time.
        DownloadDamagedError: what came is not what the server's ledger names.
    """
    if wanted.path.exists() and not (wanted.path.is_dir() and not any(wanted.path.iterdir())):
        raise TargetExistsError(f"{wanted.path} exists.")
    made = yield from _made(around, wanted)
    part = wanted.path.with_name(f".{wanted.path.name}.{wanted.artifact_id}-{wanted.format}.part")
    part.mkdir(parents=True, exist_ok=True)
    files = _checked(made)
    _keep_only(part, files)
    yield from _fetch(around, made.export_id, part, files, wanted.report)
    part.replace(wanted.path)
    yield from _drop(around, made.export_id)
    return wanted.path


def _made(around: Surroundings, wanted: Wanted) -> Flow[Export]:
    path = flows.at("artifacts", wanted.artifact_id, "exports")
    asked = yield from flows.post(around, Export, path, {"format": wanted.format})
    made = yield from flows.poll(
        around, Export, flows.at("exports", asked.export_id), "wait", lambda e: e.status != "pending", wanted.timeout
    )
    if made.status != "ready":
        raise from_problem(made.error) if made.error else OperationFailedError("The export is gone already.")
    return made


def _checked(made: Export) -> tuple[ExportFile, ...]:
    """The files of an export: names and digests become paths, and the digests are those on the ledger."""
    files = made.files or ()
    listed = [FileDigest(file.name, file.sha256, file.size_bytes) for file in files]
    if not files or not all(_NAME.fullmatch(file.name) for file in files):
        raise ProtocolError("The export's files have names that no file of one can have.")
    if not all(_SHA256.fullmatch(file.sha256) for file in files):
        raise ProtocolError("The export's files have digests that are none.")
    if manifest_digest(listed).hex() != made.files_digest:
        raise DownloadDamagedError("The files that the server lists do not give the export's digest.")
    return files


def _keep_only(part: Path, files: tuple[ExportFile, ...]) -> None:
    """Of what an earlier call left, keep whole files of this very export, and beginnings of such."""
    known = {file.name: file for file in files}
    begun = {_begun(file) for file in files}
    for path in part.iterdir():
        whole = path.name in known and _digest(path) == known[path.name].sha256
        if not whole and path.name not in begun:
            path.unlink()


def _fetch(
    around: Surroundings, export_id: str, part: Path, files: tuple[ExportFile, ...], report: Report | None
) -> Flow[None]:
    total, before = sum(file.size_bytes for file in files), 0
    for file in files:
        told = _telling(report, before, total)
        if not (part / file.name).exists():
            path = part / _begun(file)
            yield from _fetch_file(around, flows.at("exports", export_id, "files", file.name), path, file, told)
            path.replace(part / file.name)
        before += file.size_bytes
        if report:
            report(before, total)


def _begun(file: ExportFile) -> str:
    """Where a file is while it is not whole: by its content, which alone says whether it may be gone on with."""
    return f".{file.sha256}.part"


def _telling(report: Report | None, before: int, total: int) -> Callable[[int], None]:
    def told(here: int) -> None:
        if report:
            report(before + here, total)

    return told


def _fetch_file(
    around: Surroundings, url: str, path: Path, file: ExportFile, told: Callable[[int], None]
) -> Flow[None]:
    """A file, from where it broke off; as long as anything comes, being cut off is no reason to give up."""
    while (there := _size(path)) != file.size_bytes:
        if there > file.size_bytes:
            path.unlink()
            continue
        try:
            yield from flows.exchange(around, lambda: _request(url, path, file, told))
        except TransientError:
            if _size(path) <= there:
                raise
        else:
            break  # all that there is of it has come
    path.touch()
    if _digest(path) != file.sha256:
        path.unlink()
        raise DownloadDamagedError(f"{file.name} came with another digest than the ledger has.")


def _request(url: str, path: Path, file: ExportFile, told: Callable[[int], None]) -> Request:
    there = _size(path)
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if there:
        headers |= {"Range": f"bytes={there}-", "If-Range": f'"{file.sha256}"'}
    return Request("GET", url, headers=headers, into=path, told=told)


def _drop(around: Surroundings, export_id: str) -> Flow[None]:
    try:
        yield from flows.exchange(around, Request("DELETE", flows.at("exports", export_id)))
    except TransientError:
        return  # its time to live ends it


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
