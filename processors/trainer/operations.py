"""One operation of a run: from what was submitted to the command that reports its outcome."""

from __future__ import annotations

import json
import os
import traceback
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog
import torch
from tensorguard.commitment import CommitmentError, canonical, check, commit
from tensorguard.errors import TensorGuardError

from processors.channel import unpack_input
from processors.errors import ChannelClosedError
from processors.trainer.batch import parse_batch
from processors.trainer.checkpoints import take_image
from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.errors import BatchLostError, OperationFailedError
from processors.trainer.plan import execution_plan
from processors.trainer.sampling import SampleInput, SampleJob
from processors.trainer.seeds import operation_seed
from producers.deciders.values import FAILURES
from schemas import commands as c
from schemas import events as e

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.channel import ChannelClient
    from processors.trainer.base_model import SharedBase
    from processors.trainer.checkpoints import Checkpoints
    from processors.trainer.live import Adapters, LiveRun
    from processors.trainer.runs import Pending
    from processors.trainer.sampling import Finished
    from schemas.base import Command

ARTIFACT_ID_BYTES = 16
SALT_BYTES = 32
INTERNAL, OUT_OF_MEMORY, CANCELLED = "internal_error", "out_of_memory", "cancelled"
_ALLOCATION_FAILED = ("can't allocate memory", "out of memory")
log = structlog.get_logger(__name__)


Started: TypeAlias = "tuple[SharedBase, SampleJob, Callable[[Finished], Command]]"


class Operations:
    """Executes operations. ``random_bytes`` gives artifact ids and salts, ``clock`` microseconds."""

    def __init__(
        self,
        adapters: Adapters,
        checkpoints: Checkpoints,
        channel: ChannelClient,
        clock: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._adapters = adapters
        self._checkpoints = checkpoints
        self._channel = channel
        self._clock = clock
        self._random_bytes = random_bytes

    def execute(self, live: LiveRun, pending: Pending) -> Command:
        """What to report of any operation but a sample.

        Whatever goes wrong with it ends here, and is its failure alone.

        Raises:
            ChannelClosedError: the server is gone, and nothing matters any more.
        """
        if pending.cancelling:
            return _failure(live, pending, CANCELLED)
        try:
            return self._executed(live, pending)
        except ChannelClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - an operation's fault must not reach another run
            return self.failed(live, pending, error)

    def _executed(self, live: LiveRun, pending: Pending) -> Command:
        match pending.submitted:
            case e.ForwardBackwardSubmitted() as event:
                return self._forward_backward(live, event)
            case e.OptimStepSubmitted() as event:
                return self._optim_step(live, event)
            case e.SaveStateSubmitted() as event:
                return self._save_state(live, event)
            case e.LoadStateSubmitted() as event:
                return self._load_state(live, event)
        raise OperationFailedError("This build does not know such an operation.")

    def _forward_backward(self, live: LiveRun, event: e.ForwardBackwardSubmitted) -> Command:
        rows = parse_batch(self._input(event.operation_id, event.batch_commitment))
        seed = operation_seed(live.view.created.seed, event.op_seq)
        done = forward_backward(self._adapters.of(live), rows, seed)
        return c.CompleteForwardBackward(
            event.run_id, event.operation_id, live.lease_epoch, done.loss, done.grad_norm, done.tokens
        )

    def _optim_step(self, live: LiveRun, event: e.OptimStepSubmitted) -> Command:
        adapter = self._adapters.of(live)
        micro_batches = adapter.micro_batches
        done = optim_step(adapter, event.op_seq, event.learning_rate, event.max_grad_norm)
        return c.RecordStep(
            event.run_id,
            event.operation_id,
            live.lease_epoch,
            adapter.step,
            done.learning_rate,
            adapter.digest(),
            execution_plan(adapter, micro_batches),
            done.grad_norm,
            done.clipped,
        )

    def sample_of(self, live: LiveRun, pending: Pending) -> Started | Command:
        """The base model and the job of a sample, and what makes its outcome of the job's end; or why there is none.

        Raises:
            ChannelClosedError: the server is gone, and nothing matters any more.
        """
        if pending.cancelling:
            return self.cancelled(live, pending)
        try:
            return self._started(live, pending.submitted)
        except ChannelClosedError:
            raise
        except Exception as error:  # noqa: BLE001 - an operation's fault must not reach another run
            return self.failed(live, pending, error)

    def _started(self, live: LiveRun, event: e.SampleSubmitted) -> Started:
        asked = SampleInput.parse(self._input(event.operation_id, event.prompts_commitment))
        base, name, step = self._adapters.serving(live)
        seed = operation_seed(live.view.created.seed, event.op_seq) if event.seed is None else event.seed
        job = SampleJob(event.operation_id, name, asked.encoded(base), asked.sampling(event, seed))

        def report(finished: Finished) -> Command:
            commitment = self._hand_over(event.operation_id, asked.samples(finished.completions))
            return c.CompleteSample(
                event.run_id, event.operation_id, live.lease_epoch, commitment, finished.tokens, step
            )

        return base, job, report

    def cancelled(self, live: LiveRun, pending: Pending) -> Command:
        """What to report of an operation that was dropped."""
        return _failure(live, pending, CANCELLED)

    def failed(self, live: LiveRun, pending: Pending, error: Exception) -> Command:
        """What to report of an operation that an error ended."""
        code = failure_code(error)
        log.warning("operation_failed", run_id=live.view.run_id, op_seq=pending.op_seq, code=code, at=_place(error))
        return _failure(live, pending, code)

    def _hand_over(self, operation_id: bytes, samples: list[dict[str, Any]]) -> bytes:
        """Give completions to the server beside the ledger; the salted commitment to them."""
        salt = self._random_bytes(SALT_BYTES)
        self._channel.put_result(operation_id, json.dumps({"samples": samples, "salt": salt.hex()}).encode())
        return commit(salt, canonical(samples))

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
        adapter = self._adapters.loaded(
            live,
            event.artifact_id,
            event.op_seq,
            include_optimizer=event.include_optimizer,
            manifest_digest=event.manifest_digest,
        )
        return c.RecordCheckpointLoaded(
            event.run_id, event.operation_id, live.lease_epoch, event.artifact_id, adapter.step, adapter.digest()
        )

    def _input(self, operation_id: bytes, commitment: bytes) -> bytes:
        """The canonical bytes of an operation's input, which are those that the ledger commits to.

        Raises:
            BatchLostError: they are gone, or others.
        """
        data = self._channel.input(operation_id)
        if data is None:
            raise BatchLostError("The operation's input is no longer in memory.")
        salt, value = unpack_input(data)
        try:
            check(commitment, salt, value)
        except CommitmentError as error:
            raise BatchLostError("The operation's input is not the one that was committed to.") from error
        return value


def failure_code(error: Exception) -> str:
    """The code that an error is reported by."""
    if isinstance(error, TensorGuardError):
        return error.code if error.code in FAILURES else INTERNAL
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILED):
        return OUT_OF_MEMORY
    return INTERNAL


def _failure(live: LiveRun, pending: Pending, code: str) -> Command:
    return c.FailOperation(live.view.run_id, pending.operation_id, live.lease_epoch, code)


def _place(error: Exception) -> str:
    """Type and innermost line of an error; its text may hold what must not be logged."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "unknown"  # noqa: PTH119
    return f"{type(error).__name__} at {where}"
