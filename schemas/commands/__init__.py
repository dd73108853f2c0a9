"""Every command, by the aggregate it belongs to."""

from schemas.commands.identity import EnrolProducer, RevokeProducer, IssueApiKey, RevokeApiKey, PublishSignerKey, RotateSignerKey, PublishArtifactKey
from schemas.commands.catalogue import RegisterModel
from schemas.commands.run import CreateRun, GrantLease, SubmitForwardBackward, CompleteForwardBackward, SubmitOptimStep, RecordStep, SubmitSample, CompleteSample, SubmitSaveState, RecordCheckpoint, SubmitLoadState, RecordCheckpointLoaded, FailOperation, RequestCancellation, CloseRun
from schemas.commands.package import RequestPackage, RecordPackageSigned, FailPackage, RecordPackageOpened

__all__ = ["CloseRun", "CompleteForwardBackward", "CompleteSample", "CreateRun", "EnrolProducer", "FailOperation", "FailPackage", "GrantLease", "IssueApiKey", "PublishArtifactKey", "PublishSignerKey", "RecordCheckpoint", "RecordCheckpointLoaded", "RecordPackageOpened", "RecordPackageSigned", "RecordStep", "RegisterModel", "RequestCancellation", "RequestPackage", "RevokeApiKey", "RevokeProducer", "RotateSignerKey", "SubmitForwardBackward", "SubmitLoadState", "SubmitOptimStep", "SubmitSample", "SubmitSaveState"]
