"""The ledger's format and its verification: records, chains, trees, checkpoints, receipts, exports.

To verify an export: :func:`verify_export`. To check a receipt: :func:`verify_receipt` with a :class:`TrustRoot`.
Everything that is wrong with the data is a :class:`Finding` or a :class:`LedgerError`.
"""

from tensorguard.ledger.checkpoint import Checkpoint, SignedCheckpoint, SignerKeys
from tensorguard.ledger.envelope import Envelope, SignedCommand
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.export import ExportReader, ExportWriter
from tensorguard.ledger.proof import Proof, Receipt, make_receipt, verify_receipt
from tensorguard.ledger.record import Meta, Record
from tensorguard.ledger.report import ChainReport, Finding, Report
from tensorguard.ledger.trust import TrustRoot
from tensorguard.ledger.trust import parse as parse_trust_root
from tensorguard.ledger.verify import Options, verify_export, verify_raw

__all__ = [
    "ChainReport",
    "Checkpoint",
    "Envelope",
    "ExportReader",
    "ExportWriter",
    "Finding",
    "LedgerError",
    "Meta",
    "Options",
    "Proof",
    "Receipt",
    "Record",
    "Report",
    "SignedCheckpoint",
    "SignedCommand",
    "SignerKeys",
    "TrustRoot",
    "make_receipt",
    "parse_trust_root",
    "verify_export",
    "verify_raw",
    "verify_receipt",
]
