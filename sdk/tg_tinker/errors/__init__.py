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
DataError                 correct the file at the line that the message names                          2
FutureTimeoutError        wait longer; the operation goes on                                        8
OperationFailedError      the operation ended without effect; the run itself goes on                1
========================  =======================================================================  =========
"""

from __future__ import annotations

from tg_tinker.errors.access import (
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    UnknownArtifactError,
    UnknownExportError,
    UnknownFutureError,
    UnknownModelError,
    UnknownPackageError,
    UnknownSamplerError,
    UnknownTrainingClientError,
)
from tg_tinker.errors.base import (
    ClientClosedError,
    CommitmentMismatchError,
    ConfigurationError,
    DownloadDamagedError,
    FutureTimeoutError,
    ProtocolError,
    TargetExistsError,
    TGTinkerError,
    UntrustedServerError,
)
from tg_tinker.errors.data import (
    ChatTemplateError,
    DataError,
    DataFileError,
    EmptyDataError,
    MalformedChatError,
    MalformedLineError,
    MissingExtraError,
    MissingFieldError,
    TokenizerChangedError,
    TokenizerError,
)
from tg_tinker.errors.outcomes import (
    BatchLostError,
    CancelledError,
    CheckpointDamagedError,
    CheckpointError,
    CheckpointMismatchError,
    CheckpointTruncatedError,
    CheckpointWrongKeyError,
    EmptyGradientError,
    InternalServerError,
    ModelChangedError,
    NonFiniteLossError,
    OperationFailedError,
    ResultExpiredError,
    WorkerOutOfMemoryError,
)
from tg_tinker.errors.problems import (
    BY_CODE,
    from_problem,
)
from tg_tinker.errors.requests import (
    BatchTooLargeError,
    ChatTemplateRefusedError,
    DPNotAvailableError,
    EmptyBatchError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    RaggedBatchError,
    SequenceTooLongError,
    TokenOutOfVocabularyError,
    WrongDtypeError,
)
from tg_tinker.errors.state import (
    AlreadyExistsError,
    ArtifactInUseError,
    ConflictError,
    ExportGoneError,
    ExportNotReadyError,
    MaxStepsReachedError,
    NothingToApplyError,
    NothingToExportError,
    OperationFinishedError,
    OperationLostError,
    PackageNotSignedError,
    RollbackError,
    RunClosedError,
    RunRolledBackError,
    VersionConflictError,
)
from tg_tinker.errors.transient import (
    QuotaExceededError,
    ServerFailedError,
    ServerUnavailableError,
    ServerUnreachableError,
    StorageFullError,
    StreamGapError,
    TransientError,
)

__all__ = [
    "BY_CODE",
    "AlreadyExistsError",
    "ArtifactInUseError",
    "AuthenticationError",
    "BatchLostError",
    "BatchTooLargeError",
    "CancelledError",
    "ChatTemplateError",
    "ChatTemplateRefusedError",
    "CheckpointDamagedError",
    "CheckpointError",
    "CheckpointMismatchError",
    "CheckpointTruncatedError",
    "CheckpointWrongKeyError",
    "ClientClosedError",
    "CommitmentMismatchError",
    "ConfigurationError",
    "ConflictError",
    "DPNotAvailableError",
    "DataError",
    "DataFileError",
    "DownloadDamagedError",
    "EmptyBatchError",
    "EmptyDataError",
    "EmptyGradientError",
    "ExportGoneError",
    "ExportNotReadyError",
    "FutureTimeoutError",
    "IdempotencyKeyReusedError",
    "InternalServerError",
    "InvalidRequestError",
    "MalformedChatError",
    "MalformedLineError",
    "MaxStepsReachedError",
    "MissingExtraError",
    "MissingFieldError",
    "ModelChangedError",
    "NonFiniteLossError",
    "NotFoundError",
    "NothingToApplyError",
    "NothingToExportError",
    "OperationFailedError",
    "OperationFinishedError",
    "OperationLostError",
    "PackageNotSignedError",
    "PermissionDeniedError",
    "ProtocolError",
    "QuotaExceededError",
    "RaggedBatchError",
    "ResultExpiredError",
    "RollbackError",
    "RunClosedError",
    "RunRolledBackError",
    "SequenceTooLongError",
    "ServerFailedError",
    "ServerUnavailableError",
    "ServerUnreachableError",
    "StorageFullError",
    "StreamGapError",
    "TGTinkerError",
    "TargetExistsError",
    "TokenOutOfVocabularyError",
    "TokenizerChangedError",
    "TokenizerError",
    "TransientError",
    "UnknownArtifactError",
    "UnknownExportError",
    "UnknownFutureError",
    "UnknownModelError",
    "UnknownPackageError",
    "UnknownSamplerError",
    "UnknownTrainingClientError",
    "UntrustedServerError",
    "VersionConflictError",
    "WorkerOutOfMemoryError",
    "WrongDtypeError",
    "from_problem",
]
