"""A whole platform in one process, but for the doors: real ledger, sequencer, dispatcher, exchange and worker."""

from __future__ import annotations

import itertools
import json
import secrets
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from tensorguard.commitment import canonical, commit

from processors.batches.inputs import BlobInputStore
from processors.batches.results import BlobResultStore
from processors.catalogue import register_model, size_of
from processors.exchange.hub import Hub
from processors.exchange.port import pack_input
from processors.exchange.server import listening
from processors.exchange.trainer import TrainerClient
from processors.placement.dispatcher import Dispatcher
from processors.placement.roster import LocalRoster
from processors.placement.standing import Standing
from processors.runners.embedded import EmbeddedRunner
from producers.deciders.run import evolve
from producers.feed import Feed
from producers.identities import make_envelope
from producers.installation import Installation
from producers.sequencer import Sequencer, SequencerLock
from producers.submitter import Submitter
from schemas import commands as c
from schemas.events import RunLeaseGranted
from schemas.types import LoraSpec, OptimizerSpec, StartSpec
from tests.support.ledgers import installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from producers.engines.port import Reply
    from schemas.base import Command

TENANT = "acme"
LORA = LoraSpec(rank=4, alpha=8.0, dropout=0.1, target_modules=("q_proj", "v_proj"), bias="none")
ADAMW = OptimizerSpec(name="adamw", learning_rate=5e-3, weight_decay=0.01, beta1=0.9, beta2=0.999, eps=1e-8)
PATIENCE = 60.0


