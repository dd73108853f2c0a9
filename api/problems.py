"""RFC 9457 problem documents: the one shape of every answer that is an error.

Nothing of a request's values gets into one, nor the text of an error that is not ours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from tensorguard.errors import TensorGuardError

from api.errors import KINDS, ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI, Request
    from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1
_BY_STATUS = {
    400: ApiError("malformed_body", "The body cannot be read."),
    404: ApiError("not_found", "There is nothing at this path."),
    405: ApiError("method_not_allowed", "This path does not take that method."),
}
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
log = structlog.get_logger(__name__)


def document(code: str, detail: str, extras: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The members of a problem."""
    kind = KINDS[code]
    return {
        "type": f"urn:tensorguard:problem:{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
        "next_step": kind.next_step,
        **(extras or {}),
    }


def response(error: ApiError) -> Response:
    """The answer for an error."""
    headers = dict(error.headers)
    if error.kind.status in (429, 503):
        headers["Retry-After"] = str(error.extras.get("retry_after", RETRY_SECONDS))
    if error.kind.status == 401:  # noqa: PLR2004 -- an HTTP status
        headers["WWW-Authenticate"] = "Bearer"
    body = document(error.code, error.detail, error.extras)
    return JSONResponse(body, error.kind.status, headers, media_type=MEDIA_TYPE)


def translate(error: TensorGuardError) -> ApiError:
    """What a client is told of an error of a deeper layer: its code where clients know it, else that it is our side."""
    if isinstance(error, ApiError):
        return error
    if error.code in KINDS:
        return ApiError(error.code, error.detail)
    log.error("unavailable", error=type(error).__name__, code=error.code)
    return ApiError("ledger_unavailable", "The server cannot answer this now.")


def install(app: FastAPI) -> None:
    """Let every error of the app answer with a problem."""

    @app.exception_handler(TensorGuardError)
    async def ours(_request: Request, error: TensorGuardError) -> Response:
        return response(translate(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        if isinstance(error.body, bytes):  # not looked into, since it came under another content type or under none
            return response(ApiError("unsupported_media_type", "A body is sent as application/json."))
        return response(_of_validation(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> Response:
        answer = response(_BY_STATUS.get(error.status_code, _BY_STATUS[404]))
        answer.headers.update(error.headers or {})  # such as Allow, which a 405 must have
        return answer


def _of_validation(errors: Sequence[Any]) -> ApiError:
    if any(error["type"] == "json_invalid" for error in errors):
        return ApiError("malformed_body", "The body is no JSON.")
    listed = [{"field": _field(error["loc"]), "message": error["msg"], "kind": error["type"]} for error in errors]
    return ApiError("invalid_request", f"{listed[0]['field']}: {listed[0]['message']}", errors=listed[:20])


def _field(location: Sequence[str | int]) -> str:
    """Where the fault is, such as ``body.optimizer.betas.0``; a name that no field could have is left out."""
    parts = (str(part) if isinstance(part, int) or _FIELD.fullmatch(part) else "?" for part in location)
    return ".".join(parts)
