"""Where the private part of an operation waits for its worker: sealed beside the ledger, or in memory, as the run says.

A sealed input lies under the key of the run's interval, which the views know as the run's ``durable_op_seq``; an
interval of None stands for memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.batches.errors import InputDamagedError
from processors.exchange.errors import ExchangeAwayError
from processors.exchange.port import unpack_input

if TYPE_CHECKING:
    from processors.batches.port import InputStore
    from processors.exchange.port import Exchange
    from projections.models import Operation
    from projections.queries import Views

SEALED = "sealed"


class Inputs:
    """The inputs of all runs. Every method may be called from any thread."""

    def __init__(self, views: Views, exchange: Exchange, store: InputStore) -> None:
        self._views = views
        self._exchange = exchange
        self._store = store

    def interval(self, tenant: str, run_id: str) -> int | None:
        """The interval that an input of a run belongs to as the views stand; None for a run without sealed inputs."""
        run = self._views.run(tenant, run_id)
        return run.durable_op_seq if run is not None and run.batch_retention == SEALED else None

    def interval_of(self, tenant: str, operation_id: bytes) -> int | None:
        """The interval that an accepted operation's input was sealed in."""
        operation = self._views.operation(tenant, operation_id.hex())
        return interval_of(operation) if operation is not None else None

    def keep(self, tenant: str, run_id: str, interval: int | None, operation_id: bytes, data: bytes) -> None:
        """Keep an input (see :func:`processors.exchange.port.pack_input`); a sealed one is durable when this returns.

        Raises:
            ExchangeAwayError: a run that keeps its inputs in memory needs the hub, which does not answer.
            ExchangeFullError: it is too large, or too much waits in memory.
            StorageFullError: there is no space left.
            InputDamagedError: the interval's key does not open; it may be about to be destroyed.
        """
        if interval is None:
            self._exchange.put_input(operation_id, data)
        else:
            self._store.put(tenant, run_id, interval, operation_id, data)

    def drop(self, tenant: str, run_id: str, interval: int | None, operation_id: bytes) -> None:
        """Forget the input of an operation that was not accepted."""
        if interval is None:
            self._exchange.drop_input(operation_id)
        else:
            self._store.discard(tenant, run_id, interval, operation_id)

    def kept(
        self, tenant: str, run_id: str, interval: int | None, operation_id: bytes
    ) -> tuple[bytes, bytes] | tuple[None, None]:
        """Salt and canonical bytes of an input, or neither if it is not there or does not open.

        Raises:
            ExchangeAwayError: it would be in the memory of a hub that does not answer.
        """
        try:
            if interval is None:
                data = self._exchange.input(operation_id)
            else:
                data = self._store.get(tenant, run_id, interval, operation_id)
        except InputDamagedError:
            return None, None
        return unpack_input(data) if data is not None else (None, None)

    def salt_of(self, operation: Operation) -> bytes | None:
        """The salt of an operation's commitment, as long as its input lies there or the exchange remembers it."""
        if "commitment" not in operation.parameters:
            return None
        try:
            return self.salt(
                operation.chain, operation.run_id, interval_of(operation), bytes.fromhex(operation.operation_id)
            )
        except ExchangeAwayError:
            return None

    def salt(self, tenant: str, run_id: str, interval: int | None, operation_id: bytes) -> bytes | None:
        """The salt of an input that is or was kept.

        Raises:
            ExchangeAwayError: it would be in the memory of a hub that does not answer.
        """
        if interval is None:
            return self._exchange.salt(operation_id)
        return self.kept(tenant, run_id, interval, operation_id)[0]


def interval_of(operation: Operation) -> int | None:
    """The interval that an operation's input was sealed in; None if it never was."""
    interval = operation.parameters.get("interval")
    return interval if isinstance(interval, int) else None
