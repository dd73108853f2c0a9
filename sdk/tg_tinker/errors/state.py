"""Requests that do not fit the state of what they name, and runs that were rolled back."""

from __future__ import annotations

from tg_tinker.errors.base import TGTinkerError


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


class ArtifactInUseError(ConflictError):
    """A run rests on the checkpoint."""

    code = "artifact_in_use"
    next_step = "Save a newer state with its optimizer, or close the run; then delete it."


class NothingToExportError(ConflictError):
    """The checkpoint holds all weights of its model, and no adapter."""

    code = "nothing_to_export"
    next_step = 'Export it with format="merged".'


class ExportNotReadyError(ConflictError):
    """The export is still being made, or could not be made."""

    code = "export_not_ready"
    next_step = "Wait for it; if it failed, ask for another."


class ExportGoneError(ConflictError):
    """The export's time was over, or it was deleted."""

    code = "export_gone"
    next_step = "Export the artifact again: the download goes on where it broke off."


class PackageNotSignedError(ConflictError):
    """The package is still being made, or could not be made."""

    code = "package_not_signed"
    next_step = "Wait for it; if it failed, ask for another."


class AccumulationFullError(ConflictError):
    """The batches of a step are there: the run takes exactly gradient_accumulation_steps."""

    code = "accumulation_full"
    next_step = "Call optim_step; or create a training client with another gradient_accumulation_steps."


class AccumulationIncompleteError(ConflictError):
    """A step lacks batches: the run takes exactly gradient_accumulation_steps."""

    code = "accumulation_incomplete"
    next_step = "Call forward_backward until there are so many, then optim_step."


class SamplingOnlyError(ConflictError):
    """A sampler was asked to train."""

    code = "sampling_only"
    next_step = "Create a training client; start_artifact_id lets it begin from the same checkpoint."


class ReplayingError(ConflictError):
    """The run is being computed again after a worker was lost."""

    code = "replaying"
    next_step = "Ask again in a moment; nothing is lost."


class IntervalOverError(ConflictError):
    """Durable states came faster than the server could seal the data."""

    code = "interval_over"
    next_step = "Send it again."


class OutOfOrderError(ConflictError):
    """The run had gone on when the request was decided."""

    code = "out_of_order"


class ExportDamagedError(ConflictError):
    """The export's files on the server are not what its ledger names."""

    code = "export_damaged"
    next_step = "Export the artifact again."


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


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
