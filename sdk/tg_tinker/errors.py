"""Every error that the training client raises on purpose: one tree, one class per meaning, a stable code on each.

The server names what is wrong by a code, in a problem document (RFC 9457) or in the error of a future;
:func:`from_problem` turns it into the class of that code, or of its family when this version does not know the code.
Families say what a caller can do:

========================  =======================================================================  =========
family                    what to do                                                               exit code
========================  =======================================================================  =========
ConfigurationError        set the environment variable or argument that the message names          2
InvalidRequestError       change the request; sending it again gives the same error                 2
AuthenticationError       use another key (PermissionDeniedError: this key may not do that)         3
NotFoundError             ask for something that exists, of your own tenant                         4
ConflictError             look at the run's state; the request came too late or too early           5
RollbackError             go on from ``last_durable_step``; what came after it is lost              6
TransientError            try again later; the client itself has already tried for a while          7
FutureTimeoutError        wait longer; the operation goes on                                        8
OperationFailedError      the operation ended without effect; the run itself goes on                1
========================  =======================================================================  =========
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tensorguard.errors import TensorGuardError


class TGTinkerError(TensorGuardError):
    """Base of every error of the training client.

    Attributes: ``code``, ``detail``, ``next_step``; ``status`` is the HTTP status, None when the error is local or a
    future's; ``problem`` is the server's whole document.
    """

    code = "tg_tinker_error"

    def __init__(
        self,
        detail: str,
        *,
        next_step: str | None = None,
        code: str | None = None,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail, next_step=next_step)
        self.code = code or type(self).code
        self.status = status
        self.problem = dict(problem or {})


class ConfigurationError(TGTinkerError):
    """The client does not know where the server is, or has no key."""

    code = "configuration"
    exit_code = 2


class ClientClosedError(TGTinkerError):
    """The client was closed while, or before, it was used."""

    code = "client_closed"
    next_step = "Open a new ServiceClient."


class ProtocolError(TGTinkerError):
    """The answer is none that this client understands."""

    code = "protocol_error"
    next_step = "Check that the base URL is that of a TensorGuardFlow server of this client's version."


class CommitmentMismatchError(TGTinkerError):
    """The server's ledger refers to other data than was sent."""

    code = "commitment_mismatch"
    next_step = "Do not trust this server with data; keep the future id and ask its operator."


class AuthenticationError(TGTinkerError):
    """The key is missing, unknown or revoked."""

    code = "unauthenticated"
    exit_code = 3
    next_step = "Set TG_TINKER_API_KEY to a key of `tensorguard keys issue`."


class PermissionDeniedError(AuthenticationError):
    """The key is good, and may not do this."""

    code = "forbidden"
    next_step = "Use a key of the tenant that owns this."


class NotFoundError(TGTinkerError):
    """Nothing of this name is visible to this key."""

    code = "not_found"
    exit_code = 4
    next_step = "Check the id; things of other tenants look as if they did not exist."


class UnknownModelError(NotFoundError):
    """The catalogue has no such model."""

    code = "unknown_model"
    next_step = "Use a name of the catalogue; an operator adds one with `tensorguard models add NAME PATH`."


class UnknownFutureError(NotFoundError):
    """There is no such operation."""

    code = "unknown_future"


class UnknownTrainingClientError(NotFoundError):
    """There is no such training run."""

    code = "unknown_training_client"


class UnknownArtifactError(NotFoundError):
    """There is no such checkpoint."""

    code = "unknown_artifact"


class UnknownPackageError(NotFoundError):
    """There is no such package."""

    code = "unknown_package"


class ConflictError(TGTinkerError):
    """The request does not fit the state of what it names."""

    code = "conflict"
    exit_code = 5
    next_step = "Read the run's state again, and decide anew."


class VersionConflictError(ConflictError):
    """Somebody else changed it in between."""

    code = "version_conflict"


class RunClosedError(ConflictError):
    """The run takes no more operations."""

    code = "run_closed"
    next_step = "Create a new training client and load the checkpoint you want to go on from."


class AlreadyExistsError(ConflictError):
    """The name is taken."""

    code = "already_exists"


class MaxStepsReachedError(ConflictError):
    """The run has made all the steps that its configuration allows."""

    code = "max_steps_reached"
    next_step = "Create a new training client with a larger max_steps and load the checkpoint."


class NothingToApplyError(ConflictError):
    """An optimiser step without a gradient."""

    code = "nothing_to_apply"
    next_step = "Call forward_backward first."


class OperationFinishedError(ConflictError):
    """The operation has finished."""

    code = "operation_finished"
    next_step = "Read its result."


class PackageNotSignedError(ConflictError):
    """The package is still being made, or could not be made."""

    code = "package_not_signed"
    next_step = "Wait for it; if it failed, ask for another."


class InvalidRequestError(TGTinkerError):
    """The request itself is wrong."""

    code = "invalid_request"
    exit_code = 2
    next_step = "Correct the field that the message names."


class EmptyBatchError(InvalidRequestError):
    """A batch without rows or without tokens."""

    code = "empty_batch"
    next_step = "Send at least one row with at least one token."


class RaggedBatchError(InvalidRequestError):
    """Rows or fields of different lengths."""

    code = "ragged_batch"
    next_step = "Pad the rows to one length: attention_mask 0 and labels -100 where there is padding."


