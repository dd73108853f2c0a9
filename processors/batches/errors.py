"""What can be wrong with what lies sealed beside the ledger. No text holds keys or plaintext."""

from __future__ import annotations

from processors.errors import ProcessorError


class SealedDataError(ProcessorError):
    """Base: sealed data that does not open as what it was kept as."""

    code = "sealed_data_damaged"
    next_step = "Restore the data dir's blobs and keys from one backup."


class InputDamagedError(SealedDataError):
    """An input is damaged, cut short, another operation's, or its key does not open."""

    code = "batch_lost"
    next_step = "Send it again."


class ResultDamagedError(SealedDataError):
    """A result is damaged, cut short, another operation's, or its key does not open."""

    code = "result_damaged"
    next_step = "Send the operation again; tell the operator to look at the file system."
