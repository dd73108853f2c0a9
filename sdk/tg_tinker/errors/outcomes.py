"""Operations that were accepted and ended without effect."""

from __future__ import annotations

from tg_tinker.errors.base import TGTinkerError


class OperationFailedError(TGTinkerError):
    """The operation ended without effect."""

    code = "operation_failed"
    next_step = "The run goes on; later operations are not affected."


class CancelledError(OperationFailedError):
    """The operation was cancelled before it started."""

    code = "cancelled"


class NonFiniteLossError(OperationFailedError):
    """The loss is no number; no gradient was kept."""

    code = "non_finite_loss"
    next_step = "Lower the learning rate or load an earlier checkpoint; look at the batch."


class EmptyGradientError(OperationFailedError):
    """No label counts, so there is nothing to learn from."""

    code = "empty_gradient"
    next_step = "Give each batch at least one label that is not -100, behind the first token of its row."


class WorkerOutOfMemoryError(OperationFailedError):
    """The batch does not fit into the trainer's memory."""

    code = "out_of_memory"
    next_step = "Send fewer rows at a time; gradients accumulate until optim_step."


class WorkerKilledError(OperationFailedError):
    """Each time that the operation was executed, its worker's process died."""

    code = "worker_killed"
    next_step = "Send fewer rows or shorter sequences: most often there was no memory for so many."


class BatchLostError(OperationFailedError):
    """The server was restarted before it used this data, which it keeps in memory only."""

    code = "batch_lost"
    next_step = "Send it again."


class ModelChangedError(OperationFailedError):
    """The model's files are not those that the run was created on."""

    code = "model_changed"
    next_step = "Ask the operator to restore the model's files."


class InternalServerError(OperationFailedError):
    """The trainer failed in a way that nobody foresaw."""

    code = "internal_error"
    next_step = "Ask the server's operator to look at the trainer's log."


class ResultExpiredError(OperationFailedError):
    """The operation was done, and its private result is no longer kept."""

    code = "result_expired"
    next_step = "Sample again, and fetch the result within an hour and before the server restarts."


class CheckpointError(OperationFailedError):
    """A checkpoint cannot be used."""

    code = "checkpoint_unusable"
    next_step = "Load another checkpoint."


class CheckpointDamagedError(CheckpointError):
    """Its bytes are not those that were signed."""

    code = "checkpoint_damaged"


class CheckpointTruncatedError(CheckpointError):
    """Its end is missing."""

    code = "checkpoint_truncated"


class CheckpointWrongKeyError(CheckpointError):
    """It is sealed with another tenant's key."""

    code = "checkpoint_wrong_key"


class CheckpointMismatchError(CheckpointError):
    """It belongs to another model or another adapter shape."""

    code = "checkpoint_mismatch"
    next_step = "Create a training client with the model and lora_config of the checkpoint."


class ResultDamagedError(OperationFailedError):
    """The operation was done, and its private result no longer opens."""

    code = "result_damaged"
    next_step = "Send the operation again; tell the operator to look at the file system."


class BaseModelGoneError(OperationFailedError):
    """The base model of the run is no longer in the catalogue."""

    code = "model_unknown"
    next_step = "Ask the operator to register the base model again."


class TenantKeyLostError(OperationFailedError):
    """The tenant's key does not open."""

    code = "key_lost"
    next_step = "Ask the operator to restore the installation's keys."


class RecipientUnknownError(OperationFailedError):
    """A recipient of a package is no device of the tenant."""

    code = "recipient_unknown"
    next_step = "Enrol the device, then ask for another package."


class NothingToPackageError(OperationFailedError):
    """The checkpoint holds all weights of its model, and no adapter."""

    code = "nothing_to_package"
    next_step = "Package a checkpoint of a LoRA run."


class CheckpointFilesGoneError(CheckpointError):
    """The checkpoint's files are gone."""

    code = "blob_not_found"
