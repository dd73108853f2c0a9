"""What can be wrong with ledger bytes. No standard-library error leaves this package."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class LedgerError(TensorGuardError):
    """Base of every ledger error."""

    code = "ledger_error"


class MalformedRecordError(LedgerError):
    """Bytes that are no record, envelope or body of this format."""

    code = "malformed_record"
    next_step = "Fetch the export again; if it stays so, keep it as evidence and ask the operator."


class MalformedNoteError(LedgerError):
    """Text that is no C2SP signed note, checkpoint or proof."""

    code = "malformed_note"
    next_step = "Fetch the file again; it must be kept byte for byte, line ends included."


class SignatureInvalidError(LedgerError):
    """A signature by a known key does not verify."""

    code = "signature_invalid"
    next_step = "Do not trust this data. Compare the public key with the published trust root."


class UntrustedKeyError(LedgerError):
    """Nothing here is signed by a key of the trust root."""

    code = "untrusted_key"
    next_step = "Use the trust root of the installation that made this, or ask its operator about a rotation."


class ProofInvalidError(LedgerError):
    """An inclusion or consistency proof does not lead to the signed root."""

    code = "proof_invalid"
    next_step = "Ask for a fresh receipt; if that fails too, the record is not in the signed ledger."


class MalformedTrustRootError(LedgerError):
    """Bytes that are no trust root."""

    code = "malformed_trust_root"
    next_step = "Fetch trust-root.json again; it must be kept byte for byte."


class ExportError(LedgerError):
    """A directory that is no export, or a file of it that cannot be read or written."""

    code = "export_unreadable"
    next_step = "Export the ledger again with `tensorguard ledger export --out DIR`."


class ForeignLogError(LedgerError):
    """A directory that holds something else than an earlier state of the log that is to be added to it."""

    code = "foreign_log"
    next_step = "Export into a new directory. Nothing that this one held was lost."


class RuleBrokenError(LedgerError):
    """Records that are well-formed and contradict each other; ``code`` says which rule."""

    next_step = "Keep this export as evidence and ask the operator."

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
