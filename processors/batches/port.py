"""The ports of what lies sealed beside the ledger: inputs until nothing can need them, results for a time to live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class InputStore(Protocol):
    """Inputs of operations (see :func:`processors.exchange.port.pack_input`), under a key per tenant, run and interval.

    Any number of processes may use a store at once. Every method may raise ``KeyProviderError``.
    """

    def put(self, tenant: str, run_id: str, interval: int, operation_id: bytes, data: bytes) -> None:
        """Keep an input; it is durable when this returns. The same operation again replaces it.

        Raises:
            StorageFullError: there is no space left; nothing was kept.
            InputDamagedError: the interval's key does not open; it may be about to be destroyed.
        """

    def get(self, tenant: str, run_id: str, interval: int, operation_id: bytes) -> bytes | None:
        """An input, or None if it was never kept, is discarded, or its key is destroyed.

        Raises:
            InputDamagedError: what lies there is not what was kept.
        """

    def discard(self, tenant: str, run_id: str, interval: int, operation_id: bytes) -> None:
        """Destroy one input; it is no error if there is none."""

    def destroy(self, tenant: str, run_id: str, interval: int) -> None:
        """Destroy an interval's key, then remove its inputs; after a crash in between, do it again."""

    def intervals(self, tenant: str, run_id: str) -> Sequence[int]:
        """The intervals of a run of which anything lies here, in order."""

    def stored(self, tenant: str) -> Mapping[tuple[str, int], Sequence[bytes]]:
        """Everything of a tenant that lies here: operation ids by run and interval."""


class ResultStore(Protocol):
    """Results of operations, each under a key of its own, until their time to live is over.

    One is known by its operation and the commitment that the ledger has of it: a worker that lost the run meanwhile may
    still finish an operation, and must not come between the client and the result that counts.
    """

    def put(self, tenant: str, operation_id: bytes, commitment: bytes, data: bytes) -> None:
        """Keep a result from now on for its time, durably.

        Raises:
            StorageFullError: there is no space left; nothing was kept.
        """

    def get(self, tenant: str, operation_id: bytes, commitment: bytes) -> bytes | None:
        """A result, or None if there is none or its time is over.

        Raises:
            ResultDamagedError: what lies there is not what was kept.
        """

    def sweep(self, tenant: str, now: int) -> int:
        """Destroy a tenant's results whose time is over at ``now`` (microseconds); how many."""
