"""A run's own part of the model: its adapter, its optimizer, its accumulated gradient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from processors.trainer.errors import CheckpointMismatchError
from processors.trainer.tensors import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from processors.trainer.base_model import SharedBase
    from schemas.types import LoraSpec, OptimizerSpec

ADAPTER, OPTIMIZER = "adapter/", "optimizer/"
STEP = "step"
SLOTS = ("exp_avg", "exp_avg_sq", STEP)


class Adapter:
    """The trainable state of one run on a shared base.

    ``gradients`` is the sum over ``calls`` forward_backward calls of each call's mean-loss gradient, computed in
    ``micro_batches`` pieces; ``step`` counts applied steps; ``through_op_seq`` is the operation after which adapter
    and optimizer are as they are.
    """

    def __init__(self, base: SharedBase, lora: LoraSpec, optimizer: OptimizerSpec, seed: int) -> None:
        self.base = base
        self.spec = optimizer
        self.name = base.add(lora, seed)
        self.parameters = base.parameters(self.name)
        self.gradients: dict[str, Tensor] = {}
        self.calls = 0
        self.micro_batches = 0
        self.step = 0
        self.through_op_seq = 0
        self.optimizer = self._fresh_optimizer()

    def _fresh_optimizer(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            self.parameters.values(),
            lr=self.spec.learning_rate,
            betas=(self.spec.beta1, self.spec.beta2),
            eps=self.spec.eps,
            weight_decay=self.spec.weight_decay,
            fused=True,
        )

    def drop_gradients(self) -> None:
        """Forget what was accumulated."""
        self.gradients, self.calls, self.micro_batches = {}, 0, 0

    def close(self) -> None:
        """Free the adapter."""
        self.base.remove(self.name)

    def weights(self) -> dict[str, Tensor]:
        """The adapter's tensors by name; views, not copies."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def digest(self) -> bytes:
        """The digest of the adapter as it is: 32 bytes."""
        return digest_of(self.weights())

    def tensors(self, *, include_optimizer: bool) -> dict[str, Tensor]:
        """What a checkpoint holds: ``adapter/<name>`` and ``optimizer/<name>.<slot>``; views, not copies."""
        held = {ADAPTER + name: tensor for name, tensor in self.weights().items()}
        if include_optimizer:
            held |= self._optimizer_tensors()
        return held

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        state = self.optimizer.state
        return {
            f"{OPTIMIZER}{name}.{slot}": state[parameter][slot].detach()
            for name, parameter in self.parameters.items()
            if parameter in state
            for slot in SLOTS
        }

    def restore(
        self, tensors: Mapping[str, Tensor], *, step: int, through_op_seq: int, include_optimizer: bool
    ) -> None:
        """Become what a checkpoint holds; without its optimizer, start that afresh.

        Raises:
            CheckpointMismatchError: names or shapes are others; nothing was changed.
        """
        weights = {key.removeprefix(ADAPTER): value for key, value in tensors.items() if key.startswith(ADAPTER)}
        slots = _slots(tensors) if include_optimizer else {}
        self._check(weights, slots)
        self._become(weights, slots)
        self.drop_gradients()
        self.step, self.through_op_seq = step, through_op_seq

    def copies(self) -> dict[str, Tensor]:
        """Copies of weights and optimizer state, for :meth:`rewind`."""
        return {name: tensor.clone() for name, tensor in self.tensors(include_optimizer=True).items()}

    def rewind(self, copies: Mapping[str, Tensor]) -> None:
        """Let weights and optimizer be again what they were when the copies were made."""
        weights = {key.removeprefix(ADAPTER): value for key, value in copies.items() if key.startswith(ADAPTER)}
        self._become(weights, _slots(copies))

    def is_finite(self) -> bool:
        """Whether every weight and every number of the optimizer is finite."""
        return all(map(_is_finite, self.tensors(include_optimizer=True).values()))

    def _become(self, weights: Mapping[str, Tensor], slots: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take weights and optimizer state; what can fail for want of memory comes before the first change."""
        optimizer = self._fresh_optimizer()
        for name, state in slots.items():
            optimizer.state[self.parameters[name]] = {slot: value.clone() for slot, value in state.items()}
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
        self.optimizer = optimizer

    def _check(self, weights: Mapping[str, Tensor], slots: Mapping[str, Mapping[str, Tensor]]) -> None:
        same = weights.keys() == self.parameters.keys() and all(map(_alike, weights.values(), self._ordered(weights)))
        if not same or not all(self._is_state_of(name, state) for name, state in slots.items()):
            raise CheckpointMismatchError("The checkpoint's tensors are not those of this run.")

    def _ordered(self, names: Iterable[str]) -> list[Tensor]:
        return [self.parameters[name] for name in names]

    def _is_state_of(self, name: str, state: Mapping[str, Tensor]) -> bool:
        parameter = self.parameters.get(name)
        moments = [tensor for slot, tensor in state.items() if slot != STEP]
        return parameter is not None and state.keys() == set(SLOTS) and all(_alike(m, parameter) for m in moments)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; a finite sum says so at a tenth of the cost of looking at each."""
    return math.isfinite(float(tensor.sum())) or all(math.isfinite(float(end)) for end in torch.aminmax(tensor))


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _slots(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(OPTIMIZER):
            name, _, slot = key.removeprefix(OPTIMIZER).rpartition(".")
            found.setdefault(name, {})[slot] = value
    return found
