"""The tokenizers of the catalogue's models, so that clients can make batches themselves. Never a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import FileResponse
from tensorguard.model_manifest import TOKENIZER_FILES

from api import responses as r
from api.auth import Reader
from api.errors import ApiError
from api.platform import Platform
from api.routers.common import PlatformOf, errors, run_in_threadpool
from processors.catalogue import model_dir

if TYPE_CHECKING:
    from projections.models import CatalogueModel

router = APIRouter(prefix="/v1/models", tags=["catalogue"])
BYTES = "application/octet-stream"


@router.get("/{name}/tokenizer", responses=errors(404))
async def get_tokenizer(name: str, caller: Reader, platform: PlatformOf) -> r.TokenizerInfo:  # noqa: ARG001 -- a key is needed
    """The files of a model's tokenizer, with the digests that are on the ledger."""

    def get() -> r.TokenizerInfo:
        row = _model(platform, name)
        return r.TokenizerInfo(
            name=row.name,
            manifest_digest=row.manifest_digest,
            tokenizer_digest=row.tokenizer_digest,
            files=[r.ModelFile.model_validate(each) for each in _files(row)],
        )

    return await run_in_threadpool(get)


@router.get(
    "/{name}/tokenizer/{file}",
    response_class=FileResponse,
    responses={**errors(404, 409), 200: {"content": {BYTES: {}}, "description": "The file"}},
)
async def get_tokenizer_file(name: str, file: str, caller: Reader, platform: PlatformOf) -> FileResponse:  # noqa: ARG001 -- a key is needed
    """One of these files, byte for byte."""

    def get() -> FileResponse:
        row = _model(platform, name)
        found = next((each for each in _files(row) if each["path"] == file), None)
        if found is None:
            raise ApiError("not_found", "The model's tokenizer has no such file.")
        path = model_dir(platform.installation, bytes.fromhex(row.manifest_digest)) / found["path"]
        if not path.is_file() or path.stat().st_size != found["size_bytes"]:
            raise ApiError("model_changed", "The file is not the one that was registered.")
        return FileResponse(path, media_type=BYTES, headers={"ETag": f'"{found["sha256"]}"'})

    return await run_in_threadpool(get)


def _model(platform: Platform, name: str) -> CatalogueModel:
    row = platform.views.model(name)
    if row is None:
        raise ApiError("unknown_model", "The catalogue has no model of this name.")
    return row


def _files(row: CatalogueModel) -> list[dict[str, Any]]:
    return [each for each in row.files if each["path"] in TOKENIZER_FILES]
