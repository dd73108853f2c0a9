"""Operations that were being executed when a trainer's process died, counted on file across the lives of all trainers.

An operation that needs more memory than there is does not fail: the kernel ends the whole process, and the next one
that executes it, likewise. So what was under way at several deaths in a row is failed instead of executed, whichever
trainers died. Of samples that were under way together it is not known which one did it: each of them is then generated
alone.

Each trainer of a data directory has a slot while it lives: a lock, and a file with what it executes. What lies in a
slot that nobody holds was left at a death. Nothing here is synced: it has to outlive the process, not the machine.
"""

from __future__ import annotations

import itertools
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from producers.locks import FileLock, is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "trainers"
MOST_DEATHS = 3
"""At so many deaths an operation is no longer executed."""
REMEMBERED = 64
REMEMBERED_LONELY = 4096
_PATIENCE_SECONDS = 2.0
_EXECUTING = ".executing"
_LOCK = ".lock"
_ID_BYTES = 16
_COUNT_BYTES = 4
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    """How often each operation was under way alone at a death, and which samples have to be generated alone."""

    deaths: dict[str, int] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()

    def after(self, under_way: list[str]) -> _Known:
        """What is known after one more death."""
        if len(under_way) != 1:
            return _Known(self.deaths, frozenset([*sorted(self.alone), *under_way][-REMEMBERED_LONELY:]))
        [only] = under_way
        others = {operation: times for operation, times in self.deaths.items() if operation != only}
        deaths = [*others.items(), (only, self.deaths.get(only, 0) + 1)]
        return _Known(dict(deaths[-REMEMBERED:]), self.alone)


class Suspects:
    """Who is suspected of what, as one trainer knows it; ``folder`` is that of all trainers. One thread uses it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / "suspects.json"
        self._seen: tuple[int, int, int] | None = None
        self._known = _Known()
        self.survey()
        self._slot, self._file = self._take_slot()

    def _take_slot(self) -> tuple[FileLock, int]:
        slots = (FileLock(self._folder / f"{number}{_LOCK}") for number in itertools.count())
        slot = next(each for each in slots if each.try_acquire())
        return slot, os.open(slot.path.with_suffix(_EXECUTING), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def survey(self) -> None:
        """Learn what other trainers died of."""
        with self._remembering():
            for path in sorted(self._folder.glob(f"*{_EXECUTING}")):
                if not is_locked(path.with_suffix(_LOCK)) and (left := _under_way(path.read_bytes())):
                    self._remember(self._newest().after(left))
                    path.write_bytes(bytes(_COUNT_BYTES))

    def only(self) -> bool:
        """Whether no other trainer lives."""
        return len([path for path in self._folder.glob(f"[0-9]*{_LOCK}") if is_locked(path)]) == 1

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        """Change what is known, one trainer at a time. That it cannot be written down keeps nobody from his work.

        Nor does another one that stands still in the midst of it.
        """
        lock = FileLock(self._folder / "all.lock")
        try:
            lock.acquire_within(_PATIENCE_SECONDS)
            yield
        except OSError as error:
            log.warning("suspects_not_written", error=type(error).__name__)
        finally:
            lock.release()

    def _newest(self) -> _Known:
        """What all trainers know."""
        try:
            about = self._path.stat()
        except FileNotFoundError:
            return self._known
        if self._seen != (identity := (about.st_ino, about.st_mtime_ns, about.st_size)):
            self._seen, self._known = identity, _read(self._path)
        return self._known

    def _remember(self, known: _Known) -> None:
        self._known = known
        fresh = self._path.with_suffix(".fresh")
        fresh.write_text(json.dumps({"deaths": known.deaths, "alone": sorted(known.alone)}))
        fresh.replace(self._path)

    def condemned(self, operation_id: bytes) -> bool:
        """Whether an operation was under way at too many deaths."""
        return self._newest().deaths.get(operation_id.hex(), 0) >= MOST_DEATHS

    def alone(self, operation_id: bytes) -> bool:
        """Whether a sample was under way with others at a death, and has to be generated alone now."""
        return operation_id.hex() in self._newest().alone

    @property
    def any_alone(self) -> bool:
        """Whether there may be any such sample."""
        return bool(self._newest().alone)

    def acquit(self, operation_id: bytes) -> None:
        """A sample has its outcome."""
        if self.alone(operation_id):
            with self._remembering():
                known = self._newest()
                self._remember(_Known(known.deaths, known.alone - {operation_id.hex()}))

    @contextmanager
    def watching(self, *operation_ids: bytes) -> Iterator[None]:
        """Suspect operations should the process die within the block; another error clears them."""
        os.pwrite(self._file, len(operation_ids).to_bytes(_COUNT_BYTES, "big") + b"".join(operation_ids), 0)
        try:
            yield
        finally:
            self.forgive()

    def forgive(self) -> None:
        """Nothing is under way, or what is has no part in the end that comes now."""
        if self._slot.held:
            os.pwrite(self._file, bytes(_COUNT_BYTES), 0)

    def close(self) -> None:
        """Give the slot back."""
        if self._slot.held:
            self.forgive()
            os.close(self._file)
            self._slot.release()


def _under_way(data: bytes) -> list[str]:
    end = _COUNT_BYTES + int.from_bytes(data[:_COUNT_BYTES], "big") * _ID_BYTES
    return [data[at : at + _ID_BYTES].hex() for at in range(_COUNT_BYTES, min(end, len(data)), _ID_BYTES)]


def _read(path: Path) -> _Known:
    try:
        found = json.loads(path.read_text())
        deaths = {str(key): int(value) for key, value in found["deaths"].items()}
        return _Known(deaths, frozenset(map(str, found["alone"])))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _Known()
