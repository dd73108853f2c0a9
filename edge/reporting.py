"""What a device tells the ledger: that it opened a package, signed by its own key."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import httpx
from tensorguard.ledger.envelope import OWN_ID_BYTES, Envelope, own_command_id

from edge.errors import ReportError
from schemas.codec import command_schema, encode_command
from schemas.commands import RecordPackageOpened

if TYPE_CHECKING:
    from tensorguard.ledger.envelope import SignedCommand
    from tensorguard.tgsp.package import Package

    from edge.fetch import Fetcher
    from edge.identity import Identity

PATH = "/v1/commands"
VALID_FOR = 3_600 * 1_000_000
_TRIES = 3
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


def opened_command(package: Package, identity: Identity, now: int) -> SignedCommand:
    """The signed command that reports one opening; ``now`` is microseconds. Each opening has an id of its own."""
    manifest = package.manifest
    command = RecordPackageOpened(bytes.fromhex(manifest.request_id), package.package_id, identity.key_id)
    name = type(command).__name__
    envelope = Envelope(
        chain=manifest.tenant,
        tenant=manifest.tenant,
        stream=f"package/{manifest.request_id}",
        expected_version=None,
        command_id=own_command_id(identity.key_id, secrets.token_bytes(OWN_ID_BYTES)),
        command_type=name,
        schema=command_schema(name).digest,
        issued_at=now,
        expires_at=now + VALID_FOR,
        on_behalf_of=None,
        correlation=None,
        trace=None,
        body=encode_command(command),
    )
    return identity.sign(envelope.to_bytes())


def report(server: str, signed: SignedCommand, fetcher: Fetcher) -> dict[str, Any]:
    """The server's reply to a signed command; the same bytes are sent again when the answer got lost.

    Raises:
        ReportError: there is no reply.
    """
    address = server.rstrip("/") + PATH
    headers = {"Content-Type": "application/octet-stream", **fetcher.headers(address)}
    transport = httpx.HTTPTransport(retries=_TRIES)
    try:
        with httpx.Client(transport=transport, timeout=_TIMEOUT) as client:
            response = client.post(address, content=signed.to_bytes(), headers=headers)
        reply = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ReportError(f"The server gave no reply ({type(error).__name__}).") from error
    if not response.is_success or not isinstance(reply, dict):
        code = reply.get("code") if isinstance(reply, dict) else None
        raise ReportError(f"The server answered {response.status_code} ({code or 'no code'}).")
    return reply
