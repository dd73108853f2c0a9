"""A training run: a few primitives, each of which is accepted at once and finishes later.

The run executes its operations strictly in the order in which they were accepted, so a loop may send the next batch
before it reads the result of the last. After a crash the server does again what no checkpoint covers, and calls and
futures go on as if nothing had happened. Where it cannot (``batch_retention="memory"``, or inputs that are damaged) the
run stands at its last durable step: the next call raises :class:`RunRolledBackError` once; a lost future raises
:class:`OperationLostError`. Both name that step, and both move this client to the run's new generation: the caller
sends again what was lost and goes on.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from tg_tinker import exports, flows, operations, telemetry, tokenizer_cache
from tg_tinker.batches import Batch
from tg_tinker.errors import RollbackError, TGTinkerError
from tg_tinker.flows import Flow
from tg_tinker.futures import AsyncFutureHandle, FutureHandle
from tg_tinker.operations import SALT_BYTES, Operation
from tg_tinker.prompts import Prompts
from tg_tinker.tokenizer import Tokenizer
from tg_tinker.transport import Transport
from tg_tinker.types import (
    ForwardBackwardResult,
    ForwardResult,
    Future,
    LoadStateResult,
    OptimStepResult,
    SampleDelta,
    SampleResult,
    SamplingConfig,
    SaveStateResult,
    TrainingClientInfo,
)


class TrainingClient:
    """One training run, from :meth:`ServiceClient.create_training_client` or ``get_training_client``."""

    def __init__(self, transport: Transport, info: TrainingClientInfo) -> None:
        self._transport = transport
        self._info = info
        self._generation = info.generation

    @property
    def training_client_id(self) -> str:
        """The run's id."""
        return self._info.training_client_id

    @property
    def info(self) -> TrainingClientInfo:
        """The run as this client saw it last; :meth:`refresh` asks again."""
        return self._info

    @property
    def generation(self) -> int:
        """The number of rollbacks that this client knows of; it is sent with every operation."""
        return self._generation

    def __repr__(self) -> str:
        return f"<TrainingClient {self.training_client_id} on {self._info.model_ref}>"

    def forward_backward(self, batch: Batch) -> FutureHandle[ForwardBackwardResult]:
        """Compute a batch's loss and add its gradient to what is accumulated.

        Args:
            batch: ``input_ids``, ``attention_mask``, ``labels``, each (rows, tokens): lists, numpy arrays or torch
                tensors. Pad with attention_mask 0 and labels -100; a label counts unless it is -100 or the first of
                its row. ``weights`` of the same shape, if given, are those of the labels in the loss.

        Returns:
            A handle; its ``commitment`` holds the salt that opens the ledger's commitment to this batch.

        Raises:
            WrongDtypeError, RaggedBatchError, EmptyBatchError: before anything is sent.
            TokenOutOfVocabularyError, SequenceTooLongError, BatchTooLargeError: the model cannot take it.
            RunRolledBackError: once after a rollback; see this module.
        """
        operation = operations.forward_backward(batch, self._salt())
        return cast("FutureHandle[ForwardBackwardResult]", self._submit(operation))

    def forward(self, batch: Batch) -> FutureHandle[ForwardResult]:
        """Evaluate a batch: its loss and the log-probability of each token. Changes nothing of the run.

        Args:
            batch: as for :meth:`forward_backward`, with the same errors.
        """
        return cast("FutureHandle[ForwardResult]", self._submit(operations.forward(batch, self._salt())))

    def optim_step(
        self, learning_rate: float | None = None, max_grad_norm: float | None = None
    ) -> FutureHandle[OptimStepResult]:
        """Apply the accumulated gradient and clear it.

        Args:
            learning_rate: for this step alone; None takes the run's own. :mod:`tg_tinker.schedules` has schedules.
            max_grad_norm: clip the gradient to this norm, in this step alone; None takes the run's own.
        """
        operation = operations.optim_step(learning_rate, max_grad_norm)
        return cast("FutureHandle[OptimStepResult]", self._submit(operation))

    def sample(self, prompts: Prompts, sampling_config: SamplingConfig | None = None) -> FutureHandle[SampleResult]:
        """Complete prompts with the run's present adapter.

        Args:
            prompts: texts, conversations (lists of ``{"role", "content"}``, completed by the model's chat template) or
                lists of token ids; one of them or a list of them.
            sampling_config: how to draw.

        The completions are kept by the server for an hour; later, ``result`` raises ResultExpiredError.
        """
        operation = operations.sample(prompts, sampling_config, self._salt())
        return cast("FutureHandle[SampleResult]", self._submit(operation))

    def sample_stream(self, prompts: Prompts, sampling_config: SamplingConfig | None = None) -> Iterator[SampleDelta]:
        """Complete prompts and give the texts as they grow; see :meth:`FutureHandle.stream`.

        The sample is submitted by this call. For its result as well, stream the handle of :meth:`sample`.
        """
        return self.sample(prompts, sampling_config).stream()

    def save_state(
        self,
        name: str,
        *,
        include_optimizer: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> FutureHandle[SaveStateResult]:
        """Save a checkpoint: encrypted under the tenant's key, signed, durable when the result is there.

        Args:
            name: letters, digits, ``.``, ``_`` and ``-``.
            include_optimizer: needed to go on exactly as if nothing had happened.
            metadata: free JSON, sealed under the tenant's key and never on the ledger.
        """
        operation = operations.save_state(name, metadata, include_optimizer=include_optimizer)
        return cast("FutureHandle[SaveStateResult]", self._submit(operation))

    def load_state(self, artifact_id: str, *, include_optimizer: bool = True) -> FutureHandle[LoadStateResult]:
        """Replace adapter and optimiser by those of a checkpoint of the tenant; accumulated gradients are dropped."""
        operation = operations.load_state(artifact_id, include_optimizer=include_optimizer)
        return cast("FutureHandle[LoadStateResult]", self._submit(operation))

    async def forward_backward_async(self, batch: Batch) -> AsyncFutureHandle[ForwardBackwardResult]:
        """As :meth:`forward_backward`; awaiting this submits, awaiting the handle gives the result."""
        operation = operations.forward_backward(batch, self._salt())
        return cast("AsyncFutureHandle[ForwardBackwardResult]", await self._submit_async(operation))

    async def forward_async(self, batch: Batch) -> AsyncFutureHandle[ForwardResult]:
        """As :meth:`forward`."""
        operation = operations.forward(batch, self._salt())
        return cast("AsyncFutureHandle[ForwardResult]", await self._submit_async(operation))

    async def optim_step_async(
        self, learning_rate: float | None = None, max_grad_norm: float | None = None
    ) -> AsyncFutureHandle[OptimStepResult]:
        """As :meth:`optim_step`."""
        operation = operations.optim_step(learning_rate, max_grad_norm)
        return cast("AsyncFutureHandle[OptimStepResult]", await self._submit_async(operation))

    async def sample_async(
        self, prompts: Prompts, sampling_config: SamplingConfig | None = None
    ) -> AsyncFutureHandle[SampleResult]:
        """As :meth:`sample`."""
        operation = operations.sample(prompts, sampling_config, self._salt())
        return cast("AsyncFutureHandle[SampleResult]", await self._submit_async(operation))

    async def sample_stream_async(
        self, prompts: Prompts, sampling_config: SamplingConfig | None = None
    ) -> AsyncIterator[SampleDelta]:
        """As :meth:`sample_stream`: ``async for delta in await client.sample_stream_async(...)``."""
        return (await self.sample_async(prompts, sampling_config)).stream()

    def export_adapter(
        self,
        path: Path | str,
        artifact_id: str | None = None,
        format: exports.Format = "peft",  # noqa: A002 -- the field's name everywhere else
        *,
        report: exports.Report | None = None,
    ) -> Path:
        """Fetch what the run has trained into a new folder: as it is now, or as a checkpoint has it; its path.

        Without ``artifact_id`` a state is saved first. See :meth:`ServiceClient.export_artifact`.
        """
        artifact = artifact_id or self.save_state(_export_name(), include_optimizer=False).result().artifact_id
        wanted = exports.Wanted(artifact, Path(path), format, report=report)
        return self._transport.run(exports.export(self._transport.around, wanted))

    async def export_adapter_async(
        self,
        path: Path | str,
        artifact_id: str | None = None,
        format: exports.Format = "peft",  # noqa: A002 -- the field's name everywhere else
        *,
        report: exports.Report | None = None,
    ) -> Path:
        """As :meth:`export_adapter`."""
        if artifact_id is None:
            saving = await self.save_state_async(_export_name(), include_optimizer=False)
            artifact_id = (await saving.result()).artifact_id
        wanted = exports.Wanted(artifact_id, Path(path), format, report=report)
        return await self._transport.run_async(exports.export(self._transport.around, wanted))

    async def save_state_async(
        self,
        name: str,
        *,
        include_optimizer: bool = True,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncFutureHandle[SaveStateResult]:
        """As :meth:`save_state`."""
        operation = operations.save_state(name, metadata, include_optimizer=include_optimizer)
        return cast("AsyncFutureHandle[SaveStateResult]", await self._submit_async(operation))

    async def load_state_async(
        self,
        artifact_id: str,
        *,
        include_optimizer: bool = True,
    ) -> AsyncFutureHandle[LoadStateResult]:
        """As :meth:`load_state`."""
        operation = operations.load_state(artifact_id, include_optimizer=include_optimizer)
        return cast("AsyncFutureHandle[LoadStateResult]", await self._submit_async(operation))

    def get_tokenizer(self, *, cache_dir: Path | str | None = None) -> Tokenizer:
        """The tokenizer of the run's model, fetched once and kept (as :meth:`ServiceClient.get_tokenizer`).

        Raises:
            TokenizerChangedError: the catalogue's name has come to mean another model.
        """
        return Tokenizer(self._transport.run(self._tokenizer(cache_dir)))

    async def get_tokenizer_async(self, *, cache_dir: Path | str | None = None) -> Tokenizer:
        """As :meth:`get_tokenizer`."""
        files = await self._transport.run_async(self._tokenizer(cache_dir))
        return await asyncio.to_thread(Tokenizer, files)

    def refresh(self) -> TrainingClientInfo:
        """The run as it stands now. What generation is sent stays: a rollback is told by an error, never silently."""
        self._info = self._transport.run(self._read())
        return self._info

    async def refresh_async(self) -> TrainingClientInfo:
        """As :meth:`refresh`."""
        self._info = await self._transport.run_async(self._read())
        return self._info

    def close(self) -> TrainingClientInfo:
        """Take no more operations; those that are accepted still finish. Closing twice is no error."""
        self._info = self._transport.run(self._close())
        return self._info

    async def close_async(self) -> TrainingClientInfo:
        """As :meth:`close`."""
        self._info = await self._transport.run_async(self._close())
        return self._info

    def _submit(self, operation: Operation) -> FutureHandle[Any]:
        future = self._transport.run(self._submission(operation))
        return FutureHandle(self._transport, future, self._hear)

    async def _submit_async(self, operation: Operation) -> AsyncFutureHandle[Any]:
        future = await self._transport.run_async(self._submission(operation))
        return AsyncFutureHandle(self._transport, future, self._hear)

    def _submission(self, operation: Operation) -> Flow[Future]:
        telemetry.name_call(operation.kind)
        path = flows.at("training_clients", self.training_client_id, operation.kind)
        body = {**operation.body, "generation": self._generation}
        try:
            future = yield from flows.post(self._transport.around, Future, path, body)
        except RollbackError as error:
            self._hear(error)
            raise
        return operations.check_commitment(operation, future)

    def _tokenizer(self, cache_dir: Path | str | None) -> Flow[dict[str, bytes]]:
        folder = Path(cache_dir or tokenizer_cache.default_cache())
        model = self._info.model_ref
        return tokenizer_cache.fetch(self._transport.around, model, folder, self._info.model.manifest_digest)

    def _read(self) -> Flow[TrainingClientInfo]:
        path = flows.at("training_clients", self.training_client_id)
        return (yield from flows.get(self._transport.around, TrainingClientInfo, path))

    def _close(self) -> Flow[TrainingClientInfo]:
        path = flows.at("training_clients", self.training_client_id, "close")
        return (yield from flows.post(self._transport.around, TrainingClientInfo, path, {}))

    def _hear(self, error: TGTinkerError) -> None:
        # The caller is being told of the rollback by this very error, so what follows is meant for the new generation.
        if isinstance(error, RollbackError) and error.generation is not None:
            self._generation = max(self._generation, error.generation)

    def _salt(self) -> str:
        return self._transport.around.random_hex(SALT_BYTES)


def _export_name() -> str:
    return f"export-{secrets.token_hex(4)}"
