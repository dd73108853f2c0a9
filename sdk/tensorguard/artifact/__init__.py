"""Sealed artifacts: checkpoints as three blobs — signed manifest, its signature, encrypted payload."""

from tensorguard.artifact.errors import (
    ArtifactError,
    CheckpointDamagedError,
    CheckpointTruncatedError,
    CheckpointWrongKeyError,
)
from tensorguard.artifact.manifest import ArtifactManifest, ArtifactSubject, LoraSettings, OptimizerSettings
from tensorguard.artifact.opening import open_artifact, read_manifest
from tensorguard.artifact.sealing import SealedArtifact, seal_artifact
from tensorguard.artifact.store import ArtifactStore, artifact_prefix

__all__ = [
    "ArtifactError",
    "ArtifactManifest",
    "ArtifactStore",
    "ArtifactSubject",
    "CheckpointDamagedError",
    "CheckpointTruncatedError",
    "CheckpointWrongKeyError",
    "LoraSettings",
    "OptimizerSettings",
    "SealedArtifact",
    "artifact_prefix",
    "open_artifact",
    "read_manifest",
    "seal_artifact",
]