class TinyPlatform:
    """One installation with one tenant and one tiny model, its sequencer and its dispatcher running."""

    def __init__(self, data_dir: Path, model: Path, lease_seconds: float = 3600.0) -> None:
        self.installation = Installation.open(installed(data_dir))
        self.engine = self.installation.engine()
        self.submitter = Submitter(self.installation, self.engine)
        self.submitter.ensure_chain(TENANT)
        self.model = register_model(self.installation, self.submitter, "tiny", model)
        self.hub = Hub()
        self._listening = ExitStack()
        self.inputs = BlobInputStore.of(self.installation)
        self.results = BlobResultStore.of(self.installation)
        self.hub.roster = self.roster = LocalRoster(lease_seconds)
        self.dispatcher = Dispatcher(self.roster, partial(size_of, self.installation))
        self.gateway = self.installation.producer("gateway")
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers = itertools.count()

    def __enter__(self) -> Self:
        self._listening.enter_context(listening(self.hub, self.installation.data_dir))
        lock = SequencerLock(self.installation.data_dir)
        lock.acquire()
        sequencer = Sequencer.of(self.installation, self.engine)
        runner = EmbeddedRunner(self.installation, self.engine, [self.dispatcher])

        def decide() -> None:
            sequencer.run(self._stop)
            lock.close()

        self._start(decide)
        self._start(lambda: runner.run(self._stop))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listening.close()
        self.submitter.close()
        self.installation.close()

    def stop_listening(self) -> None:
        """End the hub's socket before the platform ends."""
        self._listening.close()

    def _start(self, target: Callable[[], Any]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        thread.start()
        self._threads.append(thread)

    @contextmanager
    def worker(self, **settings: Any) -> Iterator[str]:
        """A worker in a thread of its own that has every run; it is stopped in good order at the end."""
        from processors.trainer.settings import Settings  # noqa: PLC0415 - heavy
        from processors.trainer.worker import Worker  # noqa: PLC0415 - heavy

        name, stop = f"worker-{next(self._workers)}", threading.Event()
        client = TrainerClient(self.installation.data_dir, name)
        announcements = settings.pop("announcements", None)
        worker = Worker(self.installation, client, name, stop, Settings(**settings), announcements=announcements)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()
        self.assign(name)
        assert self.hub.wait_ready(name, PATIENCE)
        try:
            yield name
        finally:
            stop.set()
            thread.join(PATIENCE)
            client.close()

    def assign(self, worker: str) -> None:
        """Let one worker alone be there, and have every run."""
        for standing in self.roster.standings():
            self.roster.leave(standing.worker)
        self.roster.announce(Standing(worker))

    def revoke(self, role: str) -> None:
        """Have the authority revoke a producer of the tenant."""
        key_id = self.installation.producer(role).key_id
        envelope = make_envelope(
            c.RevokeProducer(key_id),
            chain=TENANT,
            stream=f"producer/{key_id.hex()}",
            command_id=secrets.token_bytes(16),
            now=self.installation.clock(),
        )
        self.submitter.submit_and_wait(self.installation.producer("authority"), envelope).raise_for_outcome()

    def ask(self, command: Command, run_id: str, command_id: bytes | None = None, chain: str = TENANT) -> Reply:
        """Have the gateway's command decided."""
        envelope = make_envelope(
            command,
            chain=chain,
            stream=f"run/{run_id}",
            command_id=command_id or secrets.token_bytes(16),
            now=self.installation.clock(),
        )
        return self.submitter.submit_and_wait(self.gateway, envelope)

    def create_run(
        self, run_id: str, seed: int = 7, lora: LoraSpec | None = LORA, chain: str = TENANT, **settings: Any
    ) -> TinyRun:
        """A run on the tiny model, which keeps its inputs in memory if ``settings`` (of CreateRun) do not say else."""
        model = self.model
        command = replace(
            c.CreateRun(
                run_id,
                model.name,
                model.manifest_digest,
                model.tokenizer_digest,
                lora,
                ADAMW,
                2,
                None,
                None,
                seed,
                None,
            ),
            **settings,
        )
        self.ask(command, run_id, chain=chain).raise_for_outcome()
        return TinyRun(self, run_id, chain, sealed=command.batch_retention == "sealed")

    def create_sampler(self, run_id: str, saved: Any = None) -> TinyRun:
        """A run that only samples: from a checkpoint, or from the bare model."""
        model, start = self.model, None
        if saved is not None:
            start = StartSpec(saved.artifact_id, saved.manifest_digest, saved.step)
        common = (run_id, model.name, model.manifest_digest, model.tokenizer_digest, LORA if saved else None, ADAMW)
        command = c.CreateRun(*common, 1, None, None, 7, None, trainable=False, start=start)
        self.ask(command, run_id).raise_for_outcome()
        return TinyRun(self, run_id, TENANT)

    def wait_for_lease(self, run_id: str, worker: str, chain: str = TENANT) -> Any:
        """The lease that gave a run to a worker."""
        return self.wait_for(run_id, lambda event: isinstance(event, RunLeaseGranted) and event.worker == worker, chain)

    def events(self, run_id: str) -> list[Any]:
        """Every event of a run so far."""
        feed, found = Feed(self.engine, chains=TENANT.__eq__), []
        while batch := feed.poll():
            found += [r.event for r in batch if r.meta.stream == f"run/{run_id}"]
        return found

    def wait_for(self, run_id: str, wanted: Callable[[Any], bool], chain: str = TENANT) -> Any:
        """The first event of a run that fits."""
        feed = Feed(self.engine, chains=chain.__eq__)
        for _ in range(int(PATIENCE * 2)):
            while batch := feed.poll():
                for recorded in batch:
                    if recorded.meta.stream == f"run/{run_id}" and wanted(recorded.event):
                        return recorded.event
            feed.wait(0.5)
        raise AssertionError("no such event came")


class TinyRun:
    """What a client does with a run; each operation gives its id."""

    def __init__(self, platform: TinyPlatform, run_id: str, chain: str, *, sealed: bool = False) -> None:
        self.platform = platform
        self.run_id = run_id
        self.chain = chain
        self.sealed = sealed

    def submit(
        self, command: Command, private: Any = None, salt: bytes = bytes(32), operation_id: bytes | None = None
    ) -> bytes:
        operation_id = operation_id or secrets.token_bytes(16)
        if private is not None and self.sealed:
            return self._submit_sealed(command, pack_input(salt, canonical(private)), operation_id)
        if private is not None:
            self.platform.hub.put_input(operation_id, pack_input(salt, canonical(private)))
        self.platform.ask(command, self.run_id, operation_id, self.chain).raise_for_outcome()
        return operation_id

    def _submit_sealed(self, command: Any, data: bytes, operation_id: bytes) -> bytes:
        """Seal an input under the interval that the run is in; once more if that was over meanwhile."""
        while True:
            interval = self._interval()
            self.platform.inputs.put(self.chain, self.run_id, interval, operation_id, data)
            reply = self.platform.ask(replace(command, interval=interval), self.run_id, operation_id, self.chain)
            if reply.code != "interval_over":
                reply.raise_for_outcome()
                return operation_id
            operation_id = secrets.token_bytes(16)

    def _interval(self) -> int:
        state = None
        for event in self.platform.events(self.run_id):
            state = evolve(state, event)
        return state.durable.op_seq if state is not None else 0

    def forward_backward(self, rows: list[list[int]]) -> bytes:
        return self._send_batch(rows, c.SubmitForwardBackward)

    def forward(self, rows: list[list[int]]) -> bytes:
        return self._send_batch(rows, c.SubmitForward)

    def _send_batch(self, rows: list[list[int]], submit: type[c.SubmitForwardBackward | c.SubmitForward]) -> bytes:
        batch = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows], "labels": rows}
        commitment = commit(bytes(32), canonical(batch))
        return self.submit(submit(self.run_id, commitment, len(rows), sum(map(len, rows)), None), batch)

    def optim_step(self, learning_rate: float | None = None, max_grad_norm: float | None = None) -> bytes:
        return self.submit(c.SubmitOptimStep(self.run_id, learning_rate, None, max_grad_norm))

    def sample(
        self,
        prompts: list[str],
        max_tokens: int = 5,
        temperature: float = 0.0,
        operation_id: bytes | None = None,
        **options: Any,
    ) -> bytes:
        private = {"prompts": prompts, "messages": None, "tokens": None, "stop": [], "stop_tokens": []}
        commitment = commit(bytes(32), canonical(private))
        command = c.SubmitSample(
            self.run_id, commitment, len(prompts), max_tokens, temperature, 1.0, None, None, **options
        )
        return self.submit(command, private, operation_id=operation_id)

    def save_state(self, name: str, *, include_optimizer: bool = True) -> bytes:
        return self.submit(c.SubmitSaveState(self.run_id, name, include_optimizer, None))

    def load_state(self, saved: Any, *, include_optimizer: bool = True) -> bytes:
        return self.submit(
            c.SubmitLoadState(self.run_id, saved.artifact_id, saved.manifest_digest, include_optimizer, None)
        )

    def outcome(self, operation_id: bytes) -> Any:
        """The event that ended an operation."""
        return self.platform.wait_for(
            self.run_id,
            lambda event: hasattr(event, "lease_epoch") and getattr(event, "operation_id", None) == operation_id,
            self.chain,
        )

    def train(self, seed: int, steps: int) -> list[Any]:
        """Some steps on batches that follow from a seed; the StepApplied events."""
        rows = [[[1 + (seed * 31 + i * 7 + j * k) % 300 for k in range(6 + j)] for j in range(2)] for i in range(steps)]
        ids = [(self.forward_backward(each), self.optim_step())[1] for each in rows]
        return [self.outcome(operation_id) for operation_id in ids]

    def result(self, operation_id: bytes) -> dict[str, Any]:
        """What a sample or an evaluation left beside the ledger."""
        if self.sealed:
            outcome = self.outcome(operation_id)
            commitment = getattr(outcome, "completions_commitment", None) or outcome.logprobs_commitment
            data = self.platform.results.get(self.chain, operation_id, commitment)
        else:
            data = self.platform.hub.result(operation_id)
        assert data is not None
        found: dict[str, Any] = json.loads(data)
        return found
