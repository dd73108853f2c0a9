"""``tensorguard devices``: who may open packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from tensorguard.errors import UsageError

from api.commands.common import AsJson, DataDir, Tenant, show, table, views_of, workbench

NAME = "devices"
SIGNING_KEY_BYTES, HPKE_KEY_BYTES = 32, 1216
"""Ed25519; X-Wing (ML-KEM-768 and X25519)."""
app = typer.Typer(help="Enrol devices and list them.", no_args_is_help=True)


@app.command()
def enrol(
    data_dir: DataDir,
    tenant: Tenant,
    name: Annotated[str, typer.Option("--name", help="What people call it.")],
    public_keys: Annotated[
        Path,
        typer.Option("--public-keys", help="The JSON file that the device made: public_key and hpke_public_key, hex."),
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Let a device's keys sign for it and be sealed to; private keys never leave the device."""
    from tensorguard.ledger.envelope import key_id_of  # noqa: PLC0415 -- light start

    from schemas.commands import EnrolProducer  # noqa: PLC0415

    public, hpke = _read(public_keys)
    if not name.isprintable():
        raise UsageError("A device's name has printable characters only.", next_step="Give it another --name.")
    with workbench(data_dir, create=True) as bench:
        bench.submitter.ensure_chain(tenant)
        reply = bench.decide(tenant, EnrolProducer(key_id_of(public), public, "device", name, hpke))
    value = {"key_id": key_id_of(public).hex(), "tenant": tenant, "name": name, "seq": reply.last_seq}
    show(value, [f"{name} is enrolled as {value['key_id']}"], as_json=as_json)


def _read(path: Path) -> tuple[bytes, bytes]:
    try:
        value = json.loads(path.read_bytes())
        public, hpke = bytes.fromhex(value["public_key"]), bytes.fromhex(value["hpke_public_key"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        public = hpke = b""
    if (len(public), len(hpke)) != (SIGNING_KEY_BYTES, HPKE_KEY_BYTES):
        raise UsageError(f"{path} holds no public keys of a device.", next_step="Let the device make the file.")
    return public, hpke


@app.command("list")
def list_devices(data_dir: DataDir, tenant: Tenant, *, as_json: AsJson = False) -> None:
    """List a tenant's devices."""
    from api.present import device  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench, views_of(bench) as views:
        rows = [device(row).model_dump() for row in views.devices(tenant)]
    table("Devices", rows, ("key_id", "name", "enrolled_at", "revoked_at"), as_json=as_json)
