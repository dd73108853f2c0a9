"""Samples on their way in: what of a request is private, and what the ledger may know. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.errors import ApiError
from schemas import commands
from schemas.types import LoraSpec, OptimizerSpec, StartSpec

if TYPE_CHECKING:
    from api import requests as q
    from projections.models import Artifact, CatalogueModel, KnownModel, Run

MOST_COMPLETIONS = 256
STILL = OptimizerSpec("sgd", 1e-4, 0.0, 0.0, 0.0, 1e-8)
"""The optimizer of a run that never steps."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a sampler samples from: a model of the catalogue, and the checkpoint that stands on it, if there is one."""

    model: str
    manifest_digest: str
    tokenizer_digest: str
    lora: LoraSpec | None = None
    start: StartSpec | None = None

    @classmethod
    def of_model(cls, model: CatalogueModel) -> Source:
        """A bare model."""
        return cls(model.name, model.manifest_digest, model.tokenizer_digest)

    @classmethod
    def of_artifact(cls, artifact: Artifact, run: Run) -> Source:
        """A checkpoint of a run."""
        start = StartSpec(bytes.fromhex(artifact.artifact_id), bytes.fromhex(artifact.manifest_digest), artifact.step)
        lora = LoraSpec(**{**run.lora, "target_modules": tuple(run.lora["target_modules"])}) if run.lora else None
        return cls(run.model, run.manifest_digest, run.tokenizer_digest, lora, start)


def create(run_id: str, source: Source, seed: int, retention: str, metadata: bytes | None) -> commands.CreateRun:
    """The command that opens a sampler: a run that only samples."""
    return commands.CreateRun(
        run_id=run_id,
        model=source.model,
        manifest_digest=bytes.fromhex(source.manifest_digest),
        tokenizer_digest=bytes.fromhex(source.tokenizer_digest),
        lora=source.lora,
        optimizer=STILL,
        batch_size=1,
        gradient_accumulation_steps=None,
        max_steps=None,
        seed=seed,
        metadata_commitment=metadata,
        batch_retention=retention,
        trainable=False,
        start=source.start,
    )


def private_part(body: q.SampleRequest) -> dict[str, Any]:
    """What is committed to and never on the ledger."""
    config = body.sampling_config
    conversations = [[message.model_dump() for message in each] for each in body.messages or ()]
    return {
        "prompts": body.prompts,
        "messages": None if body.messages is None else conversations,
        "tokens": body.tokens,
        "stop": config.stop,
        "stop_tokens": config.stop_tokens,
    }


def check(body: q.SampleRequest, model: KnownModel) -> None:
    """Hold a request to its model.

    Raises:
        ApiError: invalid_request, chat_template_refused, token_out_of_vocabulary or sequence_too_long.
    """
    if body.messages is not None and not model.has_chat_template:
        raise ApiError("chat_template_refused", "messages: this model has no chat template.")
    wanted = count(body) * body.sampling_config.n
    if wanted > MOST_COMPLETIONS:
        raise ApiError("invalid_request", f"sampling_config.n: {wanted} completions; at most {MOST_COMPLETIONS}.")
    for number, tokens in enumerate(body.tokens or ()):
        if max(tokens) >= model.vocabulary_size:
            raise ApiError("token_out_of_vocabulary", f"tokens, row {number}: ids go to {model.vocabulary_size - 1}.")
        if len(tokens) >= model.max_positions:
            most = model.max_positions - 1
            raise ApiError("sequence_too_long", f"tokens, row {number}, has {len(tokens)}; at most {most} leave room.")


def count(body: q.SampleRequest) -> int:
    """How many prompts there are."""
    return len(body.prompts or body.messages or body.tokens or ())


def command(run: Run, body: q.SampleRequest, digest: bytes, interval: int | None) -> commands.SubmitSample:
    """The command of a request, by the commitment to its private part and the interval that this is sealed in."""
    config = body.sampling_config
    return commands.SubmitSample(
        run_id=run.run_id,
        prompts_commitment=digest,
        prompts=count(body),
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.seed,
        generation=body.generation,
        top_k=config.top_k,
        min_p=config.min_p,
        repetition_penalty=config.repetition_penalty,
        completions=config.n,
        logprobs=config.logprobs,
        interval=interval,
    )
