"""Operations as futures: what the views know, joined with what lies beside the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api import present
from api.errors import ApiError
from api.inputs import interval_of
from processors.batches.errors import ResultDamagedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from api import responses as r
    from api.vault import Vault
    from processors.batches.port import ResultStore
    from processors.exchange.port import Exchange
    from projections.models import Operation
    from projections.queries import Views

PENDING, COMPLETED = "pending", "completed"
_BESIDE: Mapping[str, Callable[[Operation, bytes], r.Result]] = {
    "sample": present.samples,
    "forward": present.evaluated,
}
"""Of the kinds of operations whose result lies beside the ledger: how it is presented."""


class Futures:
    """Answers for one server: the views, results sealed or in memory, the vault's metadata, remembered salts."""

    def __init__(
        self,
        views: Views,
        exchange: Exchange,
        results: ResultStore,
        vault: Vault,
        salt_of: Callable[[Operation], bytes | None],
    ) -> None:
        self._views = views
        self._exchange = exchange
        self._results = results
        self._vault = vault
        self._salt_of = salt_of

    def operation(self, tenant: str, future_id: str) -> Operation:
        """A tenant's operation.

        Raises:
            ApiError: unknown_future.
        """
        operation = self._views.operation(tenant, future_id)
        if operation is None:
            raise ApiError("unknown_future", "There is no future with this id.")
        return operation

    def get(self, tenant: str, future_id: str) -> r.Future:
        """A tenant's future.

        Raises:
            ApiError: unknown_future.
        """
        return self._present(self.operation(tenant, future_id))

    def get_finished(self, tenant: str, future_id: str) -> r.Future | None:
        """A tenant's future once it is no longer pending.

        Raises:
            ApiError: unknown_future.
        """
        operation = self.operation(tenant, future_id)
        return None if operation.status == PENDING else self._present(operation)

    def _present(self, operation: Operation) -> r.Future:
        problem = present.operation_problem(operation.error) if operation.error else None
        result: r.Result | None = None
        if operation.status == COMPLETED:
            try:
                result = self._result(operation)
                problem = None if result else present.expired_result()
            except ResultDamagedError as error:
                problem = present.operation_problem({"code": error.code})
        return present.future(operation, salt=self._salt_of(operation), result=result, problem=problem)

    def _result(self, operation: Operation) -> r.Result | None:
        if of := _BESIDE.get(operation.kind):
            data = self._beside(operation)
            return of(operation, data) if data is not None else None
        if operation.kind == "save_state":
            return self._saved(operation)
        return present.scalars(operation)

    def _beside(self, operation: Operation) -> bytes | None:
        operation_id = bytes.fromhex(operation.operation_id)
        commitment = bytes.fromhex((operation.result or {})["commitment"])
        sealed = self._results.get(operation.chain, operation_id, commitment)
        return self._exchange.result(operation_id) if sealed is None and interval_of(operation) is None else sealed

    def _saved(self, operation: Operation) -> r.Result | None:
        artifact = self._views.artifact(operation.chain, (operation.result or {})["artifact_id"])
        metadata = self._vault.get(operation.chain, operation.operation_id)
        return present.saved(artifact, metadata) if artifact else None
