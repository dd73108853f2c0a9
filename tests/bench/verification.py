"""Verified records a second, raw and decoded, beside the bare hash and the bare decoder over the same bytes."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastavro
from tensorguard.ledger import avro
from tensorguard.ledger.export import PLATFORM, ExportReader, ExportWriter
from tensorguard.ledger.note import Note
from tensorguard.ledger.record import decode_meta
from tensorguard.ledger.report import Report
from tensorguard.ledger.verify import verify_export, verify_raw

from schemas.codec import EVENTS, event_schema
from tests.bench.harness import Figure, interleave, seconds
from tests.bench.ledger import CHAIN, Ledger, open_ledger
from tests.bench.sizes import VerificationSize

SIGNER_SECONDS = 60.0
Parsed = Sequence[tuple[Any, bytes]]


def run(size: VerificationSize, work: Path) -> list[Figure]:
    """Records a second; every command bears a signature of its own, as a gateway's do."""
    export = work / "export"
    with open_ledger(work / "data") as ledger:
        ledger.append_many(ledger.submissions(size.records))
        with _signer(ledger.installation.data_dir):
            _export(ledger, export)
    records = [data for chain in (PLATFORM, CHAIN) for data in ExportReader(export).records(chain)]
    parsed = _parsed(records)
    contenders = {
        "raw": lambda: _check(verify_raw(export), len(records)),
        "hash": lambda: _hash(records),
        "decoded": lambda: _check(verify_export(export), len(records)),
        "decode": lambda: _decode(parsed),
    }
    timed = {name: lambda work=work: len(records) / seconds(work) for name, work in contenders.items()}
    found = interleave(size.rounds, timed)
    return [
        Figure("raw", "records/s", found["raw"], "hashlib.sha256 alone", found["hash"]),
        Figure(
            "decoded",
            "records/s",
            found["decoded"],
            "fastavro alone",
            found["decode"],
            note=f"{len(records)} records of {sum(map(len, records)) // len(records)} bytes",
        ),
    ]


@contextmanager
def _signer(data_dir: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "producers.signer", "--data-dir", str(data_dir)]
    with (data_dir / "signer.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()


def _export(ledger: Ledger, directory: Path) -> None:
    """A signed export: it waits until the checkpoints cover everything."""
    writer = ExportWriter(directory)
    writer.write_trust_root(ledger.installation.trust_root_path.read_bytes())
    for chain in (PLATFORM, CHAIN):
        size = ledger.engine.size(chain)
        checkpoint = _checkpoint(ledger, chain, size)
        writer.write_chain(chain, ledger.engine.read(chain, 0, size), checkpoint)


def _checkpoint(ledger: Ledger, chain: str, size: int) -> bytes:
    note = ledger.engine.checkpoint(chain)
    while note is None or int(Note.from_bytes(note).text.split("\n")[1]) < size:
        newer = ledger.engine.wait_checkpoint(chain, note, SIGNER_SECONDS)
        if newer in (None, note):
            raise RuntimeError(f"The signer did not sign chain {chain!r} within {SIGNER_SECONDS:.0f} s.")
        note = newer
    return note


def _parsed(records: Sequence[bytes]) -> Parsed:
    schemas = {schema.digest: avro.parse(schema.text) for schema in map(event_schema, EVENTS)}
    return [(schemas[decode_meta(data).schema], data) for data in records]


def _check(report: Report, records: int) -> None:
    seen = sum(chain.records for chain in report.chains)
    if not report.verified or seen != records:
        raise RuntimeError(f"{seen} of {records} records verified; findings: {report.all_findings[:3]}")


def _hash(records: Sequence[bytes]) -> None:
    for data in records:
        sha256(data).digest()


def _decode(parsed: Parsed) -> None:
    for schema, data in parsed:
        fastavro.schemaless_reader(io.BytesIO(data), schema, None)
