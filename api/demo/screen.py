"""What people see while the demo runs: its parts with their seconds, and progress with the loss as it falls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tensorguard.errors import TensorGuardError

from api.demo.errors import DemoError

LINE_EVERY = 20
Advance = Callable[[int, int, float], None]


class Screen:
    """Prints to a console; where that is no terminal, progress is a line every few steps instead of a bar."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """One part of the demo; an error in it names it."""
        self.console.print(f"[bold]▸ {escape(name)}[/bold]")
        began = time.monotonic()
        try:
            yield
        except DemoError:
            raise
        except TensorGuardError as error:
            raise DemoError(f"{name}: {error.detail}", next_step=error.next_step) from error
        finally:
            self.seconds[name] = round(time.monotonic() - began, 1)

    def say(self, text: str) -> None:
        """A line of a part."""
        self.console.print(f"  {escape(text)}", highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, label: str) -> Iterator[Advance]:
        """A bar with the loss; the callback takes the step, how many there are, and the loss of that step."""
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(label, total=None, loss=float("nan"))

            def advance(step: int, steps: int, loss: float) -> None:
                bar.update(task, total=steps, completed=step, loss=loss)
                if not self.console.is_terminal and (step % LINE_EVERY == 0 or step in (1, steps)):
                    self.say(f"{label} {step}/{steps}  loss {loss:.3f}")

            yield advance
