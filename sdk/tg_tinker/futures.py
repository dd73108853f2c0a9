"""Handles on operations that the server has accepted: ask, wait, cancel.

An accepted operation is on the ledger. It ends in one of five ways: completed, failed (:class:`OperationFailedError`),
cancelled (:class:`CancelledError`), lost in a rollback (:class:`OperationLostError`), or it is still pending.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, Generic, TypeVar, cast

from tg_tinker import flows
from tg_tinker.errors import OperationFinishedError, ProtocolError, TGTinkerError, from_problem
from tg_tinker.flows import Flow
from tg_tinker.streaming import Listening
from tg_tinker.transport import Transport
from tg_tinker.types import Commitment, Future, FutureStatus, OperationResult, SampleDelta
from tg_tinker.types.results import RESULT_OF

R = TypeVar("R", bound=OperationResult)
Told = Callable[[TGTinkerError], None]


def _nobody(_error: TGTinkerError) -> None:
    pass


class _Handle(Generic[R]):
    """What both kinds of handle share: the future as it was seen last, and the flows on it."""

    def __init__(self, transport: Transport, future: Future, told: Told = _nobody) -> None:
        self._transport = transport
        self._future = future
        self._told = told

    @property
    def future_id(self) -> str:
        """The operation's id, good for :meth:`ServiceClient.get_future` at any time."""
        return self._future.future_id

    @property
    def training_client_id(self) -> str:
        """The run that the operation belongs to."""
        return self._future.training_client_id

    @property
    def kind(self) -> str:
        """forward_backward, forward, optim_step, sample, save_state or load_state."""
        return self._future.kind

    @property
    def commitment(self) -> Commitment | None:
        """How the ledger refers to what was sent, with the salt that opens it; None where nothing private was sent."""
        return self._future.commitment

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kind} {self.future_id} {self._future.status}>"

    def _refresh(self) -> Flow[FutureStatus]:
        if self._future.status == "pending":
            path = flows.at("futures", self.future_id)
            self._future = self._with_salt((yield from flows.get(self._transport.around, Future, path)))
        return self._future.status

    def _finish(self, timeout: float | None) -> Flow[None]:
        if self._future.status == "pending":
            found = yield from flows.finished_future(self._transport.around, self.future_id, timeout)
            self._future = self._with_salt(found)

    def _result(self, timeout: float | None) -> Flow[R]:
        yield from self._finish(timeout)
        error = self._error()
        if error is not None:
            raise error
        model = RESULT_OF.get(self.kind)
        if model is None or self._future.result is None:
            raise ProtocolError(f"The server completed a {self.kind} without a result that this client knows.")
        return cast("R", flows.parse(model, flows.encode(self._future.result)))

    def _exception(self, timeout: float | None) -> Flow[TGTinkerError | None]:
        yield from self._finish(timeout)
        return self._error()

    def _cancel(self) -> Flow[bool]:
        if self._future.status != "pending":
            return False
        path = flows.at("futures", self.future_id, "cancel")
        try:
            found = yield from flows.post(self._transport.around, Future, path, {})
        except OperationFinishedError:
            return False
        self._future = self._with_salt(found)
        return self._future.status in ("pending", "cancelled")

    def _heard(self, listening: Listening) -> None:
        """Take the future that a stream ended with; raise what ended it, if something did."""
        if listening.future is not None:
            self._future = self._with_salt(listening.future)
        error = self._error()
        if error is not None:
            raise error

    def _error(self) -> TGTinkerError | None:
        if self._future.status in ("pending", "completed") and self._future.error is None:
            return None
        problem: dict[str, Any] = {"code": _CODES.get(self._future.status, ""), **(self._future.error or {})}
        error = from_problem(problem)
        self._told(error)
        return error

    def _with_salt(self, future: Future) -> Future:
        # The server forgets salts; a handle keeps the one that it was made with.
        return future.model_copy(update={"commitment": self._future.commitment or future.commitment})


_CODES = {"cancelled": "cancelled", "lost": "operation_lost"}


class FutureHandle(_Handle[R]):
    """An accepted operation, for code that blocks. Safe to use from any thread, as often as wanted."""

    def status(self) -> FutureStatus:
        """``pending``, ``completed``, ``failed``, ``cancelled`` or ``lost``, as the server says now."""
        return self._transport.run(self._refresh())

    def done(self) -> bool:
        """Whether it is no longer pending; does not wait."""
        return self.status() != "pending"

    def result(self, timeout: float | None = None) -> R:
        """Wait for the result.

        Args:
            timeout: seconds to wait; None waits for as long as it takes.

        Raises:
            FutureTimeoutError: it is still pending; call again to go on waiting.
            OperationFailedError: it ended without effect; the subclass and ``code`` say why.
            CancelledError: it was cancelled before it started.
            OperationLostError: it was lost in a rollback; the error names the last durable step.
        """
        return self._transport.run(self._result(timeout))

    def exception(self, timeout: float | None = None) -> TGTinkerError | None:
        """Wait, and give what :meth:`result` would raise; None when it completed.

        Raises:
            FutureTimeoutError: it is still pending.
        """
        return self._transport.run(self._exception(timeout))

    def stream(self) -> Iterator[SampleDelta]:
        """The texts of a sample as they grow, until it has finished; :meth:`result` then has it at once.

        A lost connection is taken up again where it broke off. Whoever begins late hears what the server still holds.

        Raises:
            StreamGapError: it no longer holds all; the result has the whole text.
            TGTinkerError: at the end, what :meth:`result` would raise.
        """
        listening = Listening(self._transport.around, self.future_id)
        yield from self._transport.listen(listening)
        self._heard(listening)

    def cancel(self) -> bool:
        """Ask that it be dropped if it has not started; a sample can be stopped at any time.

        The run's worker decides, so True says only that the wish is recorded: :meth:`result` then raises
        CancelledError, or returns because the operation had started. False: it had finished before.
        """
        return self._transport.run(self._cancel())


class AsyncFutureHandle(_Handle[R]):
    """An accepted operation, for asyncio: ``await handle`` is ``await handle.result()``."""

    async def status(self) -> FutureStatus:
        """As :meth:`FutureHandle.status`."""
        return await self._transport.run_async(self._refresh())

    async def done(self) -> bool:
        """As :meth:`FutureHandle.done`."""
        return await self.status() != "pending"

    async def result(self, timeout: float | None = None) -> R:  # noqa: ASYNC109 -- the blocking twin's signature
        """As :meth:`FutureHandle.result`."""
        return await self._transport.run_async(self._result(timeout))

    async def exception(self, timeout: float | None = None) -> TGTinkerError | None:  # noqa: ASYNC109 -- as above
        """As :meth:`FutureHandle.exception`."""
        return await self._transport.run_async(self._exception(timeout))

    async def stream(self) -> AsyncIterator[SampleDelta]:
        """As :meth:`FutureHandle.stream`."""
        listening = Listening(self._transport.around, self.future_id)
        async for delta in self._transport.listen_async(listening):
            yield delta
        self._heard(listening)

    async def cancel(self) -> bool:
        """As :meth:`FutureHandle.cancel`."""
        return await self._transport.run_async(self._cancel())

    def __await__(self) -> Generator[Any, None, R]:
        return self.result().__await__()
