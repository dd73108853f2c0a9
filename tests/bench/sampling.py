"""Sampling through the API: many callers at once, the same one after another, and transformers' own ``generate``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from tg_tinker import SamplingConfig
from transformers import AutoModelForCausalLM

from tests.bench.harness import Figure, interleave, seconds
from tests.bench.service import SEED, make_model, service
from tests.bench.sizes import SamplingSize
from tests.support.tiny_model import VOCABULARY

ALONE, PLAIN, PADDED = "one after another", "generate, one after another", "generate, one padded batch"
THIRD = 1 / 3
Prompts = list[list[int]]


def run(size: SamplingSize, work: Path) -> list[Figure]:
    """Milliseconds per completion of several ways to complete the same prompts greedily."""
    model = make_model(work / "model", size.model)
    prompts = _prompts(size)
    plain: Any = AutoModelForCausalLM.from_pretrained(model)
    with service(work, {"base": model}) as live:
        sampler = live.client.create_sampling_client("base")
        config = SamplingConfig(max_tokens=size.tokens, temperature=0.0)
        contenders = {
            "together": lambda: _together(sampler, prompts, config),
            ALONE: lambda: [_tokens(sampler.sample([prompt], config)) for prompt in prompts],
            PLAIN: lambda: [_generated(plain, [prompt], size.tokens)[0] for prompt in prompts],
            PADDED: lambda: _generated(plain, prompts, size.tokens),
        }
        texts = {name: work_off() for name, work_off in contenders.items()}
        if not all(text == texts[PLAIN] for text in texts.values()):
            raise RuntimeError("The ways do different work: their completions differ.")
        timed = {name: lambda work_off=work_off: seconds(work_off) for name, work_off in contenders.items()}
        found = interleave(size.rounds, timed)
    each = {name: spread.scaled(1e3 / size.requests) for name, spread in found.items()}
    note = f"{size.requests} requests, {sum(map(len, texts[PLAIN])) / size.requests:.0f} tokens each"
    return [
        Figure("completion, at once", "ms", each["together"], ALONE, each[ALONE], THIRD, note),
        Figure("completion, at once", "ms", each["together"], PLAIN, each[PLAIN]),
        Figure("completion, at once", "ms", each["together"], PADDED, each[PADDED]),
        Figure("completion, one after another", "ms", each[ALONE], PLAIN, each[PLAIN]),
    ]


def _prompts(size: SamplingSize) -> Prompts:
    rng = random.Random(SEED)
    return [[rng.randrange(5, VOCABULARY) for _ in range(rng.randrange(4, 24))] for _ in range(size.requests)]


def _together(sampler: Any, prompts: Prompts, config: SamplingConfig) -> Prompts:
    return [_tokens(handle) for handle in [sampler.sample([prompt], config) for prompt in prompts]]


def _tokens(handle: Any) -> list[int]:
    return list(handle.result().samples[0].token_ids)


def _generated(model: Any, prompts: Prompts, tokens: int) -> Prompts:
    """What ``generate`` gives for prompts that are padded on the left, up to and with the ending token."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
    with torch.no_grad():
        made = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
    return [_until_end(row) for row in made[:, longest:].tolist()]


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(0) + 1] if 0 in tokens else tokens
