"""Why the signer refuses."""

from __future__ import annotations

from producers.errors import ProducerError


class SignerError(ProducerError):
    """Base of the signer's errors."""

    code = "signer_error"


class RolledBackError(SignerError):
    """A chain has fewer records than were signed."""

    code = "ledger_rolled_back"
    next_step = (
        "Nothing was signed. Put back the ledger that holds the signed records (the newest backup, or another copy); "
        "never delete the signer's folder to get past this."
    )


class ForkedError(SignerError):
    """A chain's records do not extend those that were signed."""

    code = "ledger_forked"
    next_step = (
        "Nothing was signed. Keep the data dir as evidence and compare it with an exported checkpoint by "
        "`tensorguard audit verify`; never delete the signer's folder to get past this."
    )


class SignerActiveError(SignerError):
    """Another signer holds this data dir's keys."""

    code = "signer_active"
    next_step = "Stop the server that runs on this data dir first."


class SignerMissingError(SignerError):
    """There are no signer keys here."""

    code = "signer_missing"
    next_step = "Restore the data dir's signer folder from the backup; on a new data dir run the signer with --init."
