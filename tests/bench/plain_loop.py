"""The loop that a person writes with peft and torch when there is no service: what ours is compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

disable_progress_bar()


@dataclass
class PlainLoop:
    """A LoRA run of our own making; ``forward_seconds`` and ``step_seconds`` hold one entry per call."""

    model_dir: Path
    rank: int
    alpha: int
    target_modules: Sequence[str]
    learning_rate: float
    seed: int
    losses: list[float] = field(default_factory=list)
    forward_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        base = AutoModelForCausalLM.from_pretrained(self.model_dir, dtype=torch.float32)
        lora = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=0.0,
            target_modules=list(self.target_modules),
            task_type="CAUSAL_LM",
        )
        torch.manual_seed(self.seed)
        self.model = get_peft_model(base, lora).train()
        self.parameters = [each for each in self.model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.learning_rate, fused=True)

    def train(self, batches: Sequence[dict[str, list[list[int]]]]) -> None:
        for batch in batches:
            start = time.perf_counter()
            self.losses.append(self._forward_backward(batch))
            middle = time.perf_counter()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.forward_seconds.append(middle - start)
            self.step_seconds.append(time.perf_counter() - middle)

    def _forward_backward(self, batch: dict[str, list[list[int]]]) -> float:
        tensors: dict[str, Any] = {name: torch.tensor(rows) for name, rows in batch.items()}
        loss = self.model(**tensors).loss
        loss.backward()
        # The same two numbers that our result holds.
        torch.nn.utils.get_total_norm([each.grad for each in self.parameters if each.grad is not None]).item()
        return float(loss.item())
