"""Who calls: an API key of one tenant, with its scopes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api import keys
from api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.responses import Response

    from projections.projector import Projector
    from projections.queries import Views

CATCH_UP_SECONDS = 2.0
"""How long an unknown key waits for views that are behind: it may have been issued a moment ago by another process."""
REMEMBERED = 4096
"""How many admitted keys are known again without asking the database; a record on their chain has them asked anew."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A valid API key: whose it is and what it may do."""

    tenant: str
    key_id: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Hold the key to a scope.

        Raises:
            ApiError: forbidden.
        """
        if scope not in self.scopes:
            raise ApiError("forbidden", f"This API key lacks the scope {scope!r}.")


class Gatekeeper:
    """Compares keys with the views; holds the pepper."""

    def __init__(self, views: Views, projector: Projector, pepper: bytes) -> None:
        self._views = views
        self._projector = projector
        self._pepper = pepper
        self._admitted: OrderedDict[bytes, tuple[int, Caller]] = OrderedDict()

    def recall(self, text: str | None) -> Caller | None:
        """The caller of a key that was admitted before, as long as nothing happened on its chain since."""
        known = self._admitted.get(sha256((text or "").encode()).digest())
        return known[1] if known and known[0] == self._projector.size(known[1].tenant) else None

    def admit(self, text: str | None) -> Caller:
        """The caller that a key belongs to.

        Raises:
            ApiError: unauthenticated; the same words for a malformed, unknown or revoked key.
        """
        key_id, sizes = keys.id_of(text or ""), self._projector.sizes()
        caller = key_id and text and (self._find(key_id, text) or self._find_when_caught_up(key_id, text))
        if not caller:
            raise ApiError("unauthenticated", "The request carries no valid API key.")
        self._remember(text or "", sizes.get(caller.tenant, 0), caller)
        return caller

    def _find(self, key_id: str, text: str) -> Caller | None:
        digest = keys.keyed_hash(self._pepper, text)
        for row in self._views.api_keys_named(key_id):
            if compare_digest(bytes.fromhex(row.secret_hash), digest) and row.revoked_at is None:
                return Caller(row.chain, row.key_id, frozenset(row.scopes))
        return None

    def _remember(self, text: str, size: int, caller: Caller) -> None:
        self._admitted[sha256(text.encode()).digest()] = (size, caller)
        if len(self._admitted) > REMEMBERED:
            self._admitted.popitem(last=False)

    def _find_when_caught_up(self, key_id: str, text: str) -> Caller | None:
        if not self._projector.behind() or not self._projector.wait_for_all(CATCH_UP_SECONDS):
            return None
        return self._find(key_id, text)


_BEARER = HTTPBearer(auto_error=False, description="An API key: `tg-key-…`")
_HEADER = APIKeyHeader(
    name="X-API-Key", auto_error=False, description="The same API key, for clients without bearer tokens"
)


async def caller(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    header: Annotated[str | None, Depends(_HEADER)],
) -> Caller:
    """The caller of a request."""
    known: Caller | None = getattr(request.state, "caller", None)
    if known is not None:
        return known
    text = bearer.credentials if bearer else header
    gatekeeper: Gatekeeper = request.app.state.platform.gatekeeper
    recalled = gatekeeper.recall(text)
    return recalled if recalled is not None else await run_in_threadpool(gatekeeper.admit, text)


class KeyFirst(APIRoute):
    """A route that asks who calls before it reads a body, which may be large: strangers are not worth the memory."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the question."""
        handle = super().get_route_handler()

        async def ask_first(request: Request) -> Response:
            request.state.caller = await caller(request, await _BEARER(request), await _HEADER(request))
            return await handle(request)

        return ask_first


def holding(scope: str) -> Any:
    """A dependency: the caller, whose key must have the scope."""

    async def check(found: Annotated[Caller, Depends(caller)]) -> Caller:
        found.require(scope)
        return found

    return Depends(check)


Reader = Annotated[Caller, holding("read")]
Trainer = Annotated[Caller, holding("train")]
Packager = Annotated[Caller, holding("package")]
Exporter = Annotated[Caller, holding("export")]
Auditor = Annotated[Caller, holding("audit")]
Watcher = Annotated[Caller, holding("metrics")]
