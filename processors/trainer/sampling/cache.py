"""A KV cache whose rows come and go.

All layers keep every column, those with a sliding window too: the model's own masks hide what lies outside of it. Rows
are aligned at their newest token; shorter ones have columns on their left that no mask lets through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SPARE_COLUMNS = 64


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers leaves its hook untyped
    """Keys and values of one layer, (rows, heads, columns, width), in memory with room for columns to come."""

    keys: Any
    values: Any

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.columns = 0

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append columns; all there are."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = _room_for(key_states, 0), _room_for(value_states, 0)
        end = self.columns + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            self.keys, self.values = _widened(self.keys, self.columns, end), _widened(self.values, self.columns, end)
        self.keys[:, :, self.columns : end] = key_states
        self.values[:, :, self.columns : end] = value_states
        self.columns = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """How many columns there are."""
        return self.columns

    def become(self, keys: Tensor, values: Tensor) -> None:
        """Hold these, with room after them."""
        self.columns = keys.shape[-2]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keys, self.values = (
            _widened(keys, self.columns, self.columns),
            _widened(values, self.columns, self.columns),
        )

    @property
    def held(self) -> tuple[Tensor, Tensor]:
        """Keys and values without the room after them."""
        return self.keys[:, :, : self.columns], self.values[:, :, : self.columns]


def _room_for(states: Tensor, columns: int) -> Tensor:
    rows, heads, _, width = states.shape
    return states.new_zeros((rows, heads, columns, width))


def _widened(states: Tensor, used: int, wanted: int) -> Tensor:
    wider = _room_for(states, wanted + max(SPARE_COLUMNS, wanted // 4))
    wider[:, :, :used] = states[:, :, :used]
    return wider


def new_cache() -> Cache:
    """A cache without rows; layers come with the first pass."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def select(cache: Cache, rows: Sequence[int], first: int) -> None:
    """Keep some rows, in this order and as often as they are named, from column ``first`` on."""
    for layer in _layers(cache):
        index = torch.tensor(rows, device=layer.device)
        keys, values = layer.held
        layer.become(keys[:, :, first:].index_select(0, index), values[:, :, first:].index_select(0, index))


def join(cache: Cache, other: Cache) -> None:
    """Add another cache's rows below, aligned at the newest column."""
    for layer, added in zip(_layers(cache), _layers(other), strict=True):
        (keys, values), (more_keys, more_values) = layer.held, added.held
        layer.become(_stacked(keys, more_keys), _stacked(values, more_values))


def _stacked(upper: Tensor, lower: Tensor) -> Tensor:
    columns = max(upper.shape[-2], lower.shape[-2])
    return torch.cat([_left_padded(upper, columns), _left_padded(lower, columns)])


def _left_padded(states: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(states, (0, 0, columns - states.shape[-2], 0))


def _layers(cache: Cache) -> list[RoomyLayer]:
    return [layer for layer in cache.layers if isinstance(layer, RoomyLayer)]
