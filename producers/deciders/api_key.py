"""API keys, known by keyed hash. Stream ``api-key/<key id>``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from producers.deciders.context import Context, Decision, Rejected
from schemas.base import Command, Event
from schemas.commands import IssueApiKey, RevokeApiKey
from schemas.events import ApiKeyIssued, ApiKeyRevoked


@dataclass(frozen=True, slots=True)
class ApiKeyState:
    """An issued key; commands on behalf of a revoked one are refused."""

    key_id: str
    revoked: bool = False


def decide(state: ApiKeyState | None, command: Command, _ctx: Context) -> Decision:
    """Issue or revoke an API key."""
    if isinstance(command, IssueApiKey):
        return _issue(state, command)
    if isinstance(command, RevokeApiKey):
        return _revoke(state, command)
    return Rejected("wrong_stream", "An API key's stream takes IssueApiKey and RevokeApiKey only.")


def _issue(state: ApiKeyState | None, command: IssueApiKey) -> Decision:
    if state is not None:
        return Rejected("already_exists", "An API key of this id exists.")
    return (ApiKeyIssued(command.key_id, command.secret_hash, command.scopes),)


def _revoke(state: ApiKeyState | None, command: RevokeApiKey) -> Decision:
    if state is None:
        return Rejected("not_found", "No such API key was issued on this chain.")
    if state.revoked:
        return Rejected("already_revoked", "This API key was revoked before.")
    return (ApiKeyRevoked(command.key_id),)


def evolve(state: ApiKeyState | None, event: Event) -> ApiKeyState | None:
    """The state after one more event."""
    match event:
        case ApiKeyIssued():
            return ApiKeyState(event.key_id)
        case ApiKeyRevoked() if state:
            return replace(state, revoked=True)
        case _:
            return state
