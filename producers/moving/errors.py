"""Why a ledger is not copied."""

from __future__ import annotations

from producers.errors import ProducerError


class CopyError(ProducerError):
    """Base of the errors of copying."""

    code = "copy_refused"


class SourceUnsoundError(CopyError):
    """The source is not what its checkpoints say."""

    code = "copy_source_unsound"
    next_step = (
        "Nothing was written. Keep the source as evidence and compare it with an exported checkpoint by `tensorguard "
        "audit verify`."
    )


class SourceUnsignedError(CopyError):
    """Nobody vouches for what the source holds."""

    code = "copy_source_unsigned"
    next_step = "Nothing was written. Start a server on the source, wait until it is ready, stop it: its signer signs."


class SourceEmptyError(CopyError):
    """There is no ledger at the source."""

    code = "copy_source_empty"
    next_step = "Check what --from names; a ledger begins with the first start of a server or the first command on it."


class DestinationDiffersError(CopyError):
    """What the destination holds is not the beginning of the source."""

    code = "copy_destination_differs"
    next_step = "Nothing was written. Name an empty destination, or the one that an earlier copy of it went to."


class TooFewPartitionsError(CopyError):
    """The destination's intake has fewer partitions than the chains belong to."""

    code = "copy_partitions"
    next_step = "Nothing was written. Make the destination with at least as many intake partitions as the source has."


class CopyDamagedError(CopyError):
    """The destination does not give back what was written to it."""

    code = "copy_damaged"
    next_step = "The source was not ended. Copy to another destination, and look at the storage of this one."
