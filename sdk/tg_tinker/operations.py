"""The primitives as requests: what is sent, and what the ledger must then refer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

from tensorguard import commitment
from tensorguard.commitment import UncommittableError

from tg_tinker.batches import Batch, plain_batch
from tg_tinker.errors import CommitmentMismatchError, InvalidRequestError
from tg_tinker.prompts import Prompts, plain_prompts
from tg_tinker.types import Commitment, Future, SamplingConfig

SALT_BYTES = 32


@dataclass(frozen=True)
class Operation:
    """A primitive to be submitted; ``commitment`` is to its private data (None: it has none)."""

    kind: str
    body: Mapping[str, Any]
    commitment: Commitment | None = None


def forward_backward(batch: Batch, salt: str) -> Operation:
    """Accumulate the gradient of a batch; the ledger refers to it under this salt.

    Raises:
        InvalidRequestError: the batch is none (see :func:`tg_tinker.batches.plain_batch`).
    """
    return _with_batch("forward_backward", batch, salt)


def forward(batch: Batch, salt: str) -> Operation:
    """Evaluate a batch; the ledger refers to it under this salt (errors as for :func:`forward_backward`)."""
    return _with_batch("forward", batch, salt)


def _with_batch(kind: str, batch: Batch, salt: str) -> Operation:
    plain = plain_batch(batch)
    return Operation(kind, {"batch": plain, "salt": salt}, _commit(plain, salt))


def optim_step(learning_rate: float | None, max_grad_norm: float | None) -> Operation:
    """Apply what is accumulated."""
    return Operation("optim_step", {"learning_rate": learning_rate, "max_grad_norm": max_grad_norm})


def sample(prompts: Prompts, config: SamplingConfig | None, salt: str) -> Operation:
    """Complete prompts: texts, conversations or token ids.

    Raises:
        InvalidRequestError: they are none of these.
    """
    drawn = (config or SamplingConfig()).model_dump(mode="json")
    kinds = {"prompts": None, "messages": None, "tokens": None, **plain_prompts(prompts)}
    body = {**kinds, "sampling_config": drawn, "salt": salt}
    private = {**kinds, "stop": drawn["stop"], "stop_tokens": drawn["stop_tokens"]}
    return Operation("sample", body, _commit(private, salt))


def save_state(name: str, metadata: Mapping[str, Any] | None, *, include_optimizer: bool) -> Operation:
    """Save a named checkpoint."""
    body = {"name": name, "include_optimizer": include_optimizer, "metadata": dict(metadata or {})}
    return Operation("save_state", body)


def load_state(artifact_id: str, *, include_optimizer: bool) -> Operation:
    """Load a checkpoint."""
    return Operation("load_state", {"artifact_id": artifact_id, "include_optimizer": include_optimizer})


def _commit(value: object, salt: str) -> Commitment:
    try:
        data = commitment.canonical(value)
    except UncommittableError as error:
        raise InvalidRequestError("The data holds text or numbers that have no JSON form.") from error
    digest = commitment.commit(commitment.parse_salt(salt), data)
    return Commitment(algorithm=commitment.ALGORITHM, salt=salt, digest=digest.hex())


def check_commitment(operation: Operation, future: Future) -> Future:
    """The accepted future, with our own commitment in it.

    Raises:
        CommitmentMismatchError: the server's ledger refers to other data than was sent.
    """
    ours, theirs = operation.commitment, future.commitment
    if ours is None:
        return future
    if theirs is None or not compare_digest(ours.digest.encode(), theirs.digest.lower().encode()):
        raise CommitmentMismatchError(f"The ledger's commitment for {future.future_id} is not to what was sent.")
    return future.model_copy(update={"commitment": ours})
