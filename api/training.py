"""Runs on their way in: what a training client may ask of its model, and the command that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.errors import ApiError
from processors.catalogue import expert_modules, linear_modules, model_dir
from processors.errors import ModelError
from schemas import commands
from schemas.types import LoraSpec, OptimizerSpec

if TYPE_CHECKING:
    from api import requests as q
    from producers.installation import Installation
    from projections.models import CatalogueModel
    from schemas.types import StartSpec

ALL_LINEAR = "all-linear"
SHAPE = ("rank", "alpha", "bias", "use_rslora", "use_dora")


def check_lora(installation: Installation, lora: q.LoRAConfig | None, model: CatalogueModel) -> None:
    """Hold LoRA settings to the layers that the model has, before a run exists that could never train.

    Raises:
        ApiError: invalid_request, or model_changed where the files cannot be read.
    """
    if lora is None:
        return
    directory = model_dir(installation, bytes.fromhex(model.manifest_digest))
    try:
        layers, experts = linear_modules(directory), expert_modules(directory)
    except ModelError as error:
        raise ApiError("model_changed", "The model's files cannot be read.") from error
    if layers and (unknown := sorted(set(lora.target_modules) - layers - {ALL_LINEAR})):
        known = ", ".join(sorted(layers))
        raise ApiError("invalid_request", f"lora_config.target_modules: no layer is called {unknown[0]}; {known} are.")
    if experts and set(lora.target_modules) & (experts | {ALL_LINEAR}):
        _check_experts(lora)


def _check_experts(lora: q.LoRAConfig) -> None:
    """Refuse what peft cannot do to the fused weights of experts."""
    for name, wanted in (("dropout", lora.dropout), ("use_dora", lora.use_dora)):
        if wanted:
            raise ApiError(
                "invalid_request",
                f"lora_config.{name}: the experts of this model take none; leave it out, or name other target_modules.",
            )


def same_shape(former: dict[str, Any] | None, lora: q.LoRAConfig | None) -> bool:
    """Whether two adapters' tensors mean the same; dropout only matters while training."""
    if former is None or lora is None:
        return former is None and lora is None
    asked = lora.model_dump()
    targets = set(former["target_modules"]) == set(lora.target_modules)
    return targets and all(former.get(name, asked[name]) == asked[name] for name in SHAPE)


def _lora(lora: q.LoRAConfig | None) -> LoraSpec | None:
    if lora is None:
        return None
    return LoraSpec(
        lora.rank,
        lora.alpha,
        lora.dropout,
        tuple(lora.target_modules),
        lora.bias,
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
    )


def create(
    run_id: str,
    config: q.TrainingConfig,
    model: CatalogueModel,
    start: StartSpec | None,
    retention: str,
    metadata: bytes | None,
) -> commands.CreateRun:
    """The command that starts a run."""
    optimizer = config.optimizer
    return commands.CreateRun(
        run_id=run_id,
        model=model.name,
        manifest_digest=bytes.fromhex(model.manifest_digest),
        tokenizer_digest=bytes.fromhex(model.tokenizer_digest),
        lora=_lora(config.lora_config),
        optimizer=OptimizerSpec(
            optimizer.name,
            optimizer.learning_rate,
            optimizer.weight_decay,
            optimizer.betas[0],
            optimizer.betas[1],
            optimizer.eps,
            momentum=optimizer.momentum,
            max_grad_norm=optimizer.max_grad_norm,
        ),
        batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        max_steps=config.max_steps,
        seed=config.seed,
        metadata_commitment=metadata,
        batch_retention=retention,
        start=start,
    )
