"""A commit on a thread of its own, so that the next micro-batch fills while this one is written."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from producers.engines.port import Commit
    from producers.sequencer.batch import Batch


class CommitUnderWay:
    """At most one micro-batch that is being written. All of it is called on one thread, the writer's."""

    def __init__(self, commit: Callable[[Commit], None]) -> None:
        self._commit = commit
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._future: Future[None] | None = None
        self.batch: Batch | None = None
        """The micro-batch that is being written: decided, and not to be believed in yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def begin(self, batch: Batch) -> None:
        """Write a micro-batch; the one before is settled."""
        self.batch = batch
        self._future = self._pool.submit(self._commit, batch.commit())

    def done(self, timeout: float = 0.0) -> bool:
        """Whether nothing is being written (any more), after so many seconds at most."""
        return self._future is None or bool(wait([self._future], timeout).done)

    def settle(self) -> Batch | None:
        """Wait for its end; the micro-batch that is on the ledger now, if there was one.

        Raises:
            EngineError: it is not, for what :meth:`LogEngine.commit` says; whatever was decided upon it is void.
        """
        batch, future = self.batch, self._future
        self.batch = self._future = None
        if future is not None:
            future.result()
        return batch
