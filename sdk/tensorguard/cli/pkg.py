"""``tensorguard pkg``: look into a package, and verify it offline."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from tensorguard.cli.output import print_json, print_line
from tensorguard.errors import UsageError
from tensorguard.ledger import trust
from tensorguard.tgsp.manifest import MANIFEST, MAX_MANIFEST_BYTES
from tensorguard.tgsp.package import Package, package_id_of, trusted_keys
from tensorguard.tgsp.package import inspect as inspect_package
from tensorguard.tgsp.receipt import check_receipt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensorguard.tgsp.manifest import PackageManifest

MAX_FILE_BYTES = 1 << 20

app = typer.Typer(help="Look into a model package, and verify it offline.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="The package: a .tgsp file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def register(root: typer.Typer) -> None:
    """Add ``pkg`` to the command line."""
    root.add_typer(app, name="pkg")


@app.command()
def inspect(file: FileArgument, *, as_json: JsonOption = False) -> None:
    """Show what a package says of itself. Nothing of it is verified."""
    with _opened(file) as source:
        manifest, container = inspect_package(source)
        package_id = package_id_of(container.read(MANIFEST, MAX_MANIFEST_BYTES))
        value = {"verified": False, "package_id": package_id.hex(), "manifest": manifest.model_dump()}
    if as_json:
        print_json(value)
    else:
        _print(manifest, package_id, "not verified: use `tensorguard pkg verify`")


@app.command()
def verify(
    file: FileArgument,
    *,
    trust_root: Annotated[Path, typer.Option("--trust-root", help="The trust root of the installation that made it.")],
    receipt: Annotated[Path | None, typer.Option("--receipt", help="The ledger's receipt: a tlog-proof file.")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="The record, when the receipt has none.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify signature, digests, expiry and receipt: exit code 0 verified, 1 not, 2 wrong usage."""
    root = trust.parse(_read(trust_root))
    with _opened(file) as source:
        package = Package.verify(source, trusted_keys(root))
        package.check_expiry(time.time_ns() // 1000)
        proven = check_receipt(_read(receipt), root, package, _read(record) if record else None) if receipt else None
    value: dict[str, Any] = {
        "verified": True,
        "package_id": package.package_id.hex(),
        "authority_key": root.authority_key.hex(),
        "receipt": None if proven is None else {"chain": proven.chain, "seq": proven.seq},
        "evidence": package.evidence.model_dump(),
        "manifest": package.manifest.model_dump(),
    }
    if as_json:
        print_json(value)
        return
    ledger = "no receipt given" if proven is None else f"on chain {proven.chain} at {proven.seq}"
    _print(package.manifest, package.package_id, f"verified; {ledger}")


def _print(manifest: PackageManifest, package_id: bytes, verdict: str) -> None:
    compatibility = manifest.compatibility
    lines = {
        "package": package_id.hex(),
        "tenant": manifest.tenant,
        "line": f"{manifest.line} release {manifest.release_counter}",
        "release mode": manifest.release_mode,
        "base model": f"{compatibility.model} ({compatibility.architecture})",
        "model digest": compatibility.model_manifest_digest,
        "weights": f"{manifest.weights.plaintext_size} bytes",
        "signed by": manifest.signing_key_id,
        "verdict": verdict,
    }
    for name, shown in lines.items():
        print_line(f"{name:<14} {shown}")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        source = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error
    with source:
        yield source


def _read(path: Path) -> bytes:
    with _opened(path) as source:
        return source.read(MAX_FILE_BYTES + 1)
