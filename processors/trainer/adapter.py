"""A run's own part of the model: its adapter or all its weights, its optimizer, its accumulated gradient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from processors.trainer.errors import CheckpointMismatchError, NonFiniteLossError
from processors.trainer.optimizers import STEP, is_tame, new_optimizer, place_of, state_shapes
from processors.trainer.tensors import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from processors.trainer.base_model import SharedBase
    from schemas.types import LoraSpec, OptimizerSpec

ADAPTER, OPTIMIZER = "adapter/", "optimizer/"


class Adapter:
    """The trainable state of one run on a shared base; without LoRA settings all weights, as the run's own copy.

    ``gradients`` is the sum over ``calls`` forward_backward calls of each call's mean-loss gradient, computed in
    ``micro_batches`` pieces; ``step`` counts applied steps; ``through_op_seq`` is the operation after which adapter
    and optimizer are as they are.
    """

    def __init__(self, base: SharedBase, lora: LoraSpec | None, optimizer: OptimizerSpec, seed: int) -> None:
        self.base = base
        self.spec = optimizer
        self.name = base.add(lora, seed)
        self.parameters = base.parameters(self.name)
        self.gradients: dict[str, Tensor] = {}
        self.calls = 0
        self.micro_batches = 0
        self.step = 0
        self.through_op_seq = 0
        self.optimizer = new_optimizer(optimizer, self.parameters)

    def drop_gradients(self) -> None:
        """Forget what was accumulated."""
        self.gradients, self.calls, self.micro_batches = {}, 0, 0

    def close(self) -> None:
        """Free the run's part."""
        self.base.remove(self.name)

    @property
    def nbytes(self) -> int:
        """The memory that it takes, accumulated gradients and optimizer included, in bytes."""
        held = [*self.tensors(include_optimizer=True).values(), *self.gradients.values()]
        return sum(int(tensor.nbytes) for tensor in held)

    def weights(self) -> dict[str, Tensor]:
        """The trainable tensors by name; views, not copies."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def digest(self) -> bytes:
        """The digest of the trainable tensors as they are: 32 bytes."""
        return digest_of(self.weights())

    def tensors(self, *, include_optimizer: bool) -> dict[str, Tensor]:
        """What a checkpoint holds: ``adapter/<name>`` and ``optimizer/<name>.<slot>``; views, not copies."""
        held = {ADAPTER + name: tensor for name, tensor in self.weights().items()}
        if include_optimizer:
            held |= {f"{OPTIMIZER}{name}.{slot}": tensor for name, slot, tensor in self._state()}
        return held

    def _state(self) -> Iterable[tuple[str, str, Tensor]]:
        for name, parameter in self.parameters.items():
            for slot, tensor in self.optimizer.state.get(parameter, {}).items():
                yield name, slot, tensor.detach()

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

    def is_tame(self, rate: float, norm: float) -> bool:
        """Whether a step with a gradient of this norm can only end with finite numbers."""
        state = [tensor for _, slot, tensor in self._state() if slot != STEP]
        return is_tame(self.spec, rate, norm, list(self.weights().values()), state)

    def copies(self) -> dict[str, Tensor]:
        """Copies of weights and optimizer state, for :meth:`rewind`."""
        return {name: tensor.clone() for name, tensor in self.tensors(include_optimizer=True).items()}

    def rewind(self, copies: Mapping[str, Tensor]) -> None:
        """Let weights and optimizer be again what they were when the copies were made."""
        weights = {key.removeprefix(ADAPTER): value for key, value in copies.items() if key.startswith(ADAPTER)}
        self._become(weights, _slots(copies))

    def check_finite(self) -> None:
        """Look at every weight and every number of the optimizer.

        Raises:
            NonFiniteLossError: one is not finite.
        """
        if not all(map(_is_finite, self.tensors(include_optimizer=True).values())):
            raise NonFiniteLossError("A weight or the optimizer would no longer be finite.")

    def _become(self, weights: Mapping[str, Tensor], slots: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take weights and optimizer state; what can fail for want of memory comes before the first change."""
        optimizer = new_optimizer(self.spec, self.parameters)
        for name, state in slots.items():
            parameter = self.parameters[name]
            optimizer.state[parameter] = {
                slot: value.to(place_of(self.spec, slot, parameter), copy=True) for slot, value in state.items()
            }
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
        self.optimizer = optimizer

    def _check(self, weights: Mapping[str, Tensor], slots: Mapping[str, Mapping[str, Tensor]]) -> None:
        same = weights.keys() == self.parameters.keys() and all(
            _alike(weights[name], parameter) for name, parameter in self.parameters.items()
        )
        if not same or not all(self._is_state_of(name, state) for name, state in slots.items()):
            raise CheckpointMismatchError("The checkpoint's tensors are not those of this run.")

    def _is_state_of(self, name: str, state: Mapping[str, Tensor]) -> bool:
        parameter = self.parameters.get(name)
        if parameter is None:
            return False
        found = {slot: tuple(tensor.shape) for slot, tensor in state.items()}
        exact = all(tensor.dtype == parameter.dtype for slot, tensor in state.items() if slot != STEP)
        return exact and found == state_shapes(self.spec, parameter)


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
