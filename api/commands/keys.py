"""``tensorguard keys``: API keys of tenants."""

from __future__ import annotations

from typing import Annotated

import typer
from tensorguard.errors import UsageError

from api.commands.common import AsJson, CommandError, DataDir, Tenant, show, table, views_of, workbench
from api.keys import DEFAULT_SCOPES, SCOPES, keyed_hash, new_key

NAME = "keys"
app = typer.Typer(help="Issue, revoke and list API keys.", no_args_is_help=True)


@app.command()
def issue(
    data_dir: DataDir,
    tenant: Tenant,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", help=f"What it may do; may be repeated: {', '.join(SCOPES)}. All but metrics by default."
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Issue a key. It is shown this once; the ledger holds its keyed hash alone."""
    from schemas.commands import IssueApiKey  # noqa: PLC0415 -- light start

    scopes = tuple(dict.fromkeys(scope or DEFAULT_SCOPES))
    if unknown := set(scopes) - SCOPES.keys():
        raise UsageError(f"No scope is called {min(unknown)!r}.", next_step=f"Use {', '.join(SCOPES)}.")
    key = new_key()
    with workbench(data_dir, create=True) as bench:
        bench.submitter.ensure_chain(tenant)
        digest = keyed_hash(bench.installation.api_key_pepper(), key.text)
        reply = bench.decide(tenant, IssueApiKey(key.key_id, digest, scopes))
    value = {"api_key": key.text, "key_id": key.key_id, "tenant": tenant, "scopes": scopes, "seq": reply.last_seq}
    show(value, [key.text], as_json=as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The 16 hex digits behind tg-key-.")],
    data_dir: DataDir,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Whose it is; found by its id if left out.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Revoke a key: it opens nothing any more."""
    from schemas.commands import RevokeApiKey  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench:
        with views_of(bench) as views:
            tenants = [row.chain for row in views.api_keys_named(key_id) if tenant in (None, row.chain)]
        if not tenants:
            raise CommandError("There is no API key with this id.")
        reply = bench.decide(tenants[0], RevokeApiKey(key_id))
    value = {"key_id": key_id, "tenant": tenants[0], "revoked": True, "seq": reply.last_seq}
    show(value, [f"{key_id} of {tenants[0]} is revoked."], as_json=as_json)


@app.command("list")
def list_keys(
    data_dir: DataDir,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List keys: ids and scopes, never secrets."""
    from api.present import iso  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench, views_of(bench) as views:
        rows = [
            {
                "key_id": row.key_id,
                "tenant": row.chain,
                "scopes": " ".join(row.scopes),
                "issued_at": iso(row.issued_at),
                "revoked_at": iso(row.revoked_at) if row.revoked_at is not None else None,
            }
            for row in views.api_keys(tenant)
        ]
    table("API keys", rows, ("key_id", "tenant", "scopes", "issued_at", "revoked_at"), as_json=as_json)
