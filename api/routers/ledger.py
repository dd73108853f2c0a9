"""The ledger itself: signed commands in, checkpoints and proofs out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from tensorguard.ledger.errors import MalformedRecordError

from api import receipts
from api import responses as r
from api.auth import Auditor, Caller
from api.errors import ApiError
from api.platform import Platform
from api.routers.common import PlatformOf, errors, run_in_threadpool
from projections.queries import PLATFORM

router = APIRouter(prefix="/v1", tags=["ledger"])
BYTES = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
PROOF_SECONDS = 10.0
MAX_COMMAND_BYTES = 65_535
Chain = Annotated[str, Path(max_length=63)]


@router.post(
    "/commands",
    responses=errors(413, 415, 507),
    openapi_extra={
        "security": [],
        "requestBody": {"required": True, "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def submit_command(request: Request, platform: PlatformOf) -> r.ReplyBody:
    """Submit a command that an enrolled key signed: the signature says who speaks, so no API key is needed.

    The answer is the decision, accepted or rejected; what no enrolled key signed is refused with 401.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BYTES:
        raise ApiError("unsupported_media_type", f"A signed command is sent as {BYTES}.")
    data = await request.body()
    if len(data) > MAX_COMMAND_BYTES:
        raise ApiError("body_too_large", f"A signed command has at most {MAX_COMMAND_BYTES} bytes.")
    return await run_in_threadpool(_submit, platform, data)


def _submit(platform: Platform, data: bytes) -> r.ReplyBody:
    try:
        reply = platform.submission.forward(data)
    except MalformedRecordError as error:
        raise ApiError("malformed_record", "The body is no signed command.") from error
    return r.ReplyBody.model_validate(
        {
            "command_id": reply.command_id.hex(),
            "outcome": reply.outcome,
            "chain": reply.chain,
            "first_seq": reply.first_seq,
            "last_seq": reply.last_seq,
            "code": reply.code,
            "detail": reply.detail,
        }
    )


@router.get(
    "/ledger/{chain}/checkpoint",
    response_class=Response,
    responses={**errors(404), 200: {"content": {"text/plain": {}}, "description": "A C2SP signed note"}},
)
async def get_checkpoint(chain: Chain, caller: Auditor, platform: PlatformOf) -> Response:
    """The newest checkpoint of the tenant's chain, or of `platform`."""
    _check_chain(caller, chain)
    note = await run_in_threadpool(platform.engine.checkpoint, chain)
    if note is None:
        raise ApiError("no_checkpoint", "No checkpoint of this chain is published yet.")
    return Response(note, media_type=TEXT)


@router.get(
    "/ledger/{chain}/proof/{seq}",
    response_class=Response,
    responses={**errors(404), 200: {"content": {"text/plain": {}}, "description": "A C2SP tlog-proof"}},
)
async def get_proof(
    chain: Chain, seq: Annotated[int, Path(ge=0, lt=1 << 62)], caller: Auditor, platform: PlatformOf
) -> Response:
    """The receipt of a record: it verifies offline."""
    _check_chain(caller, chain)
    data = await run_in_threadpool(receipts.receipt, platform.engine, chain, seq, PROOF_SECONDS)
    return Response(data, media_type=TEXT)


def _check_chain(caller: Caller, chain: str) -> None:
    if chain not in (caller.tenant, PLATFORM):
        raise ApiError("not_found", "There is no such chain.")
