"""Whose turn it is: tenants one after another, and within a tenant its runs one after another."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Key = tuple[str, str]
"""A run: its tenant and its id."""


class Turns:
    """Round-robin in two levels: a tenant with many runs has no more turns than one with a single run."""

    def __init__(self) -> None:
        self._tenants: deque[str] = deque()
        self._runs: dict[str, deque[Key]] = {}

    def add(self, key: Key) -> None:
        """Let a run take part, last of its tenant."""
        if key[0] not in self._runs:
            self._tenants.append(key[0])
            self._runs[key[0]] = deque()
        self._runs[key[0]].append(key)

    def remove(self, key: Key) -> None:
        """Leave a run out."""
        runs = self._runs[key[0]]
        runs.remove(key)
        if not runs:
            del self._runs[key[0]]
            self._tenants.remove(key[0])

    def next(self, ready: Callable[[Key], bool]) -> Key | None:
        """The run whose turn it is of those that are ready; it and its tenant are then the last in line."""
        for tenant in self._in_line():
            runs = self._runs[tenant]
            found = next((key for key in runs if ready(key)), None)
            if found is not None:
                runs.remove(found)
                runs.append(found)
                self._tenants.remove(tenant)
                self._tenants.append(tenant)
                return found
        return None

    def _in_line(self) -> Iterator[str]:
        yield from tuple(self._tenants)
