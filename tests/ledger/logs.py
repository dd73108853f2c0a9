"""Logs of any length for tests of tiles: their records are no records of ours, their signatures are real."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.ledger.merkle import leaf_hash, root_of
from tensorguard.ledger.tiles_writer import Written, tiles_writer

from tests.ledger.build import Ledger, good_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CHAIN = "acme"


def entries(count: int, salt: str = "") -> list[bytes]:
    """So many entries, of different lengths."""
    return [f"entry {salt}{number}".encode() + b"." * (number % 5) for number in range(count)]


def sign(records: Sequence[bytes], ledger: Ledger, chain: str = CHAIN) -> bytes:
    """The checkpoint of a log that holds these."""
    return ledger.sign_head(chain, len(records), root_of([leaf_hash(data) for data in records]))


def add(directory: Path, records: Sequence[bytes], ledger: Ledger | None = None, chain: str = CHAIN) -> Written:
    """Export a log, or what a folder lacks of it; its folder is ``directory/acme``."""
    ledger = ledger or good_ledger()
    with tiles_writer(directory, ledger.trust_root) as writer:
        return writer.write_chain(chain, sign(records, ledger, chain), lambda start, stop: records[start:stop])


def write_tiles(ledger: Ledger, directory: Path) -> Path:
    """The export of what a ledger has published, as tiles."""
    with tiles_writer(directory, ledger.trust_root) as writer:
        for chain in ledger.chains.values():
            assert chain.note is not None
            writer.write_chain(chain.name, chain.note, lambda start, stop, of=chain: of.records[start:stop])  # type: ignore[misc]
    return directory


def files(directory: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {name: path.read_bytes() for name, path in _files(directory)}


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    for path in directory.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(directory)), path
