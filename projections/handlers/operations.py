"""The operations of runs: what was asked, and what became of it."""

from __future__ import annotations

from typing import Any

from producers.feed import Recorded
from projections.handlers.registry import Handlers, View
from projections.handlers.rows import CANCELLED, FAILED, complete, fail, operation_of, run_of, submit
from schemas import events

HANDLERS = Handlers()


@HANDLERS.on(events.ForwardBackwardSubmitted)
def forward_backward_submitted(view: View, at: Recorded, event: events.ForwardBackwardSubmitted) -> None:
    """A batch waits."""
    submit(view, at, event, "forward_backward", _batch(event))


@HANDLERS.on(events.ForwardSubmitted)
def forward_submitted(view: View, at: Recorded, event: events.ForwardSubmitted) -> None:
    """A batch waits to be evaluated."""
    submit(view, at, event, "forward", _batch(event))


def _batch(event: events.ForwardBackwardSubmitted | events.ForwardSubmitted) -> dict[str, Any]:
    return {
        "commitment": event.batch_commitment.hex(),
        "rows": event.rows,
        "tokens": event.tokens,
        "interval": event.interval,
    }


@HANDLERS.on(events.OptimStepSubmitted)
def optim_step_submitted(view: View, at: Recorded, event: events.OptimStepSubmitted) -> None:
    """A step waits."""
    parameters = {"learning_rate": event.learning_rate, "max_grad_norm": event.max_grad_norm}
    submit(view, at, event, "optim_step", parameters)


@HANDLERS.on(events.SampleSubmitted)
def sample_submitted(view: View, at: Recorded, event: events.SampleSubmitted) -> None:
    """Prompts wait."""
    parameters = {
        "commitment": event.prompts_commitment.hex(),
        "prompts": event.prompts,
        "max_tokens": event.max_tokens,
        "temperature": event.temperature,
        "top_p": event.top_p,
        "top_k": event.top_k,
        "min_p": event.min_p,
        "repetition_penalty": event.repetition_penalty,
        "completions": event.completions,
        "logprobs": event.logprobs,
        "seed": event.seed,
        "interval": event.interval,
    }
    submit(view, at, event, "sample", parameters)


@HANDLERS.on(events.SaveStateSubmitted)
def save_state_submitted(view: View, at: Recorded, event: events.SaveStateSubmitted) -> None:
    """A checkpoint waits."""
    submit(view, at, event, "save_state", {"name": event.name, "include_optimizer": event.include_optimizer})


@HANDLERS.on(events.LoadStateSubmitted)
def load_state_submitted(view: View, at: Recorded, event: events.LoadStateSubmitted) -> None:
    """A load waits."""
    parameters = {
        "artifact_id": event.artifact_id.hex(),
        "include_optimizer": event.include_optimizer,
        "step": event.step,
    }
    submit(view, at, event, "load_state", parameters)


@HANDLERS.on(events.ForwardBackwardCompleted)
def forward_backward_completed(view: View, at: Recorded, event: events.ForwardBackwardCompleted) -> None:
    """A gradient is accumulated."""
    result = {"loss": event.loss, "grad_norm": event.grad_norm, "tokens_processed": event.tokens}
    complete(view, at, event.operation_id, result)


@HANDLERS.on(events.ForwardCompleted)
def forward_completed(view: View, at: Recorded, event: events.ForwardCompleted) -> None:
    """A batch is evaluated; its log-probabilities exist beside the ledger."""
    result = {
        "commitment": event.logprobs_commitment.hex(),
        "loss": event.loss,
        "tokens_processed": event.tokens,
        "model_step": event.step,
    }
    complete(view, at, event.operation_id, result)


@HANDLERS.on(events.StepApplied)
def step_applied(view: View, at: Recorded, event: events.StepApplied) -> None:
    """The adapter moved."""
    run_of(view, at, event.run_id).step = event.step
    result = {
        "step": event.step,
        "learning_rate": event.learning_rate,
        "grad_norm": event.grad_norm,
        "clipped": event.clipped,
        "adapter_digest": event.adapter_digest.hex(),
    }
    complete(view, at, event.operation_id, result)


@HANDLERS.on(events.SampleCompleted)
def sample_completed(view: View, at: Recorded, event: events.SampleCompleted) -> None:
    """Completions exist beside the ledger."""
    result = {
        "commitment": event.completions_commitment.hex(),
        "tokens_generated": event.tokens_generated,
        "model_step": event.step,
    }
    complete(view, at, event.operation_id, result)


@HANDLERS.on(events.OperationFailed)
def operation_failed(view: View, at: Recorded, event: events.OperationFailed) -> None:
    """An operation ended without effect."""
    fail(view, at, event.operation_id, FAILED, event.code)


@HANDLERS.on(events.OperationCancelled)
def operation_cancelled(view: View, at: Recorded, event: events.OperationCancelled) -> None:
    """An operation was dropped, or stopped before it had a result."""
    fail(view, at, event.operation_id, CANCELLED, CANCELLED)


@HANDLERS.on(events.CancellationRequested)
def cancellation_requested(view: View, at: Recorded, event: events.CancellationRequested) -> None:
    """The worker decides whether it still can."""
    operation = operation_of(view, at, event.operation_id)
    operation.cancel_requested = True
    operation.last_seq = at.seq
