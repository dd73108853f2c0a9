"""What can be wrong with the read models."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class ProjectionError(TensorGuardError):
    """Base of every read-model error."""

    code = "projection_error"


class CorruptLedgerError(ProjectionError):
    """The ledger holds a record that cannot be what was written: the views stop before it."""

    code = "ledger_corrupt"
    next_step = "Stop the server, run `tensorguard audit verify` on an export, and restore the ledger from a backup."


class ForeignHistoryError(ProjectionError):
    """The views were folded from another history than the ledger now has."""

    code = "views_foreign"
    next_step = (
        "Run `tensorguard projections rebuild`; if the ledger was restored from a backup, compare its head first."
    )


class ViewsInUseError(ProjectionError):
    """Another process keeps these views."""

    code = "views_in_use"
    next_step = "Stop the server on this data directory and call again."


class ViewsUnavailableError(ProjectionError):
    """The views' database does not answer or cannot be written."""

    code = "views_unavailable"
    next_step = (
        "Check free space and permissions of the data directory; if the file is damaged, run `tensorguard projections "
        "rebuild`."
    )
