"""A server that speaks the training API over real sockets, with faults on order: what the SDK's tests talk to.

It keeps the contract's rules (idempotency keys, generations, operations in order, problem documents, long polls) and
trains nothing: an operation completes with made-up numbers, at once or, while ``held``, when ``release`` is called.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from tensorguard import commitment
from tensorguard.model_manifest import FileDigest, tokenizer_digest

NOW = "2026-01-02T03:04:05.000006Z"
API_KEY = "tg-key-0123456789abcdef-" + "5a" * 32
MODEL = {
    "architecture": "LlamaForCausalLM",
    "vocabulary_size": 2048,
    "max_positions": 512,
    "manifest_digest": "ab" * 32,
}
STATUS = {"unauthenticated": 401, "unknown_model": 404, "unknown_future": 404, "unknown_training_client": 404}
Json = dict[str, Any]


class ProblemError(Exception):
    """An answer that is an error."""

    def __init__(self, code: str, status: int = 422, **extras: Any) -> None:
        super().__init__(code)
        self.status = STATUS.get(code, status)
        self.document = {
            "type": f"urn:tensorguard:problem:{code}",
            "title": code,
            "status": self.status,
            "detail": f"{code}, says the simulator.",
            "code": code,
            "next_step": "Read the test.",
            **extras,
        }


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Json


@dataclass
class Simulator:
    """The state of the server, and the faults that it has yet to commit."""

    url: str = ""
    held: bool = False
    faults: deque[str] = field(default_factory=deque)
    samplers: dict[str, Json] = field(default_factory=dict)
    streamed: deque[bytes] = field(default_factory=deque)
    failures: deque[str] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)
    runs: dict[str, Json] = field(default_factory=dict)
    futures: dict[str, Json] = field(default_factory=dict)
    packages: dict[str, Json] = field(default_factory=dict)
    answers: dict[str, tuple[str, int, Json]] = field(default_factory=dict)
    forged_digest: str | None = None
    tokenizer: dict[str, bytes] = field(default_factory=dict)
    listed: dict[str, bytes] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def release(self) -> None:
        """Complete what is pending, in order, and hold nothing any more."""
        with self.changed:
            self.held = False
            for future in self.futures.values():
                if future["status"] == "pending":
                    self._finish(future)
            self.changed.notify_all()

    def roll_back(self, run_id: str, step: int, artifact_id: str | None) -> None:
        """Lose every operation of a run that is no sample or checkpoint, as after the death of its worker."""
        with self.changed:
            run = self.runs[run_id]
            lost = [f for f in self.futures.values() if f["training_client_id"] == run_id and _is_lost(f)]
            run["generation"] += 1
            run["last_durable_step"], run["last_durable_artifact_id"], run["step"] = step, artifact_id, step
            run["lost_operations"] = len(lost)
            for future in lost:
                future.update(
                    status="lost", result=None, error=ProblemError("operation_lost", **_standing(run)).document
                )
            self.changed.notify_all()

    # What the routes do.

    def create(self, body: Json) -> tuple[int, Json]:
        if body["model_ref"] != "small":
            raise ProblemError("unknown_model")
        if body["dp_config"] and body["dp_config"]["enabled"]:
            raise ProblemError("dp_not_available")
        run_id = f"run-{len(self.runs) + 1}"
        self.runs[run_id] = {
            "training_client_id": run_id,
            "tenant": "acme",
            "model_ref": body["model_ref"],
            "status": "open",
            "step": 0,
            "generation": 0,
            "last_durable_step": 0,
            "last_durable_artifact_id": None,
            "config": body,
            "created_at": NOW,
            "closed_at": None,
            "model": MODEL,
            "a_field_of_a_newer_server": True,
        }
        return 201, self.runs[run_id]

    def submit(self, run_id: str, kind: str, body: Json) -> tuple[int, Json]:
        run = self.run(run_id)
        if run["status"] == "closed":
            raise ProblemError("run_closed", 409)
        if body.get("generation") not in (None, run["generation"]):
            raise ProblemError("run_rolled_back", 409, **_standing(run))
        private = body.get("batch") or _private_of(body)
        future = {
            "future_id": secrets.token_hex(16),
            "training_client_id": run_id,
            "kind": kind,
            "status": "pending",
            "op_seq": 1 + sum(f["training_client_id"] == run_id for f in self.futures.values()),
            "created_at": NOW,
            "completed_at": None,
            "generation": run["generation"],
            "commitment": private and self._commit(private, body["salt"]),
            "result": None,
            "error": None,
            "position": {"chain": "acme", "seq": 10 + len(self.futures)},
            "asked": body,
        }
        self.futures[future["future_id"]] = future
        if not self.held:
            self._finish(future)
        return 202, future

    def _commit(self, private: object, salt: str) -> Json:
        digest = commitment.commit(bytes.fromhex(salt), commitment.canonical(private)).hex()
        return {"algorithm": "sha256-salted", "salt": salt, "digest": self.forged_digest or digest}

    def _finish(self, future: Json) -> None:
        future["completed_at"] = NOW
        code = self.failures.popleft() if self.failures else None
        if code or future.get("cancel"):
            code = "cancelled" if future.get("cancel") else code
            status = "cancelled" if code == "cancelled" else "failed"
            future.update(status=status, error=ProblemError(str(code)).document)
            return
        run = self.run(future["training_client_id"])
        run["step"] += future["kind"] == "optim_step"
        future.update(status="completed", result=_result(future, run))

    def run(self, run_id: str) -> Json:
        if run_id not in self.runs | self.samplers:
            raise ProblemError("unknown_training_client")
        return (self.runs | self.samplers)[run_id]

    def sampler(self, body: Json) -> tuple[int, Json]:
        sampler_id = f"sampler-{len(self.samplers) + 1}"
        self.samplers[sampler_id] = {
            **body,
            "sampler_id": sampler_id,
            "tenant": "acme",
            "model_ref": body["model_ref"] or "small",
            "status": "open",
            "step": 0,
            "generation": 0,
            "created_at": NOW,
            "model": MODEL,
        }
        return 201, self.samplers[sampler_id]

    def future(self, future_id: str) -> Json:
        if future_id not in self.futures:
            raise ProblemError("unknown_future")
        return self.futures[future_id]

    def finished(self, future_id: str, seconds: float) -> tuple[int, Json]:
        future = self.future(future_id)
        self.changed.wait_for(lambda: future["status"] != "pending", seconds)
        # A server forgets salts: what is read later has none.
        forgetful = {**future, "commitment": future["commitment"] and {**future["commitment"], "salt": None}}
        return (202 if future["status"] == "pending" else 200), forgetful

    def cancel(self, future_id: str) -> tuple[int, Json]:
        future = self.future(future_id)
        if future["status"] != "pending":
            raise ProblemError("operation_finished", 409)
        future["cancel"] = True
        return 202, future

    def tokenizer_info(self) -> Json:
        """What the server says of its tokenizer: ``listed``, or else the files that it sends."""
        files = [
            FileDigest(name, sha256(content).hexdigest(), len(content))
            for name, content in sorted((self.listed or self.tokenizer).items())
        ]
        digests = {"manifest_digest": MODEL["manifest_digest"], "tokenizer_digest": tokenizer_digest(files).hex()}
        return {"name": "small", **digests, "files": [asdict(file) for file in files]}

    def package(self, body: Json) -> tuple[int, Json]:
        package_id = secrets.token_hex(16)
        self.packages[package_id] = {
            "package_id": package_id,
            "training_client_id": "run-1",
            **body,
            "status": "signed",
            "package_digest": "cd" * 32,
            "file_digest": sha256(CONTENT).hexdigest(),
            "size_bytes": len(CONTENT),
            "error": None,
            "position": {"chain": "acme", "seq": 99},
        }
        return 202, {**self.packages[package_id], "status": "pending"}

    def audit(self) -> list[Json]:
        return [
            {
                "chain": "acme",
                "seq": seq,
                "event": "StepApplied" if seq % 2 else "OptimStepSubmitted",
                "event_id": f"{seq:032x}",
                "stream": "run/run-1",
                "stream_seq": seq,
                "recorded_at": NOW,
                "cause": None,
                "leaf_hash": f"{seq:064x}",
                "data": {"step": seq},
            }
            for seq in range(450)
        ]


CONTENT = secrets.token_bytes(300_000)


def _is_lost(future: Json) -> bool:
    return future["status"] == "pending" or future["kind"] in ("forward_backward", "optim_step", "load_state")


def _standing(run: Json) -> Json:
    return {
        "last_durable_step": run["last_durable_step"],
        "artifact_id": run["last_durable_artifact_id"],
        "generation": run["generation"],
        "lost_operations": run["lost_operations"],
    }


def _private_of(body: Json) -> Json | None:
    """What of a sample the ledger is committed to."""
    if "sampling_config" not in body:
        return None
    kinds = {name: body.get(name) for name in ("prompts", "messages", "tokens")}
    return {**kinds, **{name: body["sampling_config"].get(name, []) for name in ("stop", "stop_tokens")}}


def _samples(asked: Json) -> list[Json]:
    """A text backwards; of anything else that there was something."""
    given = asked["prompts"] or asked["messages"] or asked["tokens"]
    texts = [each if isinstance(each, str) else None for each in given]
    return [
        {
            "prompt_index": index,
            "completion_index": number,
            "prompt": text,
            "completion": text[::-1] if text else str(len(given[index])),
            "token_ids": [1, 2, 3],
            "logprobs": [-1.0] * 3 if asked["sampling_config"]["logprobs"] else None,
            "tokens_generated": 3,
            "finish_reason": "length",
        }
        for index, text in enumerate(texts)
        for number in range(asked["sampling_config"]["n"])
    ]


def _result(future: Json, run: Json) -> Json:
    asked = future["asked"]
    match future["kind"]:
        case "forward_backward":
            tokens = sum(map(len, asked["batch"]["input_ids"]))
            return {"loss": 2.5, "grad_norm": 0.75, "tokens_processed": tokens, "dp_metrics": None}
        case "forward":
            batch = asked["batch"]["attention_mask"]
            logprobs = [[None, *(-1.0 if seen else None for seen in row[1:])] for row in batch]
            return {"loss": 1.0, "tokens_processed": sum(map(sum, batch)), "logprobs": logprobs}
        case "optim_step":
            return {"step": run["step"], "learning_rate": asked["learning_rate"] or 1e-4, "dp_metrics": None}
        case "sample":
            return {
                "samples": _samples(asked),
                "model_step": run["step"],
                "sampling_config": asked["sampling_config"],
            }
        case "save_state":
            return {
                "artifact_id": secrets.token_hex(16),
                "artifact_type": "checkpoint",
                "size_bytes": 4096,
                "encryption": {"algorithm": "AES-256-GCM", "key_id": "dek-1"},
                "content_hash": "ef" * 32,
                "metadata": asked["metadata"],
                "created_at": NOW,
            }
        case _:
            return {"artifact_id": asked["artifact_id"], "step": run["step"], "adapter_digest": "01" * 32}
