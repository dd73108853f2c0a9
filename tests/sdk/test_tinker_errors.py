"""One tree of errors: stable codes, a next step on each, and they survive pickling."""

from __future__ import annotations

import pickle

import pytest
from tensorguard.errors import TensorGuardError
from tg_tinker import errors
from tg_tinker.errors import BY_CODE, TGTinkerError, from_problem, problems

ALL = sorted(BY_CODE.items())
WITHOUT_HINT = {"tg_tinker_error"}


@pytest.mark.parametrize(("code", "kind"), ALL, ids=[code for code, _ in ALL])
def test_every_error_has_a_code_a_next_step_and_an_exit_code(code: str, kind: type[TGTinkerError]) -> None:
    error = kind("What happened.")
    assert isinstance(error, TensorGuardError)
    assert error.code == code
    assert error.exit_code in range(1, 9)
    if issubclass(kind, errors.ConfigurationError) or code in WITHOUT_HINT:
        return
    assert error.next_step
    assert str(error) == f"What happened. {error.next_step}"


def test_no_two_classes_share_a_code() -> None:
    assert len(set(problems._classes(TGTinkerError))) == len(BY_CODE)


def test_an_error_survives_pickling() -> None:
    problem = {
        "code": "operation_lost",
        "detail": "Gone.",
        "last_durable_step": 3,
        "artifact_id": None,
        "generation": 2,
    }
    error = pickle.loads(pickle.dumps(from_problem(problem)))  # noqa: S301 -- our own bytes
    assert isinstance(error, errors.OperationLostError)
    assert (error.last_durable_step, error.artifact_id, error.generation) == (3, None, 2)
    assert (error.code, error.detail) == ("operation_lost", "Gone.")


UNKNOWN = {
    400: errors.InvalidRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.InvalidRequestError,
    422: errors.InvalidRequestError,
    429: errors.QuotaExceededError,
    500: errors.ServerFailedError,
    503: errors.ServerUnavailableError,
    507: errors.StorageFullError,
    None: errors.OperationFailedError,
}


@pytest.mark.parametrize(("status", "kind"), UNKNOWN.items())
def test_an_unknown_code_falls_into_the_family_of_its_status(status: int | None, kind: type[TGTinkerError]) -> None:
    error = from_problem({"code": "from_the_future", "detail": "New."}, status)
    assert (type(error), error.code, error.status) == (kind, "from_the_future", status)


@pytest.mark.parametrize(
    "problem", [{}, {"code": 7, "detail": []}, {"last_durable_step": "x", "code": "operation_lost"}]
)
def test_a_malformed_problem_is_still_a_typed_error(problem: dict[str, object]) -> None:
    error = from_problem(problem, 500)
    assert error.detail
    if isinstance(error, errors.RollbackError):
        assert error.last_durable_step is None
