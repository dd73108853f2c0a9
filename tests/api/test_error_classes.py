"""The codes of the REST problems and the classes of the SDK's errors are held to one another."""

from __future__ import annotations

import pytest
from tg_tinker import errors

from api.errors import KINDS

OF_PRODUCERS = frozenset(
    {
        "already_revoked",
        "expired",
        "foreign_tenant",
        "ledger_moved",
        "malformed_record",
        "no_lease",
        "stale_lease",
        "unknown_operation",
        "wrong_operation_kind",
        "wrong_stream",
        "wrong_worker",
    }
)
"""What only those meet who sign commands themselves: workers, devices, an operator's tools."""
FAMILIES = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    405: errors.InvalidRequestError,
    413: errors.InvalidRequestError,
    415: errors.InvalidRequestError,
    416: errors.InvalidRequestError,
    429: errors.QuotaExceededError,
    503: errors.ServerUnavailableError,
}
"""Families that follow from the status alone; a 409, 410, 422, 500 or 507 may also be how an operation ended."""


def test_every_code_that_a_client_can_meet_has_a_class_of_its_own() -> None:
    assert KINDS.keys() - errors.BY_CODE.keys() == OF_PRODUCERS


@pytest.mark.parametrize("code", sorted(code for code, kind in KINDS.items() if kind.status in FAMILIES))
def test_a_class_belongs_to_the_family_of_its_status(code: str) -> None:
    status = KINDS[code].status
    assert isinstance(errors.from_problem({"code": code, "detail": "So."}, status), FAMILIES[status])


def test_the_classes_are_there_to_be_imported() -> None:
    named = {kind.__name__ for kind in errors.BY_CODE.values()}
    assert {name for name in named if name not in errors.__all__} == set()
