"""Rows of different adapters in one pass."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from peft.tuners.lora import LoraLayer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.nn import Module


@contextmanager
def naming(model: Module, names: Sequence[str]) -> Iterator[None]:
    """Let every adapted layer know which adapter each row has.

    peft's own way in leaves its hooks behind when a pass fails, and with them the names of rows that are gone.
    """

    def name_rows(_layer: Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "adapter_names": names}

    hooks = [
        layer.register_forward_pre_hook(name_rows, with_kwargs=True)
        for layer in model.modules()
        if isinstance(layer, LoraLayer)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
