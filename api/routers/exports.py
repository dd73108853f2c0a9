"""Exports: a checkpoint's weights in the clear, asked for, waited for, fetched in parts, dropped."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from api import paging, present
from api import requests as q
from api import responses as r
from api.auth import Exporter, KeyFirst, Reader
from api.errors import ApiError
from api.ranges import part_of
from api.routers.common import (
    BODY,
    LONGEST_POLL,
    Ask,
    Cursor,
    Limit,
    PlatformOf,
    errors,
    newest,
    once_settled,
    run_in_threadpool,
    usable_artifact,
)
from processors.blobs.port import BlobNotFoundError
from schemas import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.auth import Caller
    from api.platform import Platform
    from api.submission import Asked
    from processors.exporter.store import Listing
    from projections.models import Export

router = APIRouter(prefix="/v1", tags=["exports"], route_class=KeyFirst)
LISTING = "exports"
PENDING = "pending"
BYTES = "application/octet-stream"


@router.post("/artifacts/{artifact_id}/exports", status_code=202, responses=errors(*BODY, 404, 409, 429, 507))
async def request_export(
    artifact_id: str,
    body: q.ExportRequest,
    caller: Exporter,
    ask: Ask,
    platform: PlatformOf,
) -> r.ExportInfo:
    """Ask for a checkpoint's weights in the clear: as a PEFT folder, or merged into the base model."""
    asked = await ask.by(caller)
    return await run_in_threadpool(_request, platform, asked, artifact_id, body)


def _request(platform: Platform, asked: Asked, artifact_id: str, body: q.ExportRequest) -> r.ExportInfo:
    artifact = usable_artifact(platform, asked.caller, artifact_id)
    run = platform.views.run(artifact.chain, artifact.run_id)
    if body.format == "peft" and run is not None and run.lora is None:
        raise ApiError("nothing_to_export", "The artifact holds all weights of its model, and no adapter.")
    command = commands.ExportArtifact(
        run_id=artifact.run_id,
        artifact_id=bytes.fromhex(artifact.artifact_id),
        manifest_digest=bytes.fromhex(artifact.manifest_digest),
        export_id=asked.command_id,
        format=body.format,
    )
    platform.submission.send(asked, command)
    return _info(platform, _export(platform, asked.caller, asked.command_id.hex()))


@router.get("/exports", responses=errors())
async def list_exports(
    caller: Reader,
    platform: PlatformOf,
    artifact_id: Annotated[str | None, Query(max_length=128)] = None,
    limit: Limit = paging.DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> r.Page[r.ExportInfo]:
    """The tenant's exports, newest first, those that are gone among them."""
    rows = partial(platform.views.exports, caller.tenant, artifact_id)
    return await newest(platform, caller, LISTING, (limit, cursor), rows, partial(_info, platform))


@router.get("/exports/{export_id}", responses=errors(404))
async def get_export(
    export_id: str,
    caller: Reader,
    platform: PlatformOf,
    wait: Annotated[float, Query(ge=0, le=LONGEST_POLL, description="Seconds to wait while it is pending.")] = 0.0,
) -> r.ExportInfo:
    """An export, once it is no longer pending or after so many seconds."""
    return await once_settled(
        platform, export_id, partial(_export, platform, caller, export_id), partial(_info, platform), wait
    )


@router.get(
    "/exports/{export_id}/files/{name}",
    response_class=StreamingResponse,
    responses={
        **errors(404, 409, 410, 416),
        200: {"content": {BYTES: {}}, "description": "The file"},
        206: {"content": {BYTES: {}}, "description": "A part of the file"},
    },
)
async def get_export_file(
    export_id: str,
    name: str,
    caller: Exporter,
    platform: PlatformOf,
    wanted: Annotated[str | None, Header(alias="Range", description="One range of bytes.")] = None,
    condition: Annotated[str | None, Header(alias="If-Range", description="The ETag of what there is.")] = None,
) -> Response:
    """A file of an export, or one part of it. Its ETag is its SHA-256."""

    def open_part() -> Response:
        listing = _there(platform, caller, export_id)
        found = listing.find(name)
        if found is None:
            raise ApiError("not_found", "The export has no file of this name.")
        etag = f'"{found[1].sha256}"'
        part = part_of(found[1].size_bytes, etag, wanted, condition)
        pieces = _begun(platform.exports.read(listing, name, part.start, part.end))
        headers = {**part.headers(etag), "Cache-Control": "no-store"}
        return StreamingResponse(pieces, part.status, headers, media_type=BYTES)

    return await run_in_threadpool(open_part)


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces, the first of which is there: what can be wrong with a file is told before its answer begins."""
    try:
        first = next(pieces, b"")
    except BlobNotFoundError:
        raise _gone() from None

    def rest() -> Iterator[bytes]:
        yield first
        yield from pieces

    return rest()


@router.delete("/exports/{export_id}", status_code=204, responses=errors(404, 409))
async def delete_export(export_id: str, caller: Exporter, platform: PlatformOf) -> Response:
    """Destroy an export's key and files before their time is over. Twice is no error."""

    def delete() -> None:
        row = _export(platform, caller, export_id)
        if row.status == PENDING:
            raise ApiError("export_not_ready", "The export is being made.")
        platform.exports.destroy(row.chain, bytes.fromhex(row.export_id))

    await run_in_threadpool(delete)
    return Response(status_code=204)


def _export(platform: Platform, caller: Caller, export_id: str) -> Export:
    row = platform.views.export(caller.tenant, export_id)
    if row is None:
        raise ApiError("unknown_export", "There is no export with this id.")
    return row


def _there(platform: Platform, caller: Caller, export_id: str) -> Listing:
    """The files of an export that is there."""
    row = _export(platform, caller, export_id)
    if row.files_digest is None:
        raise ApiError("export_not_ready", f"The export is {row.status}.")
    listing = platform.exports.open(row.chain, bytes.fromhex(row.export_id))
    if listing is None:
        raise _gone()
    return listing


def _gone() -> ApiError:
    return ApiError("export_gone", "The export's files are no longer kept.")


def _info(platform: Platform, row: Export) -> r.ExportInfo:
    listing = platform.exports.open(row.chain, bytes.fromhex(row.export_id)) if row.files_digest else None
    return present.export(row, listing)
