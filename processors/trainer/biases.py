"""Biases that a run trains: its own copies, put in place of the base's while the run is active.

peft trains a base model's own biases, which all other runs on that base would feel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn import Module, Parameter

if TYPE_CHECKING:
    from collections.abc import Iterator

NONE, LORA_ONLY = "none", "lora_only"
_BASE_LAYER = ".base_layer"


@dataclass(frozen=True, slots=True)
class _Place:
    name: str
    module: Module
    own: Parameter


class RunBiases:
    """For each run the places of its biases; at most one run's are installed."""

    def __init__(self) -> None:
        self._places: dict[str, list[_Place]] = {}
        self._replaced: list[tuple[Module, Parameter]] = []

    def add(self, name: str, model: Module, which: str) -> None:
        """Copy the base's biases for a run: "none", "lora_only" (of the modules that it adapts itself) or "all".

        Names are those that peft gives when the run is alone: which modules other runs adapt does not show.
        """
        self._places[name] = []
        for path, module, bias in [] if which == NONE else _biased(model):
            adapted = _adapts(model, path, name)
            if adapted or which != LORA_ONLY:
                own = f"{path if adapted else path.removesuffix(_BASE_LAYER)}.bias"
                self._places[name].append(_Place(own, module, Parameter(bias.detach().clone())))

    def remove(self, name: str) -> None:
        """Forget a run's."""
        self._places.pop(name, None)

    def of(self, name: str) -> dict[str, Parameter]:
        """A run's biases by the names that peft gives them."""
        return {place.name: place.own for place in self._places.get(name, [])}

    def install(self, name: str) -> None:
        """Put a run's biases in place of the base's."""
        for place in self._places.get(name, []):
            self._replaced.append((place.module, _bias(place.module)))
            place.module.register_parameter("bias", place.own)

    def restore(self) -> None:
        """Put the base's biases back."""
        for module, bias in self._replaced:
            module.register_parameter("bias", bias)
        self._replaced = []


def _biased(model: Module) -> Iterator[tuple[str, Module, Parameter]]:
    for path, module in model.named_modules():
        if isinstance(module.__dict__["_parameters"].get("bias"), Parameter):
            yield path, module, _bias(module)


def _adapts(model: Module, path: str, name: str) -> bool:
    """Whether a run's own adapter stands around the module at a path."""
    if not path.endswith(_BASE_LAYER):
        return False
    layer = model.get_submodule(path.removesuffix(_BASE_LAYER))
    return isinstance(layer, BaseTunerLayer) and any(name in getattr(layer, part) for part in layer.adapter_layer_names)


def _bias(module: Module) -> Parameter:
    return module.get_parameter("bias")
