"""One operation of a run: from what was submitted to the command that reports its outcome."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from processors.exchange.errors import ExchangeAwayError
from processors.trainer.batch import parse_batch
from processors.trainer.checkpoints import take_image
from processors.trainer.compute import Gradient, Step, forward, forward_backward, optim_step
from processors.trainer.errors import AccumulationError, MaxStepsError, OperationFailedError
from processors.trainer.failures import CANCELLED, failure, failure_of
from processors.trainer.plan import execution_plan
from processors.trainer.sampling import SampleInput, SampleJob
from processors.trainer.seeds import operation_seed
from schemas import commands as c
from schemas import events as e

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase
    from processors.trainer.beside import Beside
    from processors.trainer.checkpoints import Checkpoints
    from processors.trainer.live import Adapters, LiveRun
    from processors.trainer.runs import Pending
    from processors.trainer.sampling import Finished
    from schemas.base import Command
    from schemas.types import ExecutionPlan

ARTIFACT_ID_BYTES = 16
Started: TypeAlias = "tuple[SharedBase, SampleJob, Callable[[Finished], Command]]"


class Operations:
    """Executes operations. ``random_bytes`` gives artifact ids, ``clock`` microseconds."""

    def __init__(
        self,
        adapters: Adapters,
        checkpoints: Checkpoints,
        beside: Beside,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._adapters = adapters
        self._checkpoints = checkpoints
        self._beside = beside
        self._clock = clock
        self._random_bytes = random_bytes

    def execute(self, live: LiveRun, pending: Pending) -> Command:
        """What to report of any operation but a sample.

        Whatever goes wrong with it ends here, and is its failure alone.

        Raises:
            ExchangeAwayError: the server is gone, and nothing matters any more.
        """
        if pending.cancelling:
            return self.cancelled(live, pending)
        try:
            return self._executed(live, pending)
        except ExchangeAwayError:
            raise
        except Exception as error:  # noqa: BLE001 -- an operation's fault must not reach another run
            return self.failed(live, pending, error)

    def _executed(self, live: LiveRun, pending: Pending) -> Command:
        match pending.submitted:
            case e.ForwardBackwardSubmitted() as event:
                return self._forward_backward(live, event)
            case e.ForwardSubmitted() as event:
                return self._forward(live, event)
            case e.OptimStepSubmitted() as event:
                return self._optim_step(live, event)
            case e.SaveStateSubmitted() as event:
                return self._save_state(live, event)
            case e.LoadStateSubmitted() as event:
                return self._load_state(live, event)
        raise OperationFailedError("This build does not know such an operation.")

    def sample_of(self, live: LiveRun, pending: Pending) -> Started | Command:
        """The base model and the job of a sample, and what makes its outcome of the job's end; or why there is none.

        Raises:
            ExchangeAwayError: the server is gone, and nothing matters any more.
        """
        if pending.cancelling:
            return self.cancelled(live, pending)
        try:
            return self._started(live, pending, pending.submitted)
        except ExchangeAwayError:
            raise
        except Exception as error:  # noqa: BLE001 -- an operation's fault must not reach another run
            return self.failed(live, pending, error)

    def _started(self, live: LiveRun, pending: Pending, event: e.SampleSubmitted) -> Started:
        asked = SampleInput.parse(self._beside.input(live.view, event, event.prompts_commitment))
        base, name, step = self._adapters.serving(live)
        seed = operation_seed(live.view.created.seed, event.op_seq) if event.seed is None else event.seed
        owner = (live.view.chain, live.view.run_id)
        job = SampleJob(event.operation_id, name, asked.encoded(base), asked.sampling(event, seed), owner=owner)

        def report(finished: Finished) -> Command:
            try:
                samples = asked.samples(finished.completions)
                commitment = self._beside.hand_over(live.view, event.operation_id, "samples", samples)
            except ExchangeAwayError:
                raise
            except Exception as error:  # noqa: BLE001 -- as above
                return self.failed(live, pending, error)
            return c.CompleteSample(
                event.run_id, event.operation_id, live.lease_epoch, commitment, finished.tokens, step
            )

        return base, job, report

    def cancelled(self, live: LiveRun, pending: Pending) -> Command:
        """What to report of an operation that was dropped."""
        return failure(live, pending, CANCELLED)

    def failed(self, live: LiveRun, pending: Pending, error: Exception) -> Command:
        """What to report of an operation that an error ended."""
        return failure_of(live, pending, error)

    # What changes a run's state, as it is done for the first time and when it is done again.

    def accumulate(self, live: LiveRun, event: e.ForwardBackwardSubmitted) -> Gradient:
        """Add a batch's gradient."""
        rows = parse_batch(self._beside.input(live.view, event, event.batch_commitment))
        return forward_backward(self._adapters.of(live), rows, operation_seed(live.view.created.seed, event.op_seq))

    def step(self, live: LiveRun, event: e.OptimStepSubmitted) -> tuple[Adapter, Step, ExecutionPlan]:
        """Apply the accumulated gradient."""
        adapter = self._adapters.of(live)
        plan = execution_plan(adapter, max(1, adapter.micro_batches))
        return adapter, optim_step(adapter, event.op_seq, event.learning_rate, event.max_grad_norm), plan

    def load(self, live: LiveRun, event: e.LoadStateSubmitted) -> Adapter:
        """Become what a checkpoint holds."""
        return self._adapters.loaded(
            live,
            event.artifact_id,
            event.op_seq,
            include_optimizer=event.include_optimizer,
            manifest_digest=event.manifest_digest,
        )

    # What is reported.

    def _forward_backward(self, live: LiveRun, event: e.ForwardBackwardSubmitted) -> Command:
        wanted, adapter = live.view.created.gradient_accumulation_steps, self._adapters.of(live)
        if wanted is not None and adapter.calls >= wanted:
            raise AccumulationError.full(wanted)
        done = self.accumulate(live, event)
        return c.CompleteForwardBackward(
            event.run_id, event.operation_id, live.lease_epoch, done.loss, done.grad_norm, done.tokens
        )

    def _forward(self, live: LiveRun, event: e.ForwardSubmitted) -> Command:
        rows = parse_batch(self._beside.input(live.view, event, event.batch_commitment))
        adapter = self._adapters.of(live)
        found = forward(adapter.base, adapter.name, rows)
        commitment = self._beside.hand_over(live.view, event.operation_id, "logprobs", found.logprobs)
        return c.CompleteForward(
            event.run_id, event.operation_id, live.lease_epoch, found.loss, found.tokens, adapter.step, commitment
        )

    def _optim_step(self, live: LiveRun, event: e.OptimStepSubmitted) -> Command:
        self._check_step(live)
        adapter, done, plan = self.step(live, event)
        return c.RecordStep(
            event.run_id,
            event.operation_id,
            live.lease_epoch,
            adapter.step,
            done.learning_rate,
            adapter.digest(),
            plan,
            done.grad_norm,
            done.clipped,
        )

    def _check_step(self, live: LiveRun) -> None:
        """Hold a step to what the ledger would say of it: an earlier operation may have failed since it was queued."""
        run, adapter = live.view.created, self._adapters.of(live)
        if adapter.calls and run.gradient_accumulation_steps not in (None, adapter.calls):
            raise AccumulationError.incomplete(adapter.calls, run.gradient_accumulation_steps)
        if run.max_steps is not None and adapter.step >= run.max_steps:
            raise MaxStepsError(f"The run was created with {run.max_steps} steps.")

    def _save_state(self, live: LiveRun, event: e.SaveStateSubmitted) -> Command:
        adapter = self._adapters.of(live)
        image = take_image(
            adapter,
            live.view.created,
            tenant=live.view.chain,
            artifact_id=self._random_bytes(ARTIFACT_ID_BYTES),
            created_at=self._clock(),
            lease_epoch=live.lease_epoch,
            include_optimizer=event.include_optimizer,
            operation_id=event.operation_id,
            name=event.name,
        )
        return self._checkpoints.save(image)

    def _load_state(self, live: LiveRun, event: e.LoadStateSubmitted) -> Command:
        adapter = self.load(live, event)
        return c.RecordCheckpointLoaded(
            event.run_id, event.operation_id, live.lease_epoch, event.artifact_id, adapter.step, adapter.digest()
        )
