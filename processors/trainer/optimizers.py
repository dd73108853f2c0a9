"""Optimizers by name, the shapes of their state, and when a step of theirs cannot overflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor
    from torch.nn import Parameter

    from schemas.types import OptimizerSpec

ADAMW, ADAM, SGD, ADAFACTOR = "adamw", "adam", "sgd", "adafactor"
STEP, MOMENTUM = "step", "momentum_buffer"
FUSED = frozenset({ADAMW, ADAM, SGD})
_TAME = {"weights": 1e12, "gradient": 1e8, "state": 1e16, "rate": 10.0, "decay": 10.0, "beta": 0.9999, "eps": 1e-12}


def new_optimizer(spec: OptimizerSpec, parameters: Mapping[str, Parameter]) -> torch.optim.Optimizer:
    """An optimizer without history; fused where torch has that.

    ``beta1``, ``beta2`` and ``eps`` are Adam's and AdamW's, ``momentum`` is SGD's. Adafactor (Shazeer & Stern,
    arXiv:1804.04235) takes learning rate and weight decay, and torch's own values for the rest.
    """
    held: Iterable[Parameter] = parameters.values()
    common: dict[str, Any] = {"lr": spec.learning_rate, "weight_decay": spec.weight_decay}
    if spec.name == ADAFACTOR:
        return torch.optim.Adafactor(held, **common)
    if spec.name == SGD:
        # torch's fused SGD leaves 16-bit weights on a CPU as they are, and says nothing.
        fused = all(parameter.dtype == torch.float32 for parameter in held)
        made: torch.optim.Optimizer = torch.optim.SGD(held, momentum=spec.momentum, fused=fused, **common)
        _start_momentum(made, spec, held)
        return made
    kind = torch.optim.Adam if spec.name == ADAM else torch.optim.AdamW
    return kind(held, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True, **common)


def _start_momentum(optimizer: torch.optim.Optimizer, spec: OptimizerSpec, parameters: Iterable[Parameter]) -> None:
    # The fused kernel wants the buffers of all parameters or of none; zero is what a first step starts from.
    for parameter in parameters if spec.momentum else ():
        optimizer.state[parameter][MOMENTUM] = torch.zeros_like(parameter)


def state_shapes(spec: OptimizerSpec, parameter: Tensor) -> dict[str, tuple[int, ...]]:
    """The slots of a parameter's state, with their shapes."""
    shape = tuple(parameter.shape)
    if spec.name == SGD:
        return {MOMENTUM: shape} if spec.momentum else {}
    if spec.name != ADAFACTOR:
        return {"exp_avg": shape, "exp_avg_sq": shape, STEP: ()}
    if len(shape) > 1:
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1]), STEP: ()}
    return {"variance": shape, STEP: ()}


def place_of(spec: OptimizerSpec, slot: str, parameter: Tensor) -> torch.device:
    """Where a slot lies: beside its parameter, but for the counts that no fused kernel reads."""
    return torch.device("cpu") if slot == STEP and spec.name not in FUSED else parameter.device


def is_tame(spec: OptimizerSpec, rate: float, norm: float, weights: Sequence[Tensor], state: Sequence[Tensor]) -> bool:
    """Whether a step at a learning rate cannot make a number that its type does not hold.

    ``norm`` is the gradient's. Within these bounds no optimizer of ours moves a weight further than 1e31: Adam by at
    most rate |m| / ((1 - beta1) eps), with |m| below its old value or the decayed weight plus the gradient; SGD and
    Adafactor by far less. A norm bounds each number of its tensor, and a NaN is below nothing. Biases of a run's
    own are of their base's type, and float16 ends at 65504: their steps are looked at.
    """
    return (
        all(weight.dtype != torch.float16 for weight in weights)
        and rate <= _TAME["rate"]
        and spec.weight_decay <= _TAME["decay"]
        and spec.eps >= _TAME["eps"]
        and max(spec.beta1, spec.momentum) <= _TAME["beta"]
        and norm < _TAME["gradient"]
        and _largest_norm(weights) < _TAME["weights"]
        and _largest_norm(state) < _TAME["state"]
    )


def _largest_norm(tensors: Sequence[Tensor]) -> float:
    if not tensors:
        return 0.0
    # torch's largest is NaN if one is: no comparison with a bound then holds.
    return float(torch.stack(torch._foreach_norm(list(tensors))).max())  # noqa: SLF001 -- as torch's clipping does
