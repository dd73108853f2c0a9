"""Well-formed commands and events with few words: every field has a default by its name."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from hashlib import sha256
from typing import Any

from producers.deciders.context import Context, Decision
from producers.deciders.registry import decide, evolve, stream_of
from schemas.base import Command, Event
from schemas.types import ExecutionPlan, LoraSpec, ModelFile, OptimizerSpec

NOW = 1_800_000_000_000_000
LEARNING_RATE = 1e-3
PUBLIC_KEY = b"\x01" * 32
KEY_ID = sha256(PUBLIC_KEY).digest()
COMPOSITE_KEY = b"\x02" * 1984
SIGNED_BY = b"\x7f" * 32
DEVICE = b"\x03" * 32
OP = b"\x0a" * 16
ARTIFACT = b"\x0b" * 16

DEFAULTS: dict[str, Any] = {
    "adapter_digest": b"\x20" * 32,
    "architecture": "llama",
    "artifact_id": ARTIFACT,
    "batch_commitment": b"\x21" * 32,
    "batch_size": 4,
    "code": "out_of_memory",
    "completions_commitment": b"\x22" * 32,
    "content_hash": b"\x23" * 32,
    "device": DEVICE,
    "differing_step": None,
    "ed25519_key": b"\x24" * 32,
    "expires_at": None,
    "export_id": b"\x0d" * 16,
    "file_digest": b"\x25" * 32,
    "files_digest": b"\x2e" * 32,
    "format": "peft",
    "files": (ModelFile("config.json", b"\x26" * 32, 10),),
    "generation": None,
    "grad_norm": 1.0,
    "gradient_accumulation_steps": None,
    "hpke_public_key": None,
    "identical": True,
    "include_optimizer": True,
    "includes_optimizer": True,
    "interval": 0,
    "key_id": KEY_ID,
    "kind": "forward_backward",
    "learning_rate": LEARNING_RATE,
    "ledger": "kafka-1",
    "lease_epoch": 1,
    "lora": LoraSpec(8, 16.0, 0.0, ("q_proj",), "none"),
    "logprobs_commitment": b"\x2f" * 32,
    "loss": 2.5,
    "manifest_digest": b"\x27" * 32,
    "max_positions": 128,
    "max_steps": None,
    "max_tokens": 16,
    "metadata_commitment": None,
    "mldsa44_key": b"\x28" * 1312,
    "model": "tiny",
    "name": "first",
    "op_seq": 1,
    "operation_id": OP,
    "optimizer": OptimizerSpec("adamw", LEARNING_RATE, 0.0, 0.9, 0.999, 1e-8),
    "package_digest": b"\x29" * 32,
    "package_id": b"\x0c" * 16,
    "parameters": 1000,
    "plan": ExecutionPlan("0.1.0", "avx2", 2, 1, "float32", "eager"),
    "previous_ed25519_key": b"\x24" * 32,
    "prompts": 1,
    "prompts_commitment": b"\x2a" * 32,
    "public_key": PUBLIC_KEY,
    "recipients": (DEVICE,),
    "release_counter": 1,
    "resume_artifact": None,
    "resume_op_seq": 0,
    "resume_step": 0,
    "role": "worker",
    "rows": 2,
    "run_id": "run-1",
    "scopes": ("train",),
    "secret_hash": b"\x2b" * 32,
    "seed": 0,
    "signing_key_id": b"\x2c" * 32,
    "size_bytes": 1000,
    "step": 1,
    "steps": 1,
    "temperature": 1.0,
    "through_op_seq": 0,
    "tokenizer_digest": b"\x2d" * 32,
    "tokens": 20,
    "tokens_generated": 16,
    "top_p": 1.0,
    "vocabulary_size": 256,
    "worker": "trainer-1",
    "wrapping_key_id": "dek-1",
}
API_KEY = {"key_id": "00112233aabbccdd"}
ARTIFACT_KEY = {"key_id": sha256(COMPOSITE_KEY).digest(), "public_key": COMPOSITE_KEY}


def make(cls: Any, **given: Any) -> Any:
    """A message of that class, as given and otherwise by default."""
    return cls(**{f.name: given[f.name] if f.name in given else _default(f) for f in fields(cls)})


def _default(of: Field[Any]) -> Any:
    return DEFAULTS[of.name] if of.default is MISSING else of.default


def fold(stream: str, *events: Event) -> object | None:
    """The state of a stream after its events."""
    state: object | None = None
    for event in events:
        state = evolve(state, stream, event)
    return state


def decided(given: tuple[Event, ...], when: Command, **context: Any) -> Decision:
    """What the command leads to in a stream of those events."""
    stream = stream_of(when)
    known = {"now": NOW, "chain": "acme", "command_id": OP, "role": "", "key_id": SIGNED_BY, "stream": stream}
    return decide(fold(stream, *given), when, Context(**{**known, **context}))
