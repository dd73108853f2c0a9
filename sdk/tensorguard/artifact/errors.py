"""Why a sealed artifact does not open."""

from __future__ import annotations

from tensorguard.errors import TensorGuardError


class ArtifactError(TensorGuardError):
    """Base of the errors of sealed artifacts."""

    code = "artifact_error"


class CheckpointDamagedError(ArtifactError):
    """Bytes are not the ones that were signed: changed, exchanged, or missing as a whole."""

    code = "checkpoint_damaged"
    next_step = "Load another checkpoint, or restore this one's files from a backup; nothing of it was used."


class CheckpointTruncatedError(ArtifactError):
    """A file of the artifact ends too early."""

    code = "checkpoint_truncated"
    next_step = "Copy the file again from its source or a backup; an interrupted copy is the usual cause."


class CheckpointWrongKeyError(ArtifactError):
    """The artifact belongs to another tenant, or was signed by a key that is not trusted here."""

    code = "checkpoint_wrong_key"
    next_step = "Use the tenant that saved it, on the installation that signed it; keys are never shared."
