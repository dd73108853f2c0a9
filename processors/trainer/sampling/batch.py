"""Rows that share the model's passes: their prompts are read in pieces, then each pass gives every row a token."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from processors.trainer.errors import NonFiniteLossError
from processors.trainer.sampling import cache as kv
from processors.trainer.sampling.drawing import draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers.cache_utils import Cache

    from processors.trainer.base_model import SharedBase
    from processors.trainer.sampling.jobs import Delta, SampleJob
    from processors.trainer.sampling.rows import Row


class Prefill:
    """New rows whose prompts are being read; a prompt that several rows share is read once."""

    def __init__(self, rows: Sequence[Row], device: torch.device) -> None:
        self.rows = list(rows)
        places: dict[tuple[str | None, tuple[int, ...]], int] = {}
        self._place = {id(row): places.setdefault((row.job.adapter, tuple(row.prompt)), len(places)) for row in rows}
        self.adapters = [adapter for adapter, _ in places]
        self.columns = max(len(prompt) for _, prompt in places)
        gaps = [(self.columns - len(prompt), prompt) for _, prompt in places]
        self.tokens_BT = torch.tensor([[0] * gap + list(prompt) for gap, prompt in gaps], device=device)
        self.mask_BT = torch.tensor([[0] * gap + [1] * len(prompt) for gap, prompt in gaps], device=device)
        self.cache = kv.new_cache()
        self.read = 0

    @property
    def places(self) -> list[int]:
        """For each row that is left, the place of its prompt."""
        return [self._place[id(row)] for row in self.rows]


class Batch:
    """The rows of one group: those that one pass of the model can serve together.

    ``own`` is the adapter that they all have, or None where each row names its own (see :meth:`SharedBase.mixes`).
    """

    def __init__(self, base: SharedBase, own: str | None) -> None:
        self._base = base
        self._own = own
        self.rows: list[Row] = []
        self._cache: Cache | None = None
        self._mask_RT = torch.zeros((0, 0), dtype=torch.long, device=base.device)

    def read(self, prefill: Prefill, columns: int) -> Tensor | None:
        """Read some more columns of new prompts; logits (rows, vocabulary) for their first tokens once all are read."""
        start, end = prefill.read, min(prefill.read + columns, prefill.columns)
        tokens_BT, mask_BT = prefill.tokens_BT[:, start:end], prefill.mask_BT[:, :end]
        logits_BV = self._forward(prefill.adapters, tokens_BT, mask_BT, prefill.cache)
        prefill.read = end
        return logits_BV[prefill.places] if end == prefill.columns else None

    def admit(self, prefill: Prefill) -> None:
        """Let rows whose prompts are read take part."""
        kv.select(prefill.cache, prefill.places, 0)
        mask_RT = prefill.mask_BT[prefill.places]
        if self._cache is None or not self.rows:
            self._cache, self._mask_RT = prefill.cache, mask_RT
        else:
            kv.join(self._cache, prefill.cache)
            columns = max(self._mask_RT.shape[1], mask_RT.shape[1])
            self._mask_RT = torch.cat([_left_padded(self._mask_RT, columns), _left_padded(mask_RT, columns)])
        self.rows += prefill.rows

    def decode(self) -> Tensor:
        """One pass over the newest tokens: logits (rows, vocabulary) for the next ones."""
        tokens_R1 = torch.tensor([[row.tokens[-1]] for row in self.rows], device=self._base.device)
        self._mask_RT = torch.cat([self._mask_RT, self._mask_RT.new_ones((len(self.rows), 1))], dim=-1)
        return self._forward([row.job.adapter for row in self.rows], tokens_R1, self._mask_RT, self._cache)

    def keep(self, wanted: Sequence[bool]) -> None:
        """Let rows go, and the columns that only they had."""
        kept = [index for index, stays in enumerate(wanted) if stays]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in kept]
        if not self.rows or self._cache is None:
            self._cache = None
            return
        self._mask_RT = self._mask_RT[kept]
        first = int(self._mask_RT.any(0).to(torch.uint8).argmax())
        self._mask_RT = self._mask_RT[:, first:]
        kv.select(self._cache, kept, first)

    def _forward(
        self, adapters: Sequence[str | None], tokens_BT: Tensor, mask_BT: Tensor, cache: Cache | None
    ) -> Tensor:
        base, own = self._base, self._own
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -tokens_BT.shape[1] :]
        extra = base.arguments(position_ids=positions_BT, logits_to_keep=1)
        with torch.no_grad(), base.serving([own] if own is not None else adapters) as model:
            output: Any = model(
                input_ids=tokens_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True, **extra
            )
        logits_BV: Tensor = output.logits[:, -1].float().cpu()
        return logits_BV


def _left_padded(mask: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(mask, (columns - mask.shape[1], 0))


Failures = list[tuple["SampleJob", Exception]]


def next_tokens(rows: Sequence[Row], logits_RV: Tensor) -> Failures:
    """Give every row its next token and tell the listeners; the jobs for which the model had no finite answer."""
    finite = logits_RV.isfinite().all(-1).tolist()
    good = [index for index, each in enumerate(finite) if each]
    if good:
        _take([rows[index] for index in good], logits_RV[good])
    bad = {rows[index].job.operation_id: rows[index].job for index, each in enumerate(finite) if not each}
    return [(job, NonFiniteLossError("The model's output is not finite.")) for job in bad.values()]


def _take(rows: Sequence[Row], logits_RV: Tensor) -> None:
    tokens = draw(logits_RV, rows)
    logprobs = _logprobs(rows, logits_RV, tokens)
    news: dict[bytes, list[Delta]] = defaultdict(list)
    for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
        if delta := row.take(token, logprob):
            news[row.job.operation_id].append(delta)
    listeners = {row.job.operation_id: row.job.on_tokens for row in rows}
    for operation_id, deltas in news.items():
        if tell := listeners[operation_id]:
            tell(deltas)


def _logprobs(rows: Sequence[Row], logits_RV: Tensor, tokens: Sequence[int]) -> list[float | None]:
    if not any(row.sampling.logprobs for row in rows):
        return [None] * len(rows)
    all_RV = torch.log_softmax(logits_RV, dim=-1)
    found = all_RV.gather(-1, torch.tensor(tokens).unsqueeze(-1)).squeeze(-1).tolist()
    return [value if row.sampling.logprobs else None for row, value in zip(rows, found, strict=True)]
