"""Well-formed values: one table of checks per command, by field."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from producers.deciders.context import Rejected
from schemas import commands as c
from schemas.base import Command

LONGEST_LABEL = 256
MLDSA44_KEY_BYTES = 1312
COMPOSITE_KEY_BYTES = 1952 + 32
XWING_KEY_BYTES = 1216

FAILURES = frozenset(
    {
        "non_finite_loss",
        "token_out_of_vocabulary",
        "sequence_too_long",
        "chat_template_refused",
        "out_of_memory",
        "worker_killed",
        "empty_gradient",
        "batch_lost",
        "checkpoint_damaged",
        "checkpoint_truncated",
        "checkpoint_wrong_key",
        "checkpoint_mismatch",
        "storage_full",
        "cancelled",
        "internal_error",
        "model_changed",
        "accumulation_full",
        "accumulation_incomplete",
        "max_steps_reached",
    }
)
"""Why an operation may fail; ``cancelled`` makes an ``OperationCancelled``."""


@dataclass(frozen=True, slots=True)
class Check:
    """A test of one value and the words for what it must be."""

    test: Callable[[Any], bool]
    must: str


def _matches(pattern: str, must: str) -> Check:
    compiled = re.compile(pattern)
    return Check(lambda value: compiled.fullmatch(value) is not None, must)


def _at_least(low: int) -> Check:
    return Check(lambda value: value >= low, f"be at least {low}")


def _size(count: int) -> Check:
    return Check(lambda value: len(value) == count, f"be {count} bytes long")


def _one_of(*names: str) -> Check:
    return Check(lambda value: value in names, f"be one of {', '.join(names)}")


def _optional(check: Check) -> Check:
    return Check(lambda value: value is None or check.test(value), check.must)


def _all(check: Check, *, at_least: int = 1) -> Check:
    def test(values: tuple[Any, ...]) -> bool:
        return len(values) >= at_least and len(set(values)) == len(values) and all(map(check.test, values))

    return Check(test, f"hold at least {at_least}, all different, and each must {check.must}")


def _safe_path(path: str) -> bool:
    parts = path.split("/")
    return (
        len(path) <= LONGEST_LABEL
        and all(part not in ("", ".", "..") for part in parts)
        and path.isprintable()
        and "\\" not in path
    )


SLUG = _matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "be 1 to 128 letters, digits, dots, dashes, underscores")
HEX16 = _matches(r"[0-9a-f]{16}", "be 16 lower-case hex digits")
LABEL = Check(lambda value: 0 < len(value) <= LONGEST_LABEL and value.isprintable(), "be 1 to 256 printable characters")
COUNT, POSITIVE = _at_least(0), _at_least(1)
FINITE = Check(math.isfinite, "be a finite number")
NON_NEGATIVE = Check(lambda value: math.isfinite(value) and value >= 0, "be finite and not negative")
ABOVE_ZERO = Check(lambda value: math.isfinite(value) and value > 0, "be finite and greater than zero")
BELOW_ONE = Check(lambda value: 0 <= value < 1, "be at least 0 and less than 1")
UP_TO_ONE = Check(lambda value: 0 <= value <= 1, "be at least 0 and at most 1")
SHARE = Check(lambda value: 0 < value <= 1, "be greater than 0 and at most 1")
GENERATION = _optional(COUNT)

_OUTCOME = {"run_id": SLUG, "lease_epoch": POSITIVE}
_BATCH = {"run_id": SLUG, "rows": POSITIVE, "tokens": POSITIVE, "generation": GENERATION, "interval": _optional(COUNT)}
_PLAN = {
    "plan.build": LABEL,
    "plan.instruction_set": LABEL,
    "plan.threads": POSITIVE,
    "plan.micro_batches": POSITIVE,
    "plan.dtype": LABEL,
    "plan.kernels": LABEL,
}
_SIGNER = {"mldsa44_key": _size(MLDSA44_KEY_BYTES)}

CHECKS: Mapping[type[Command], Mapping[str, Check]] = {
    c.EnrolProducer: {
        "role": _one_of("gateway", "dispatcher", "worker", "packager", "retention", "device"),
        "name": LABEL,
        "hpke_public_key": _optional(_size(XWING_KEY_BYTES)),
    },
    c.RevokeProducer: {},
    c.IssueApiKey: {"key_id": HEX16, "scopes": _all(LABEL, at_least=0)},
    c.RevokeApiKey: {"key_id": HEX16},
    c.PublishSignerKey: _SIGNER,
    c.RotateSignerKey: _SIGNER,
    c.PublishArtifactKey: {"public_key": _size(COMPOSITE_KEY_BYTES)},
    c.RegisterModel: {
        "name": SLUG,
        "architecture": LABEL,
        "files": Check(lambda files: 0 < len(files) == len({f.path for f in files}), "hold files of different paths"),
        "files.path": Check(_safe_path, "be a relative path of plain parts"),
        "files.size_bytes": COUNT,
        "vocabulary_size": POSITIVE,
        "max_positions": POSITIVE,
        "parameters": POSITIVE,
        "dtype": _one_of("float32", "bfloat16", "float16"),
        "source": _optional(LABEL),
    },
    c.RemoveModel: {"name": SLUG},
    c.MoveLedger: {"ledger": SLUG},
    c.ContinueLedger: {"ledger": SLUG},
    c.CreateRun: {
        "run_id": SLUG,
        "model": SLUG,
        "lora.rank": POSITIVE,
        "lora.alpha": ABOVE_ZERO,
        "lora.dropout": BELOW_ONE,
        "lora.target_modules": _all(LABEL, at_least=0),
        "lora.bias": _one_of("none", "all", "lora_only"),
        "optimizer.name": _one_of("adamw", "adam", "sgd", "adafactor"),
        "optimizer.learning_rate": ABOVE_ZERO,
        "optimizer.weight_decay": NON_NEGATIVE,
        "optimizer.beta1": BELOW_ONE,
        "optimizer.beta2": BELOW_ONE,
        "optimizer.eps": ABOVE_ZERO,
        "optimizer.momentum": BELOW_ONE,
        "optimizer.max_grad_norm": _optional(ABOVE_ZERO),
        "batch_size": POSITIVE,
        "gradient_accumulation_steps": _optional(POSITIVE),
        "max_steps": _optional(POSITIVE),
        "batch_retention": _one_of("sealed", "memory"),
        "start.step": COUNT,
    },
    c.GrantLease: {"run_id": SLUG, "worker": LABEL, "former_epoch": _optional(COUNT)},
    c.SubmitForwardBackward: _BATCH,
    c.SubmitForward: _BATCH,
    c.CompleteForward: {**_OUTCOME, "loss": FINITE, "tokens": COUNT, "step": COUNT},
    c.CompleteForwardBackward: {**_OUTCOME, "loss": FINITE, "grad_norm": NON_NEGATIVE, "tokens": COUNT},
    c.SubmitOptimStep: {
        "run_id": SLUG,
        "learning_rate": _optional(ABOVE_ZERO),
        "max_grad_norm": _optional(ABOVE_ZERO),
        "generation": GENERATION,
    },
    c.RecordStep: {
        **_OUTCOME,
        "step": POSITIVE,
        "learning_rate": ABOVE_ZERO,
        "grad_norm": NON_NEGATIVE,
        **_PLAN,
    },
    c.SubmitSample: {
        "run_id": SLUG,
        "prompts": POSITIVE,
        "max_tokens": POSITIVE,
        "temperature": NON_NEGATIVE,
        "top_p": SHARE,
        "top_k": COUNT,
        "min_p": UP_TO_ONE,
        "repetition_penalty": ABOVE_ZERO,
        "completions": POSITIVE,
        "generation": GENERATION,
        "interval": _optional(COUNT),
    },
    c.CompleteSample: {**_OUTCOME, "tokens_generated": COUNT, "step": COUNT},
    c.SubmitSaveState: {"run_id": SLUG, "name": SLUG, "generation": GENERATION},
    c.RecordCheckpoint: {
        **_OUTCOME,
        "name": _optional(SLUG),
        "step": COUNT,
        "through_op_seq": COUNT,
        "size_bytes": POSITIVE,
        "wrapping_key_id": LABEL,
    },
    c.SubmitLoadState: {"run_id": SLUG, "generation": GENERATION, "step": _optional(COUNT)},
    c.RecordCheckpointLoaded: {**_OUTCOME, "step": COUNT},
    c.FailOperation: {**_OUTCOME, "code": _one_of(*sorted(FAILURES))},
    c.RequestCancellation: {"run_id": SLUG},
    c.CloseRun: {"run_id": SLUG},
    c.RecordReplay: {
        **_OUTCOME,
        "through_op_seq": COUNT,
        "steps": COUNT,
        "differing_step": _optional(POSITIVE),
        **_PLAN,
    },
    c.FailReplay: {**_OUTCOME, "code": _one_of(*sorted(FAILURES))},
    c.RecordBatchKeyDestroyed: {"run_id": SLUG, "interval": COUNT},
    c.DeleteArtifact: {"run_id": SLUG},
    c.RecordArtifactDeleted: {"run_id": SLUG},
    c.ExportArtifact: {"run_id": SLUG, "format": _one_of("peft", "merged")},
    c.RecordArtifactExported: {"run_id": SLUG, "size_bytes": POSITIVE},
    c.FailArtifactExport: {"run_id": SLUG, "code": SLUG},
    c.RequestPackage: {
        "run_id": SLUG,
        "recipients": Check(lambda keys: 0 < len(keys) == len(set(keys)), "hold different devices, at least one"),
        "release_counter": COUNT,
        "expires_at": _optional(POSITIVE),
    },
    c.RecordPackageSigned: {"size_bytes": POSITIVE},
    c.FailPackage: {"code": SLUG},
    c.RecordPackageOpened: {},
}
"""What each field must be. A dotted name reaches into a nested value or each item of a tuple; None is passed over."""


def invalid_value(command: Command) -> Rejected | None:
    """The first field of a command that no decider could work with."""
    for name, check in CHECKS[type(command)].items():
        if not all(map(check.test, _reach(command, name))):
            return Rejected("invalid_value", f"{type(command).__name__}.{name} must {check.must}.")
    return None


def _reach(message: Any, name: str) -> list[Any]:
    if "." not in name:
        return [getattr(message, name)]
    head, _, rest = name.partition(".")
    value = getattr(message, head)
    holders = value if isinstance(value, tuple) else () if value is None else (value,)
    return [found for holder in holders for found in _reach(holder, rest)]
