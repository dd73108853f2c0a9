"""A real platform in one process: SQLite ledger, sequencer and projector threads, the REST app, a worker that signs."""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi.testclient import TestClient
from tensorguard.ledger.envelope import own_command_id

from api import keys
from api.app import create_app
from api.platform import DoorLimits, Platform
from api.quotas import QuotaLimits
from processors.exchange.door import DoorClient
from processors.exchange.port import Exchange
from producers.deciders.registry import stream_of
from producers.engines.port import Reply
from producers.identities import Producer, make_envelope
from producers.sequencer import Sequencer, SequencerLock
from producers.telemetry.traces import Tracing
from projections.slots import open_slot
from schemas import commands as c
from schemas.base import Command
from schemas.types import ExecutionPlan, ModelFile

TENANT, OTHER = "acme", "globex"
CHAINS = ("platform", TENANT, OTHER)
VOCABULARY, POSITIONS = 100, 16
PLAN = ExecutionPlan("build", "x86-64", 1, 1, "float32", "eager")


def batch(rows: int = 2, columns: int = 4) -> dict[str, list[list[int]]]:
    """A batch that the test model can learn from."""
    ids = [[(row + column) % VOCABULARY for column in range(columns)] for row in range(rows)]
    return {"input_ids": ids, "attention_mask": [[1] * columns] * rows, "labels": ids}


