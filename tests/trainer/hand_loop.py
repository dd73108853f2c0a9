"""The loops that users of transformers and peft would write, and the same training by an adapter of ours."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from processors.trainer.batch import IGNORED, Row
from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.seeds import operation_seed

if TYPE_CHECKING:
    from pathlib import Path

    from processors.trainer.adapter import Adapter
    from schemas.types import LoraSpec, OptimizerSpec

Calls = list[list[Row]]
SEED = 7


def hand_written(
    model_dir: Path, batches: list[Calls], lora: LoraSpec | None, spec: OptimizerSpec
) -> tuple[list[float], dict[str, Any]]:
    """Losses of every call and the trained tensors in the end."""
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir)
    if lora is not None:
        model = _with_lora(model, lora)
    model.train()
    optimizer = _optimizer([p for p in model.parameters() if p.requires_grad], spec)
    losses, op_seq = [], 0
    for calls in batches:
        for rows in calls:
            op_seq += 1
            torch.manual_seed(operation_seed(SEED, op_seq))
            loss = _loss(model, rows)
            (loss / len(calls)).backward()
            losses.append(loss.item())
        if spec.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), spec.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        op_seq += 1
    return losses, {n.replace(".default", ""): p.detach() for n, p in model.named_parameters() if p.requires_grad}


def _with_lora(model: Any, lora: LoraSpec) -> Any:
    torch.manual_seed(SEED)
    targets: Any = "all-linear" if lora.target_modules == ("all-linear",) else list(lora.target_modules)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=int(lora.alpha),
        lora_dropout=lora.dropout,
        target_modules=targets,
        bias=lora.bias,  # type: ignore[arg-type]  # one of peft's words
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(model, config)


def _optimizer(parameters: list[Any], spec: OptimizerSpec) -> Any:
    common: dict[str, Any] = {"lr": spec.learning_rate, "weight_decay": spec.weight_decay}
    if spec.name == "adafactor":
        return torch.optim.Adafactor(parameters, **common)
    if spec.name == "sgd":
        return torch.optim.SGD(parameters, momentum=spec.momentum, **common)
    kind = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
    return kind(parameters, betas=(spec.beta1, spec.beta2), eps=spec.eps, **common)


def _loss(model: Any, rows: list[Row]) -> Any:
    width = max(len(row.tokens) for row in rows)
    tokens = torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in rows])
    mask = torch.tensor([[1] * len(row.tokens) + [0] * (width - len(row.tokens)) for row in rows])
    return model(input_ids=tokens, attention_mask=mask, labels=tokens.masked_fill(mask == 0, IGNORED)).loss


def trained(adapter: Adapter, batches: list[Calls], first_op: int = 1) -> list[float]:
    """The same by forward_backward and optim_step; the losses of every call."""
    losses, op_seq = [], first_op
    for calls in batches:
        for rows in calls:
            losses.append(forward_backward(adapter, rows, operation_seed(SEED, op_seq)).loss)
            op_seq += 1
        optim_step(adapter, op_seq)
        op_seq += 1
    return losses
