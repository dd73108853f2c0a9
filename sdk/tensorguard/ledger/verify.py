"""The verifier of an exported ledger: bytes, chain, tree, signatures, schemas, commands, keys.

It trusts the trust root alone, reads every chain once as a stream, and reports everything that it finds: garbage
in an export is a finding, never an exception. Re-running the decisions is a further level that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger import checkpoint as checkpoints
from tensorguard.ledger import trust
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.export import PLATFORM, ExportReader
from tensorguard.ledger.fold import ByteFold, RecordFold
from tensorguard.ledger.note import Note, VerifierKey
from tensorguard.ledger.report import ChainReport, Finding, Report
from tensorguard.ledger.tiles_reader import TilesReader, holds_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from tensorguard.ledger.checkpoint import Checkpoint, SignedCheckpoint
    from tensorguard.ledger.trust import TrustRoot

    Reader = ExportReader | TilesReader

__all__ = ["ChainReport", "Finding", "Options", "Replay", "Report", "verify_export", "verify_raw"]

Replay = Callable[[str, Iterable[bytes]], Sequence[Finding]]
"""Re-runs the decisions of one chain's records; the platform's ``tensorguard.auditors`` entry point is one."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to verify.

    ``pinned`` is a trust root that came another way than the export. ``since`` are checkpoint notes seen earlier,
    which the export must extend. ``require_signed`` makes records behind the last checkpoint a finding.
    ``decode`` is off for bytes, chain, tree and checkpoints only. ``replay`` re-runs the decisions.
    """

    pinned: TrustRoot | None = None
    since: Sequence[bytes] = ()
    require_signed: bool = False
    decode: bool = True
    replay: Replay | None = None


def verify_export(directory: Path, options: Options | None = None) -> Report:
    """Verify an export, of records or of tiles.

    Raises:
        ExportError: there is no such directory.
    """
    options = options or Options()
    reader = TilesReader(directory) if holds_tiles(directory) else ExportReader(directory)
    pinned = options.pinned is not None
    try:
        root = _trust_root(reader, options.pinned)
    except LedgerError as error:
        return Report("", b"", pinned, findings=(_finding(error, ""),))
    findings: list[Finding] = []
    since = _read_since(options.since, root, findings)
    try:
        chains = reader.chains()
    except LedgerError as error:
        chains, findings = (), [*findings, _finding(error, "")]
    findings += _missing_chains(chains, since)
    reports = tuple(_verify_chain(reader, chain, root, since.get(chain, ()), options) for chain in chains)
    return Report(root.installation_id, root.authority_key, pinned, reports, tuple(findings))


def verify_raw(directory: Path, pinned: TrustRoot | None = None) -> Report:
    """Verify bytes, chain, tree and checkpoint signatures only: about what one core can hash.

    Raises:
        ExportError: there is no such directory.
    """
    return verify_export(directory, Options(pinned=pinned, decode=False))


def _trust_root(reader: Reader, pinned: TrustRoot | None) -> TrustRoot:
    found = trust.parse(reader.trust_root())
    return found if pinned is None else trust.newest(pinned, found)


def _read_since(notes: Sequence[bytes], root: TrustRoot, findings: list[Finding]) -> dict[str, list[Checkpoint]]:
    """The earlier checkpoints by chain; those that do not verify become findings."""
    since: dict[str, list[Checkpoint]] = {}
    for note in notes:
        try:
            origin = Note.from_bytes(note).text.partition("\n")[0]
            seen = checkpoints.verify(note, origin, root.signer_keys).checkpoint
        except LedgerError as error:
            findings.append(_finding(error, "", "The earlier checkpoint: "))
            continue
        prefix = root.chain_origin("")
        if origin.startswith(prefix):
            since.setdefault(origin.removeprefix(prefix), []).append(seen)
        else:
            findings.append(Finding("untrusted_key", "", None, "The earlier checkpoint is of another installation."))
    return since


def _missing_chains(chains: Sequence[str], since: dict[str, list[Checkpoint]]) -> list[Finding]:
    needed = {PLATFORM: "The export lacks the chain of the platform."}
    needed |= {chain: "A chain that was seen earlier is gone." for chain in since if chain != PLATFORM}
    return [Finding("chain_missing", chain, None, why) for chain, why in needed.items() if chain not in chains]


def _verify_chain(
    reader: Reader, chain: str, root: TrustRoot, since: Sequence[Checkpoint], options: Options
) -> ChainReport:
    findings: list[Finding] = []
    head = _checkpoint(reader, chain, root, findings)
    heads = [*since, *([head] if head else [])]
    bytes_fold = ByteFold(chain, (each.size for each in heads))
    record_fold = RecordFold(chain, root) if options.decode else None
    _fold(reader, chain, bytes_fold, record_fold, findings)
    findings += bytes_fold.findings
    if record_fold is not None:
        findings += record_fold.findings
    if head is not None:
        findings += _check_head(chain, head, bytes_fold)
    findings += (each for seen in since for each in _check_since(chain, seen, bytes_fold))
    if options.require_signed and head is not None and head.size < bytes_fold.size:
        detail = f"{bytes_fold.size - head.size} records stand behind the last checkpoint."
        findings.append(Finding("not_signed", chain, head.size, detail))
    if options.replay is not None and not findings:
        findings += options.replay(chain, reader.records(chain))
    signed = min(head.size, bytes_fold.size) if head else 0
    return ChainReport(chain, bytes_fold.size, bytes_fold.root(), signed, bytes_fold.last_leaf, tuple(findings))


def _checkpoint(reader: Reader, chain: str, root: TrustRoot, findings: list[Finding]) -> Checkpoint | None:
    try:
        note = reader.checkpoint(chain)
        if note is not None:
            signed = checkpoints.verify(note, root.chain_origin(chain), root.signer_keys)
            findings += _check_signer(reader, chain, signed)
            return signed.checkpoint
    except LedgerError as error:
        findings.append(_finding(error, chain))
        return None
    findings.append(Finding("checkpoint_missing", chain, None, "Nobody vouches for the chain: it has no checkpoint."))
    return None


def _check_signer(reader: Reader, chain: str, signed: SignedCheckpoint) -> list[Finding]:
    """The key that lies beside a checkpoint for other verifiers must be the one that was trusted here."""
    log, _ = signed.keys.verifier_keys(signed.checkpoint.origin)
    try:
        text = reader.signer(chain)
        known = text is None or VerifierKey.from_text(text.decode("utf-8", "replace").removesuffix("\n")) == log
    except LedgerError as error:
        return [_finding(error, chain, "The verifier key beside the checkpoint: ")]
    detail = "The verifier key beside the checkpoint is not that of its signer."
    return [] if known else [Finding("untrusted_key", chain, None, detail)]


def _fold(
    reader: Reader, chain: str, as_bytes: ByteFold, as_records: RecordFold | None, findings: list[Finding]
) -> None:
    try:
        for data in reader.records(chain):
            as_bytes.add(data)
            if as_records is not None:
                as_records.add(data)
    except LedgerError as error:
        findings.append(_finding(error, chain))
    if as_records is not None:
        as_records.end()


def _check_head(chain: str, head: Checkpoint, fold: ByteFold) -> list[Finding]:
    if head.size > fold.size:
        detail = f"The checkpoint signs {head.size} records; the export holds {fold.size}."
        return [Finding("truncated", chain, fold.size, detail)]
    if fold.roots[head.size] != head.root:
        return [Finding("wrong_root", chain, None, "The records do not hash to the root that is signed.")]
    return []


def _check_since(chain: str, seen: Checkpoint, fold: ByteFold) -> list[Finding]:
    if seen.size > fold.size:
        detail = f"An earlier checkpoint signs {seen.size} records; the export holds {fold.size}."
        return [Finding("rolled_back", chain, fold.size, detail)]
    if fold.roots[seen.size] != seen.root:
        return [Finding("forked", chain, None, "The export does not extend the checkpoint that was seen earlier.")]
    return []


def _finding(error: LedgerError, chain: str, prefix: str = "") -> Finding:
    return Finding(error.code, chain, None, prefix + error.detail)