@contextlib.contextmanager
def running(platform: Platform) -> Iterator[None]:
    """A sequencer and a projector at work on a platform, as in a server."""
    stop = threading.Event()
    lock = SequencerLock(platform.installation.data_dir)
    lock.acquire()
    sequencer = Sequencer.of(platform.installation, platform.engine, observers=platform.observers)
    threads = [
        threading.Thread(target=sequencer.run, args=(stop,)),
        threading.Thread(target=platform.projector.run, args=(stop,)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        lock.close()


@dataclass
class Worker:
    """Reports outcomes of one tenant's runs with the installation's own worker key."""

    platform: Platform
    tenant: str
    lease: dict[str, int] = field(default_factory=dict)

    def say(self, role: str, command: Command, *, tenant: str | None = None) -> Reply:
        """Sign a command as a role of the installation, have it decided and folded."""
        reply = self.decided(role, command, tenant=tenant)
        assert self.platform.projector.wait_for(reply.chain, reply.last_seq or 0, 10)
        return reply

    def decided(self, role: str, command: Command, *, tenant: str | None = None) -> Reply:
        """The same, but the views may not have it yet."""
        platform = self.platform
        chain = tenant or self.tenant
        envelope = make_envelope(
            command,
            chain=chain,
            stream=stream_of(command),
            command_id=uuid4().bytes,
            now=platform.installation.clock(),
        )
        reply = platform.submitter.submit_and_wait(platform.installation.producer(role), envelope)
        reply.raise_for_outcome()
        return reply

    def take(self, run_id: str) -> None:
        """Take the lease of a run."""
        self.say("dispatcher", c.GrantLease(run_id, "worker"))
        self.lease[run_id] = self.lease.get(run_id, 0) + 1

    def gradient(self, future: dict[str, Any], loss: float = 2.5) -> None:
        """Complete a forward_backward."""
        run, operation, lease = self._of(future)
        self.say("worker", c.CompleteForwardBackward(run, operation, lease, loss, 1.0, 8))

    def step(self, future: dict[str, Any], step: int, learning_rate: float = 1e-4) -> None:
        """Complete an optim_step."""
        run, operation, lease = self._of(future)
        self.say("worker", c.RecordStep(run, operation, lease, step, learning_rate, bytes(32), PLAN))

    def fail(self, future: dict[str, Any], code: str) -> None:
        """End an operation without effect."""
        run, operation, lease = self._of(future)
        self.say("worker", c.FailOperation(run, operation, lease, code))

    def sampled(self, future: dict[str, Any], data: bytes | None, step: int = 0) -> None:
        """Complete a sample, its texts where the run keeps them."""
        run, operation, lease = self._of(future)
        view = self.platform.views.run(self.tenant, run)
        if data is not None and view is not None and view.batch_retention == "sealed":
            self.platform.results.put(self.tenant, operation, bytes(32), data)
        elif data is not None:
            self.platform.exchange.put_result(operation, data)
        self.say("worker", c.CompleteSample(run, operation, lease, bytes(32), 3, step))

    def saved(
        self,
        run: str,
        *,
        through: int,
        step: int,
        future: dict[str, Any] | None = None,
        name: str | None = None,
        includes_optimizer: bool = True,
    ) -> bytes:
        """Report a checkpoint; its artifact id."""
        operation = bytes.fromhex(future["future_id"]) if future else None
        command = replace(self.checkpoint(run, through, step), operation_id=operation, name=name)
        self.say("worker", replace(command, includes_optimizer=includes_optimizer))
        return command.artifact_id

    def checkpoint(self, run: str, through: int, step: int) -> c.RecordCheckpoint:
        """What a worker says of a checkpoint of its own."""
        artifact = uuid4().bytes
        return c.RecordCheckpoint(
            run_id=run,
            operation_id=None,
            lease_epoch=self.lease[run],
            artifact_id=artifact,
            name=None,
            step=step,
            through_op_seq=through,
            adapter_digest=bytes(32),
            content_hash=bytes(32),
            manifest_digest=sha256(artifact).digest(),
            size_bytes=1234,
            wrapping_key_id="dek",
            includes_optimizer=True,
        )

    def loaded(self, future: dict[str, Any], artifact: bytes, step: int) -> None:
        """Complete a load_state."""
        run, operation, lease = self._of(future)
        self.say("worker", c.RecordCheckpointLoaded(run, operation, lease, artifact, step, bytes(32)))

    def _of(self, future: dict[str, Any]) -> tuple[str, bytes, int]:
        run = future["training_client_id"]
        return run, bytes.fromhex(future["future_id"]), self.lease[run]


class Doors:
    """A client of the REST app, with a key for each tenant."""

    def __init__(self, platform: Platform, client: TestClient) -> None:
        self.platform = platform
        self.client = client
        self.worker = Worker(platform, TENANT)
        for chain in CHAINS:
            platform.submitter.ensure_chain(chain)
        self.key = self.issue(TENANT)
        self.other_key = self.issue(OTHER)
        assert platform.projector.wait_for_all(10)
        if platform.views.model("tiny") is None:
            self.worker.say("authority", register_model("tiny"), tenant="platform")

    def beside(self, platform: Platform, client: TestClient) -> Doors:
        """The same client at another process of doors, with the same keys."""
        there = copy(self)
        there.platform, there.client = platform, client
        return there

    def issue(self, tenant: str, scopes: tuple[str, ...] = tuple(keys.SCOPES)) -> str:
        """A new API key."""
        issued = keys.new_key()
        pepper = self.platform.installation.api_key_pepper()
        command = c.IssueApiKey(issued.key_id, keys.keyed_hash(pepper, issued.text), scopes)
        self.worker.say("authority", command, tenant=tenant)
        return issued.text

    def call(
        self, method: str, path: str, *, key: str | None = None, headers: dict[str, str] | None = None, **kwargs: Any
    ) -> Any:
        """A request with a tenant's key."""
        given = {"Authorization": f"Bearer {self.key if key is None else key}", **(headers or {})}
        return self.client.request(method, path, headers=given, **kwargs)

    def get(self, path: str, **kwargs: Any) -> Any:
        """What a GET answers; it must succeed."""
        return _ok(self.call("GET", path, **kwargs))

    def post(self, path: str, json: Any = None, **kwargs: Any) -> Any:
        """What a POST answers; it must succeed."""
        return _ok(self.call("POST", path, json={} if json is None else json, **kwargs))

    def create(self, **config: Any) -> str:
        """A new training client's id."""
        made: str = self.post("/v1/training_clients", {"model_ref": "tiny", **config})["training_client_id"]
        return made

    def operate(self, run: str, operation: str, body: Any = None, **kwargs: Any) -> Any:
        """The future of an operation."""
        return self.post(f"/v1/training_clients/{run}/{operation}", body, **kwargs)

    def forward_backward(self, run: str) -> Any:
        """The future of a batch."""
        return self.operate(run, "forward_backward", {"batch": batch()})


def _ok(response: Any) -> Any:
    assert response.status_code < 300, (response.status_code, response.text)
    return response.json()


def register_model(name: str) -> c.RegisterModel:
    """A model that nobody will load."""
    return c.RegisterModel(
        name=name,
        architecture="LlamaForCausalLM",
        files=(ModelFile("config.json", sha256(name.encode()).digest(), 10),),
        manifest_digest=sha256(b"manifest" + name.encode()).digest(),
        tokenizer_digest=bytes(32),
        vocabulary_size=VOCABULARY,
        max_positions=POSITIONS,
        parameters=1000,
    )


def enrol_device(worker: Worker, name: str, seed: bytes) -> Producer:
    """A device with an Ed25519 key of its own, enrolled on the worker's tenant's chain."""
    device = Producer("device", seed)
    hpke = sha256(seed).digest() * math.ceil(1216 / 32)
    worker.say("authority", c.EnrolProducer(device.key_id, device.public_key, "device", name, hpke[:1216]))
    return device


def opening(device: Producer, package_id: bytes, digest: bytes, now: int, command_id: bytes | None = None) -> bytes:
    """A device's signed report that it opened a package, as it travels."""
    command = c.RecordPackageOpened(package_id, digest, device.key_id)
    command_id = command_id or own_command_id(device.key_id, uuid4().bytes)
    envelope = make_envelope(command, chain=TENANT, stream=stream_of(command), command_id=command_id, now=now)
    return device.sign([envelope.to_bytes()])[0].to_bytes()


@contextlib.contextmanager
def open_doors(
    data_dir: Path,
    *,
    limits: DoorLimits | None = None,
    quotas: QuotaLimits | None = None,
    exchange: Exchange | None = None,
    tracing: Tracing | None = None,
) -> Iterator[Doors]:
    """A platform on a data directory, at work, and a client of it."""
    platform = Platform.open(data_dir, limits=limits, quota_limits=quotas, exchange=exchange, tracing=tracing)
    try:
        with running(platform), TestClient(create_app(platform), raise_server_exceptions=False) as client:
            yield Doors(platform, client)
    finally:
        platform.close()


@contextlib.contextmanager
def another_door(doors: Doors, *, quotas: QuotaLimits | None = None) -> Iterator[Doors]:
    """A second process of doors, but for the process: views and connections of its own beside ``doors``.

    The installation's hub must be listening (:func:`processors.exchange.server.listening`).
    """
    data_dir, stop = doors.platform.installation.data_dir, threading.Event()
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(DoorClient(data_dir))
        assert exchange.wait_connected(10)
        slot = data_dir / "views-1.db"
        platform = Platform.open(
            data_dir, quota_limits=quotas, exchange=exchange, open_views=lambda engine: open_slot(slot, engine)
        )
        stack.callback(platform.close)
        folding = threading.Thread(target=platform.projector.run, args=(stop,))
        folding.start()
        stack.callback(folding.join, 10)
        stack.callback(stop.set)
        client = stack.enter_context(TestClient(create_app(platform), raise_server_exceptions=False))
        yield doors.beside(platform, client)


def prepare_installation(data_dir: Path) -> Path:
    """An installation with its chains open; tests work on copies, since making one takes a process of its own."""
    with contextlib.closing(Platform.open(data_dir)) as platform:
        for chain in CHAINS:
            platform.submitter.ensure_chain(chain)
    return data_dir


def copy_installation(source: Path, target: Path) -> Path:
    """A copy of a prepared installation."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("bells"))
    return target
