"""The tenant's chain as a list: what happened, in order."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api import paging, present
from api import responses as r
from api.auth import Auditor
from api.routers.common import Cursor, Limit, PlatformOf, errors, run_in_threadpool
from projections.queries import AuditFilter

router = APIRouter(prefix="/v1/audit_logs", tags=["audit"])
LISTING = "audit_logs"
Name = Annotated[str | None, Query(min_length=1, max_length=255)]


@router.get("", responses=errors())
async def list_audit_logs(
    caller: Auditor,
    platform: PlatformOf,
    stream: Name = None,
    event: Name = None,
    limit: Limit = paging.DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> r.Page[r.AuditLogEntry]:
    """Records of the tenant's chain, oldest first; `stream` and `event` narrow it down."""

    def page() -> r.Page[r.AuditLogEntry]:
        start = platform.cursors.decode(caller.tenant, LISTING, cursor) or 0
        rows = platform.views.audit(caller.tenant, AuditFilter(stream, event), start, limit + 1)
        more = platform.cursors.encode(caller.tenant, LISTING, rows[limit].seq) if len(rows) > limit else None
        return r.Page(items=[present.audit_entry(row) for row in rows[:limit]], next_cursor=more)

    return await run_in_threadpool(page)