class TokenOutOfVocabularyError(InvalidRequestError):
    """A token id that the model does not have."""

    code = "token_out_of_vocabulary"
    next_step = "Use the tokenizer of this very model."


class WrongDtypeError(InvalidRequestError):
    """Something else than whole numbers where token ids belong."""

    code = "wrong_dtype"
    next_step = "Send integers: .astype('int64') in numpy, .long() in torch."


class SequenceTooLongError(InvalidRequestError):
    """More tokens in a row than the model has positions."""

    code = "sequence_too_long"
    next_step = "Cut the rows to the model's max_positions."


class BatchTooLargeError(InvalidRequestError):
    """More tokens than one operation may have."""

    code = "batch_too_large"
    next_step = "Send the rows in several forward_backward calls before one optim_step."


class DPNotAvailableError(InvalidRequestError):
    """This server trains without differential privacy; it refuses rather than ignores the request."""

    code = "dp_not_available"
    next_step = "Leave dp_config out, if training without differential privacy is acceptable."


class FullFineTuningUnsupportedError(InvalidRequestError):
    """This server trains adapters only."""

    code = "full_fine_tuning_unsupported"
    next_step = "Give a lora_config."


class IdempotencyKeyReusedError(InvalidRequestError):
    """An Idempotency-Key came with two different requests."""

    code = "idempotency_key_reused"
    next_step = "Use a new key for a new request."


class RollbackError(TGTinkerError):
    """The run stands at its last durable step; what was acknowledged after it is lost.

    Attributes: ``last_durable_step``; ``artifact_id`` of the checkpoint that the run stands on (None: its beginning);
    ``generation`` of the run from now on; ``lost_operations``, a number. Each None where the server does not say.
    """

    code = "rolled_back"
    exit_code = 6
    next_step = "Send again what came after the last durable step."

    @property
    def last_durable_step(self) -> int | None:
        """The optimiser step that the run stands at."""
        return _whole(self.problem.get("last_durable_step"))

    @property
    def artifact_id(self) -> str | None:
        """The checkpoint that the run stands on; None is its beginning."""
        value = self.problem.get("artifact_id")
        return value if isinstance(value, str) else None

    @property
    def generation(self) -> int | None:
        """How often the run has been rolled back."""
        return _whole(self.problem.get("generation"))

    @property
    def lost_operations(self) -> int | None:
        """How many operations were lost."""
        return _whole(self.problem.get("lost_operations"))


class RunRolledBackError(RollbackError):
    """The run was rolled back since the last call; raised once, and the next call goes on from the durable step."""

    code = "run_rolled_back"


class OperationLostError(RollbackError):
    """This operation was accepted, and lost in a rollback."""

    code = "operation_lost"


class TransientError(TGTinkerError):
    """It may work later; the client has already tried for as long as its retry policy says."""

    code = "transient"
    exit_code = 7
    next_step = "Try again later."


class ServerUnreachableError(TransientError):
    """No answer came."""

    code = "connection_failed"
    next_step = "Check the base URL, and that the server runs: its /readyz answers when it is ready."


class ServerUnavailableError(TransientError):
    """The server cannot write its ledger now."""

    code = "ledger_unavailable"


class ServerFailedError(TransientError):
    """The server failed without saying why."""

    code = "server_error"
    next_step = "Try again; if it stays so, ask the server's operator to look at its log."


class StorageFullError(TransientError):
    """The server's disk is full."""

    code = "storage_full"
    next_step = "Ask the server's operator for space; nothing that was acknowledged is lost."


class QuotaExceededError(TransientError):
    """Too much is queued or in flight."""

    code = "quota_exceeded"
    next_step = "Wait for results before sending more."


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


class FutureTimeoutError(TGTinkerError, TimeoutError):
    """The time given to wait is over; the operation goes on."""

    code = "future_timeout"
    exit_code = 8
    next_step = "Call result() again, with more time."


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _classes(root: type[TGTinkerError]) -> Iterator[type[TGTinkerError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


BY_CODE: Mapping[str, type[TGTinkerError]] = {cls.code: cls for cls in _classes(TGTinkerError)}
"""The class of each code."""

_BY_STATUS: Mapping[int, type[TGTinkerError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: InvalidRequestError,
    429: QuotaExceededError,
    503: ServerUnavailableError,
    507: StorageFullError,
}


def from_problem(problem: Mapping[str, Any], status: int | None = None) -> TGTinkerError:
    """The error that a problem document, or the error of a future, describes.

    A code that this version does not know becomes the error of its family, by the HTTP status; the code is kept.
    """
    code = str(problem.get("code") or "")
    detail = str(problem.get("detail") or problem.get("title") or "The server gave no reason.")
    next_step = problem.get("next_step")
    kind = BY_CODE.get(code) or _family(status)
    return kind(
        detail,
        next_step=next_step if isinstance(next_step, str) else None,
        code=code or None,
        status=status,
        problem=problem,
    )


def _family(status: int | None) -> type[TGTinkerError]:
    if status is None:
        return OperationFailedError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ServerFailedError if status >= 500 else InvalidRequestError  # noqa: PLR2004
