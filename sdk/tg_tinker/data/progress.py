"""A progress bar around a loop, for people; nothing where standard error is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tg_tinker.data.stream import Stream

T = TypeVar("T")


class track(Generic[T]):  # noqa: N801 -- used like a function: for batch in track(batches)
    """The items, with a bar that shows how many of them are done.

    Args:
        items: such as :func:`batches` gives them.
        description: what stands before the bar.
        total: how many items there are, if they do not say so themselves.
        console: where the bar is drawn; None: standard error.
    """

    def __init__(
        self,
        items: Iterable[T],
        description: str = "Training",
        *,
        total: int | None = None,
        console: Console | None = None,
    ) -> None:
        console = console or Console(stderr=True)
        self._items = items
        self._progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(description, total=total or _length(items), note="")

    def __iter__(self) -> Iterator[T]:
        with self._progress:
            for item in self._items:
                yield item
                self._progress.advance(self._task)

    def note(self, **values: float) -> None:
        """Show figures behind the bar, such as ``note(loss=1.25)``."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._progress.update(self._task, note=text)


def _length(items: Iterable[object]) -> int | None:
    if isinstance(items, Stream):
        return items.length
    return len(items) if isinstance(items, Sized) else None
