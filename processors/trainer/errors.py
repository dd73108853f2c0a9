"""Why an operation of a run could not be executed. The codes are those that ``FailOperation`` carries."""

from __future__ import annotations

from processors.errors import ProcessorError


class OperationFailedError(ProcessorError):
    """An operation ends without effect; every other run goes on."""

    code = "internal_error"
    next_step = "Send it again; if it stays so, look at the server's log."


class NonFiniteLossError(OperationFailedError):
    """A loss or gradient is not a finite number; nothing was accumulated."""

    code = "non_finite_loss"
    next_step = "Lower the learning rate, or load an earlier checkpoint."


class TokenOutOfVocabularyError(OperationFailedError):
    """A token id that the model does not have."""

    code = "token_out_of_vocabulary"
    next_step = "Tokenise with the tokenizer of this very model."


class SequenceTooLongError(OperationFailedError):
    """A row or prompt has more tokens than the model has positions."""

    code = "sequence_too_long"
    next_step = "Cut it to the model's max_positions."


class ChatTemplateError(OperationFailedError):
    """Messages that the model's chat template does not take, or a model without one."""

    code = "chat_template_refused"
    next_step = "Send the roles and their order that the model's template knows, or prompts instead of messages."


class OutOfMemoryError(OperationFailedError):
    """The machine has no memory left for this operation."""

    code = "out_of_memory"
    next_step = "Send smaller batches and accumulate more of them."


class EmptyGradientError(OperationFailedError):
    """A step without any accumulated gradient."""

    code = "empty_gradient"
    next_step = "Send a forward_backward that completes before the step."


class BatchLostError(OperationFailedError):
    """The input is no longer in memory, or is not the one that was committed to."""

    code = "batch_lost"
    next_step = "Send the batch again."


class CheckpointMismatchError(OperationFailedError):
    """A checkpoint of another base model, another LoRA shape, or without what was asked of it."""

    code = "checkpoint_mismatch"
    next_step = "Load a checkpoint of a run with the same model and LoRA settings."


class StorageFullError(OperationFailedError):
    """No space is left for a checkpoint."""

    code = "storage_full"
    next_step = "Free space in the data dir, then save again."


class AccumulationError(OperationFailedError):
    """The run was created for an exact number of batches per step, and this is not it."""

    code = "accumulation_incomplete"
    next_step = "Send as many forward_backward before each step as the run was created for."

    @classmethod
    def incomplete(cls, batches: int, wanted: int | None) -> AccumulationError:
        """Too few are accumulated for a step."""
        return cls(f"A step of this run takes {wanted} batches; {batches} are accumulated.")

    @classmethod
    def full(cls, wanted: int) -> AccumulationError:
        """No further one is taken before a step."""
        error = cls(f"A step of this run takes {wanted} batches, which are accumulated.")
        error.code = "accumulation_full"
        return error


class MaxStepsError(OperationFailedError):
    """The run has all the steps that it was created with."""

    code = "max_steps_reached"
    next_step = "Create a run with a higher max_steps."
