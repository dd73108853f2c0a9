"""``tensorguard signer``."""

from __future__ import annotations

import typer

from api.commands.common import PLATFORM, AsJson, DataDir, show, workbench

NAME = "signer"
app = typer.Typer(help="The key that signs the ledger's checkpoints.", no_args_is_help=True)


@app.callback()
def signer() -> None:
    """The signer: a process of its own, with keys that no other process opens."""


@app.command()
def rotate(data_dir: DataDir, *, as_json: AsJson = False) -> None:
    """Sign with new keys from now on, and publish them: on the platform chain and in the trust root.

    No server may run meanwhile: its signer holds the keys.
    """
    from api import signing  # noqa: PLC0415 -- light start
    from producers.trustroot import signer_keys  # noqa: PLC0415

    with workbench(data_dir) as bench:
        bench.submitter.ensure_chain(PLATFORM)
        signing.rotate(bench.installation.data_dir)
        bench.submitter.ensure_chain(PLATFORM)
        signing.sign_once(bench.installation.data_dir)
        keys = signer_keys(bench.installation.data_dir)
    value = {"ed25519": keys[-1].ed25519.hex(), "mldsa44": keys[-1].mldsa44.hex(), "keys": len(keys)}
    show(value, [f"The signer has key number {len(keys)}: {value['ed25519']}"], as_json=as_json)
