"""Every event, by the aggregate it belongs to."""

from schemas.events.chain import ChainOpened, SchemaRegistered, EpochOpened, CommandRejected
from schemas.events.identity import ProducerEnrolled, ProducerRevoked, ApiKeyIssued, ApiKeyRevoked, SignerKeyPublished, SignerKeyRotated, ArtifactKeyPublished
from schemas.events.catalogue import ModelRegistered
from schemas.events.run import RunCreated, RunLeaseGranted, RunRolledBack, ForwardBackwardSubmitted, ForwardBackwardCompleted, OptimStepSubmitted, StepApplied, SampleSubmitted, SampleCompleted, SaveStateSubmitted, CheckpointSaved, LoadStateSubmitted, CheckpointLoaded, OperationFailed, CancellationRequested, OperationCancelled, RunClosed
from schemas.events.package import PackageRequested, PackageSigned, PackageFailed, PackageOpened

__all__ = ["ApiKeyIssued", "ApiKeyRevoked", "ArtifactKeyPublished", "CancellationRequested", "ChainOpened", "CheckpointLoaded", "CheckpointSaved", "CommandRejected", "EpochOpened", "ForwardBackwardCompleted", "ForwardBackwardSubmitted", "LoadStateSubmitted", "ModelRegistered", "OperationCancelled", "OperationFailed", "OptimStepSubmitted", "PackageFailed", "PackageOpened", "PackageRequested", "PackageSigned", "ProducerEnrolled", "ProducerRevoked", "RunClosed", "RunCreated", "RunLeaseGranted", "RunRolledBack", "SampleCompleted", "SampleSubmitted", "SaveStateSubmitted", "SchemaRegistered", "SignerKeyPublished", "SignerKeyRotated", "StepApplied"]
