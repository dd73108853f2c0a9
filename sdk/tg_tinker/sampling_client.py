"""A sampler: a model of the catalogue, or a saved checkpoint, to sample from without a training run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from tg_tinker import flows, operations
from tg_tinker.flows import Flow
from tg_tinker.futures import AsyncFutureHandle, FutureHandle
from tg_tinker.operations import SALT_BYTES, Operation
from tg_tinker.prompts import Prompts
from tg_tinker.transport import Transport
from tg_tinker.types import Future, SampleDelta, SampleResult, SamplerInfo, SamplingConfig


class SamplingClient:
    """One sampler, from :meth:`ServiceClient.create_sampling_client` or ``get_sampling_client``.

    Samples of all callers on one base model are generated together; send many at once and read the results later.
    """

    def __init__(self, transport: Transport, info: SamplerInfo) -> None:
        self._transport = transport
        self._info = info

    @property
    def sampler_id(self) -> str:
        """The sampler's id."""
        return self._info.sampler_id

    @property
    def info(self) -> SamplerInfo:
        """The sampler as this client saw it last."""
        return self._info

    def __repr__(self) -> str:
        return f"<SamplingClient {self.sampler_id} on {self._info.artifact_id or self._info.model_ref}>"

    def sample(self, prompts: Prompts, sampling_config: SamplingConfig | None = None) -> FutureHandle[SampleResult]:
        """Complete prompts; see :meth:`TrainingClient.sample`."""
        operation = self._operation(prompts, sampling_config)
        future = self._transport.run(self._submission(operation))
        return cast("FutureHandle[SampleResult]", FutureHandle[Any](self._transport, future))

    def sample_stream(self, prompts: Prompts, sampling_config: SamplingConfig | None = None) -> Iterator[SampleDelta]:
        """Complete prompts and give the texts as they grow; see :meth:`FutureHandle.stream`."""
        return self.sample(prompts, sampling_config).stream()

    def close(self) -> SamplerInfo:
        """Take no more samples; those that are accepted still finish. Closing twice is no error."""
        self._info = self._transport.run(self._close())
        return self._info

    async def sample_async(
        self, prompts: Prompts, sampling_config: SamplingConfig | None = None
    ) -> AsyncFutureHandle[SampleResult]:
        """As :meth:`sample`."""
        operation = self._operation(prompts, sampling_config)
        future = await self._transport.run_async(self._submission(operation))
        return cast("AsyncFutureHandle[SampleResult]", AsyncFutureHandle[Any](self._transport, future))

    async def sample_stream_async(
        self, prompts: Prompts, sampling_config: SamplingConfig | None = None
    ) -> AsyncIterator[SampleDelta]:
        """As :meth:`sample_stream`."""
        return (await self.sample_async(prompts, sampling_config)).stream()

    async def close_async(self) -> SamplerInfo:
        """As :meth:`close`."""
        self._info = await self._transport.run_async(self._close())
        return self._info

    def _operation(self, prompts: Prompts, config: SamplingConfig | None) -> Operation:
        return operations.sample(prompts, config, self._transport.around.random_hex(SALT_BYTES))

    def _submission(self, operation: Operation) -> Flow[Future]:
        path = flows.at("samplers", self.sampler_id, operation.kind)
        future = yield from flows.post(self._transport.around, Future, path, operation.body)
        return operations.check_commitment(operation, future)

    def _close(self) -> Flow[SamplerInfo]:
        return flows.post(self._transport.around, SamplerInfo, flows.at("samplers", self.sampler_id, "close"), {})
