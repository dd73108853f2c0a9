"""Secure model packages: ask for one, wait for it, fetch it with its receipt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from api import paging, present, receipts
from api import requests as q
from api import responses as r
from api.auth import Caller, KeyFirst, Packager, Reader
from api.errors import ApiError
from api.platform import Platform
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
from api.submission import Asked
from projections.models import Package
from schemas import commands

router = APIRouter(prefix="/v1/packages", tags=["packages"], route_class=KeyFirst)
LISTING = "packages"
BYTES = "application/octet-stream"
RECEIPT_SECONDS = 10.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@router.post("", status_code=202, responses=errors(*BODY, 404, 409, 507))
async def request_package(body: q.PackageRequest, caller: Packager, ask: Ask, platform: PlatformOf) -> r.PackageInfo:
    """Ask for a `.tgsp` of a checkpoint, sealed to devices of the tenant."""
    asked = await ask.by(caller)
    return await run_in_threadpool(_request, platform, asked, body)


def _request(platform: Platform, asked: Asked, body: q.PackageRequest) -> r.PackageInfo:
    artifact = usable_artifact(platform, asked.caller, body.artifact_id)
    command = commands.RequestPackage(
        package_id=asked.command_id,
        run_id=artifact.run_id,
        artifact_id=bytes.fromhex(artifact.artifact_id),
        manifest_digest=bytes.fromhex(artifact.manifest_digest),
        recipients=tuple(bytes.fromhex(recipient) for recipient in body.recipients),
        release_counter=body.release_counter,
        expires_at=(body.expires_at - _EPOCH) // timedelta(microseconds=1) if body.expires_at else None,
    )
    try:
        platform.submission.send(asked, command)
    except ApiError as error:
        if error.code == "not_found":  # the run is there, as its artifact is: it is a recipient that is not
            raise ApiError("recipient_unknown", error.detail) from error
        raise
    return _info(platform, _package(platform, asked.caller, asked.command_id.hex()))


@router.get("", responses=errors())
async def list_packages(
    caller: Reader, platform: PlatformOf, limit: Limit = paging.DEFAULT_LIMIT, cursor: Cursor = None
) -> r.Page[r.PackageInfo]:
    """The tenant's packages, newest first."""
    rows = partial(platform.views.packages, caller.tenant)
    return await newest(platform, caller, LISTING, (limit, cursor), rows, partial(_info, platform))


@router.get("/{package_id}", responses=errors(404))
async def get_package(
    package_id: str,
    caller: Reader,
    platform: PlatformOf,
    wait: Annotated[float, Query(ge=0, le=LONGEST_POLL, description="Seconds to wait while it is pending.")] = 0.0,
) -> r.PackageInfo:
    """A package, once it is no longer pending or after so many seconds."""
    return await once_settled(
        platform, package_id, partial(_package, platform, caller, package_id), partial(_info, platform), wait
    )


@router.get(
    "/{package_id}/content",
    response_class=FileResponse,
    responses={**errors(404, 409), 200: {"content": {"application/zip": {}}, "description": "The `.tgsp` file"}},
)
async def get_package_content(package_id: str, caller: Reader, platform: PlatformOf) -> FileResponse:
    """The package's file."""
    row = await run_in_threadpool(_signed, platform, caller, package_id)
    path = platform.installation.data_dir / "packages" / row.chain / f"{row.package_id}.tgsp"
    if not path.is_file():
        raise ApiError("not_found", "The package's file is not on this server.")
    return FileResponse(path, media_type="application/zip", filename=path.name)


@router.get(
    "/{package_id}/receipt",
    response_class=Response,
    responses={**errors(404, 409), 200: {"content": {"text/plain": {}}, "description": "A C2SP tlog-proof"}},
)
async def get_package_receipt(package_id: str, caller: Reader, platform: PlatformOf) -> Response:
    """The proof that the package's signing is on the ledger; waits until a checkpoint covers it."""

    def get() -> bytes:
        row = _signed(platform, caller, package_id)
        return receipts.receipt(platform.engine, row.chain, row.finished_seq or 0, RECEIPT_SECONDS)

    return Response(await run_in_threadpool(get), media_type="text/plain; charset=utf-8")


@router.get(
    "/{package_id}/record",
    response_class=Response,
    responses={**errors(404, 409), 200: {"content": {BYTES: {}}, "description": "The exact bytes of the record"}},
)
async def get_package_record(package_id: str, caller: Reader, platform: PlatformOf) -> Response:
    """The record of the package's signing, byte for byte."""

    def get() -> bytes:
        row = _signed(platform, caller, package_id)
        return platform.engine.read(row.chain, row.finished_seq or 0, 1)[0]

    return Response(await run_in_threadpool(get), media_type=BYTES)


def _package(platform: Platform, caller: Caller, package_id: str) -> Package:
    row = platform.views.package(caller.tenant, package_id)
    if row is None:
        raise ApiError("unknown_package", "There is no package with this id.")
    return row


def _signed(platform: Platform, caller: Caller, package_id: str) -> Package:
    row = _package(platform, caller, package_id)
    if row.status != "signed":
        raise ApiError("package_not_signed", f"The package is {row.status}.")
    return row


def _info(platform: Platform, row: Package) -> r.PackageInfo:
    return present.package(row, platform.views.openings(row.chain, row.package_id))
