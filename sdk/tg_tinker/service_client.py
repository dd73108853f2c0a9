"""The door of the SDK: one server, one API key."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tg_tinker import exports, flows, tokenizer_cache
from tg_tinker.errors import AuthenticationError, ConfigurationError
from tg_tinker.flows import Flow, Surroundings
from tg_tinker.futures import AsyncFutureHandle, FutureHandle
from tg_tinker.retry import RetryPolicy
from tg_tinker.sampling_client import SamplingClient
from tg_tinker.tokenizer import Tokenizer
from tg_tinker.training_client import TrainingClient
from tg_tinker.transport import Transport
from tg_tinker.trust import context_for
from tg_tinker.types import (
    ArtifactInfo,
    AuditLogEntry,
    Future,
    ModelInfo,
    Package,
    SamplerInfo,
    TrainingClientInfo,
    TrainingConfig,
)

BASE_URL_VARIABLE = "TG_TINKER_BASE_URL"
API_KEY_VARIABLE = "TG_TINKER_API_KEY"


class ServiceClient:
    """A server as one tenant sees it.

    Use it as a context manager (``with`` in blocking code, ``async with`` in asyncio). Requests are sent again, without
    doubling anything, while the server is out of reach or busy; ``retry`` says for how long.

    Args:
        base_url: such as ``http://127.0.0.1:8080``; None takes ``TG_TINKER_BASE_URL``.
        api_key: ``tg-key-…``; None takes ``TG_TINKER_API_KEY``.
        retry: how long and how often to try.
        ca: PEM file of the only authorities that a ``https://`` server may be certified by; None takes the variable
            ``SSL_CERT_FILE``, or else the public ones.

    Raises:
        ConfigurationError: no usable base URL, or no certificates in ``ca``.
        AuthenticationError: no API key, or something that is none.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        retry: RetryPolicy | None = None,
        ca: Path | str | None = None,
    ) -> None:
        url = (base_url or os.environ.get(BASE_URL_VARIABLE, "")).strip()
        key = (api_key or os.environ.get(API_KEY_VARIABLE, "")).strip()
        if not _is_address(url):
            raise ConfigurationError(
                "The server's address is not given, or is no URL.",
                next_step=f"Give base_url or set {BASE_URL_VARIABLE}, such as http://127.0.0.1:8080.",
            )
        if not key:
            raise AuthenticationError("No API key is given.")
        if not (key.isascii() and key.isprintable() and " " not in key):
            raise AuthenticationError("The API key holds characters that no key has.")
        around = Surroundings(time.monotonic, random.random, secrets.token_hex, retry or RetryPolicy())
        self._transport = Transport(url, key, around, context_for(ca) if ca else None)
        self.base_url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """End the connections. Runs go on; :meth:`get_training_client` finds them again."""
        self._transport.close()

    async def aclose(self) -> None:
        """As :meth:`close`, with the connections of the running event loop."""
        await self._transport.aclose()

    def create_training_client(self, config: TrainingConfig) -> TrainingClient:
        """Start a training run.

        Raises:
            UnknownModelError: the catalogue has no model of that name.
            DPNotAvailableError: this server cannot do what is asked, and says so.
        """
        return TrainingClient(self._transport, self._transport.run(self._create(config)))

    async def create_training_client_async(self, config: TrainingConfig) -> TrainingClient:
        """As :meth:`create_training_client`."""
        return TrainingClient(self._transport, await self._transport.run_async(self._create(config)))

    def create_sampling_client(
        self,
        model_ref: str | None = None,
        *,
        artifact_id: str | None = None,
        seed: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> SamplingClient:
        """Open a model of the catalogue, or a checkpoint of this tenant, for sampling without a training run.

        Args:
            model_ref: a name of the catalogue, for the model as it is; or
            artifact_id: a checkpoint, of a fully fine-tuned run too.
            seed: where the random numbers of samples without a seed of their own come from.
            metadata: free JSON, sealed under the tenant's key.

        Raises:
            UnknownModelError, UnknownArtifactError: there is no such thing.
        """
        flow = self._sampler(model_ref, artifact_id, seed, metadata)
        return SamplingClient(self._transport, self._transport.run(flow))

    async def create_sampling_client_async(
        self,
        model_ref: str | None = None,
        *,
        artifact_id: str | None = None,
        seed: int = 0,
        metadata: Mapping[str, Any] | None = None,
    ) -> SamplingClient:
        """As :meth:`create_sampling_client`."""
        flow = self._sampler(model_ref, artifact_id, seed, metadata)
        return SamplingClient(self._transport, await self._transport.run_async(flow))

    def get_sampling_client(self, sampler_id: str) -> SamplingClient:
        """A sampler of this tenant, to go on with.

        Raises:
            UnknownSamplerError: the tenant has no such sampler.
        """
        flow = flows.get(self._transport.around, SamplerInfo, flows.at("samplers", sampler_id))
        return SamplingClient(self._transport, self._transport.run(flow))

    def list_samplers(self, limit: int | None = None) -> list[SamplerInfo]:
        """The tenant's samplers, newest first; at most ``limit`` of them."""
        return self._transport.run(self._list(SamplerInfo, "samplers", limit))

    def get_training_client(self, training_client_id: str) -> TrainingClient:
        """A run of this tenant, to go on with.

        Raises:
            UnknownTrainingClientError: the tenant has no such run.
        """
        return TrainingClient(self._transport, self._transport.run(self._run(training_client_id)))

    async def get_training_client_async(self, training_client_id: str) -> TrainingClient:
        """As :meth:`get_training_client`."""
        return TrainingClient(self._transport, await self._transport.run_async(self._run(training_client_id)))

    def list_training_clients(self, limit: int | None = None) -> list[TrainingClientInfo]:
        """The tenant's runs, newest first; at most ``limit`` of them."""
        return self._transport.run(self._list(TrainingClientInfo, "training_clients", limit))

    async def list_training_clients_async(self, limit: int | None = None) -> list[TrainingClientInfo]:
        """As :meth:`list_training_clients`."""
        return await self._transport.run_async(self._list(TrainingClientInfo, "training_clients", limit))

    def get_future(self, future_id: str) -> FutureHandle[Any]:
        """An operation of this tenant, whoever submitted it, and whenever.

        Raises:
            UnknownFutureError: the tenant has no such operation.
        """
        return FutureHandle(self._transport, self._transport.run(self._future(future_id)))

    async def get_future_async(self, future_id: str) -> AsyncFutureHandle[Any]:
        """As :meth:`get_future`."""
        return AsyncFutureHandle(self._transport, await self._transport.run_async(self._future(future_id)))

    def get_audit_logs(
        self, *, limit: int | None = 100, stream: str | None = None, event: str | None = None
    ) -> list[AuditLogEntry]:
        """Records of the tenant's chain, oldest first.

        Args:
            limit: at most so many; None for all.
            stream: of one aggregate, such as ``run/<training_client_id>``.
            event: of one kind, such as ``StepApplied``.
        """
        return self._transport.run(self._list(AuditLogEntry, "audit_logs", limit, stream=stream, event=event))

    async def get_audit_logs_async(
        self, *, limit: int | None = 100, stream: str | None = None, event: str | None = None
    ) -> list[AuditLogEntry]:
        """As :meth:`get_audit_logs`."""
        flow = self._list(AuditLogEntry, "audit_logs", limit, stream=stream, event=event)
        return await self._transport.run_async(flow)

    def list_artifacts(self, training_client_id: str | None = None, limit: int | None = None) -> list[ArtifactInfo]:
        """The tenant's checkpoints, newest first, the automatic ones among them."""
        flow = self._list(ArtifactInfo, "artifacts", limit, training_client_id=training_client_id)
        return self._transport.run(flow)

    def get_artifact(self, artifact_id: str) -> ArtifactInfo:
        """A checkpoint.

        Raises:
            UnknownArtifactError: the tenant has no such checkpoint, or it is deleted.
        """
        return self._transport.run(flows.get(self._transport.around, ArtifactInfo, flows.at("artifacts", artifact_id)))

    def delete_artifact(self, artifact_id: str) -> ArtifactInfo:
        """Have a checkpoint deleted and its key destroyed, which takes a moment; nothing loads it any more.

        Raises:
            ArtifactInUseError: an open run rests on it.
        """
        path = flows.at("artifacts", artifact_id)
        return self._transport.run(flows.delete(self._transport.around, ArtifactInfo, path))

    def export_artifact(
        self,
        artifact_id: str,
        path: Path | str,
        format: exports.Format = "peft",  # noqa: A002 -- the field's name everywhere else
        *,
        timeout: float | None = None,
        report: exports.Report | None = None,
    ) -> Path:
        """Fetch a checkpoint's weights into a new folder, which is there whole or not at all; its path.

        A broken download goes on where it broke off, also in another call. Every file is held to its SHA-256.

        Args:
            artifact_id: the checkpoint.
            path: a folder that does not exist yet.
            format: "peft" for a folder that ``peft.PeftModel.from_pretrained`` loads, "merged" for a whole model.
            timeout: seconds that making it may take; None: as long as it takes.
            report: is told bytes there and bytes in all.

        Raises:
            TargetExistsError: something stands at the path.
            DownloadDamagedError: what came is not what the server's ledger names.
        """
        wanted = exports.Wanted(artifact_id, Path(path), format, timeout, report)
        return self._transport.run(exports.export(self._transport.around, wanted))

    async def export_artifact_async(
        self,
        artifact_id: str,
        path: Path | str,
        format: exports.Format = "peft",  # noqa: A002 -- the field's name everywhere else
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- making it on the server, not fetching
        report: exports.Report | None = None,
    ) -> Path:
        """As :meth:`export_artifact`."""
        wanted = exports.Wanted(artifact_id, Path(path), format, timeout, report)
        return await self._transport.run_async(exports.export(self._transport.around, wanted))

    def list_models(self) -> list[ModelInfo]:
        """The catalogue: what a run may start from, by name."""
        return self._transport.run(self._list(ModelInfo, "models", None))

    async def list_models_async(self) -> list[ModelInfo]:
        """As :meth:`list_models`."""
        return await self._transport.run_async(self._list(ModelInfo, "models", None))

    def get_tokenizer(self, model: str, *, cache_dir: Path | str | None = None) -> Tokenizer:
        """The tokenizer of a catalogue model, fetched once and kept in ``cache_dir`` (None: ``~/.cache/tensorguard``).

        Raises:
            MissingExtraError: the ``data`` extra is not installed.
            UnknownModelError: the catalogue has no model of that name.
            TokenizerChangedError: what came is not what the ledger names.
        """
        return Tokenizer(self._transport.run(self._tokenizer(model, cache_dir)))

    async def get_tokenizer_async(self, model: str, *, cache_dir: Path | str | None = None) -> Tokenizer:
        """As :meth:`get_tokenizer`."""
        files = await self._transport.run_async(self._tokenizer(model, cache_dir))
        return await asyncio.to_thread(Tokenizer, files)

    def create_package(
        self,
        artifact_id: str,
        recipients: Sequence[str],
        *,
        release_counter: int = 0,
        expires_at: datetime | None = None,
    ) -> Package:
        """Ask for a ``.tgsp`` of a checkpoint that these devices (key ids) can open; :meth:`wait_for_package` waits."""
        body: dict[str, Any] = {
            "artifact_id": artifact_id,
            "recipients": list(recipients),
            "release_counter": release_counter,
            "expires_at": expires_at.isoformat() if expires_at else None,
        }
        return self._transport.run(flows.post(self._transport.around, Package, flows.at("packages"), body))

    def get_package(self, package_id: str) -> Package:
        """A package as it stands."""
        return self._transport.run(flows.get(self._transport.around, Package, flows.at("packages", package_id)))

    def wait_for_package(self, package_id: str, timeout: float | None = None) -> Package:
        """A package once it is signed or has failed.

        Raises:
            FutureTimeoutError: it is still pending after ``timeout`` seconds.
        """
        path = flows.at("packages", package_id)
        flow = flows.poll(
            self._transport.around, Package, path, "wait", lambda package: package.status != "pending", timeout
        )
        return self._transport.run(flow)

    def download_package(self, package_id: str, path: Path | str) -> Path:
        """Write the signed ``.tgsp`` to a file."""
        return self._download(path, "packages", package_id, "content")

    def download_receipt(self, package_id: str, path: Path | str) -> Path:
        """Write the ledger's receipt of the signing (C2SP tlog-proof); waits until a checkpoint covers it."""
        return self._download(path, "packages", package_id, "receipt")

    def download_record(self, package_id: str, path: Path | str) -> Path:
        """Write the exact bytes of the ledger's record of the signing, which the receipt is a proof of."""
        return self._download(path, "packages", package_id, "record")

    def _download(self, path: Path | str, *segments: str) -> Path:
        return self._transport.run(flows.download(self._transport.around, flows.at(*segments), Path(path)))

    def _create(self, config: TrainingConfig) -> Flow[TrainingClientInfo]:
        # Metadata as it is: pydantic would turn a NaN in it into null without a word.
        body = {**config.model_dump(mode="json", exclude={"metadata"}), "metadata": config.metadata}
        return flows.post(self._transport.around, TrainingClientInfo, flows.at("training_clients"), body)

    def _sampler(
        self, model_ref: str | None, artifact_id: str | None, seed: int, metadata: Mapping[str, Any] | None
    ) -> Flow[SamplerInfo]:
        body = {"model_ref": model_ref, "artifact_id": artifact_id, "seed": seed, "metadata": dict(metadata or {})}
        return flows.post(self._transport.around, SamplerInfo, flows.at("samplers"), body)

    def _run(self, training_client_id: str) -> Flow[TrainingClientInfo]:
        path = flows.at("training_clients", training_client_id)
        return flows.get(self._transport.around, TrainingClientInfo, path)

    def _future(self, future_id: str) -> Flow[Future]:
        return flows.get(self._transport.around, Future, flows.at("futures", future_id))

    def _tokenizer(self, model: str, cache_dir: Path | str | None) -> Flow[dict[str, bytes]]:
        return tokenizer_cache.fetch(self._transport.around, model, Path(cache_dir or tokenizer_cache.default_cache()))

    def _list(self, model: type[flows.Model], name: str, limit: int | None, **query: object) -> Flow[list[flows.Model]]:
        return flows.pages(self._transport.around, model, flows.at(name), query, limit)


def _is_address(url: str) -> bool:
    """Whether a server can be looked for there: what cannot be is said at once, not after a minute of trying."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an end, a port beyond 65535
        return False
