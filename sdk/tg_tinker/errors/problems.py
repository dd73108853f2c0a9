"""From a server's problem document to the class of its code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tg_tinker.errors.access import AuthenticationError, NotFoundError, PermissionDeniedError
from tg_tinker.errors.base import TGTinkerError
from tg_tinker.errors.outcomes import OperationFailedError
from tg_tinker.errors.requests import InvalidRequestError
from tg_tinker.errors.state import ConflictError
from tg_tinker.errors.transient import QuotaExceededError, ServerFailedError, ServerUnavailableError, StorageFullError


def _classes(root: type[TGTinkerError]) -> Iterator[type[TGTinkerError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


BY_CODE: Mapping[str, type[TGTinkerError]] = {cls.code: cls for cls in _classes(TGTinkerError)}
"""The class of each code."""

_BY_STATUS: Mapping[int, type[TGTinkerError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidRequestError,
    429: QuotaExceededError,
    503: ServerUnavailableError,
    507: StorageFullError,
}


def from_problem(problem: Mapping[str, Any], status: int | None = None) -> TGTinkerError:
    """The error that a problem document, or the error of a future, describes.

    A code that this version does not know becomes the error of its family, by the HTTP status; the code is kept.
    """
    code = str(problem.get("code") or "")
    detail = str(problem.get("detail") or problem.get("title") or "The server gave no reason.")
    next_step = problem.get("next_step")
    kind = BY_CODE.get(code) or _family(status)
    return kind(
        detail,
        next_step=next_step if isinstance(next_step, str) else None,
        code=code or None,
        status=status,
        problem=problem,
    )


def _family(status: int | None) -> type[TGTinkerError]:
    if status is None:
        return OperationFailedError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ServerFailedError if status >= 500 else InvalidRequestError  # noqa: PLR2004
