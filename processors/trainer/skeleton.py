"""Models that share their weights: the modules of a base, copied, around the very same tensors."""

from __future__ import annotations

import copy
import itertools
import warnings
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel, get_peft_model
from torch.nn import Module, Parameter

from processors.trainer.errors import OperationFailedError

if TYPE_CHECKING:
    from peft import LoraConfig


def skeleton(model: Any, *, own_biases: bool = False) -> Any:
    """A model of its own on the same weights; with ``own_biases`` its biases are copies, which it may train."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    made = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})
    for module in made.modules() if own_biases else ():
        bias = module.__dict__["_parameters"].get("bias")
        if isinstance(bias, Parameter):
            module.bias = Parameter(bias.detach().clone(), requires_grad=False)
    return made


def tuned(model: Any) -> Any:
    """A copy with trainable weights in float32: those of less precision would swallow small steps."""
    made: Module = copy.deepcopy(model).float()
    return made.requires_grad_(requires_grad=True)


def adapted(model: Any, config: LoraConfig, name: str, seed: int) -> PeftModel:
    """The model with one more adapter, initialised from a seed.

    Raises:
        OperationFailedError: the settings do not fit the model.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        try:
            if isinstance(model, PeftModel):
                model.add_adapter(name, config)
                return model
            return get_peft_model(model, config, adapter_name=name)
        except ValueError as error:
            raise OperationFailedError("The adapter's settings do not fit this model.") from error


def own_memory(model: Module) -> None:
    """Move weights out of the mapped file, which could change or be cut under a running model."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
