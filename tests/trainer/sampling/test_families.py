from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.sampling import Generator, Limits
from processors.trainer.sampling.cache import new_cache
from schemas.types import LoraSpec
from tests.support.tiny_model import FAMILIES, build_tiny_model
from tests.trainer.conftest import ADAMW
from tests.trainer.sampling.jobs import GREEDY, PROMPTS, generated, job, moved, together

if TYPE_CHECKING:
    from pathlib import Path

ALL = LoraSpec(rank=4, alpha=8.0, dropout=0.1, target_modules=("all-linear",), bias="none")
WINDOW = "mistral with a sliding window"


@pytest.fixture(scope="module", params=[*FAMILIES, WINDOW])
def setup(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SharedBase, Adapter, Any]:
    """A base model of each family, an adapter that has moved away from it, and the model as transformers loads it."""
    directory = tmp_path_factory.mktemp("family")
    build_tiny_model(directory, family=request.param.split()[0])
    if request.param == WINDOW:
        _change_config(directory, sliding_window=6)
    base = SharedBase(directory)
    lora = replace(ALL, target_modules=("q_proj", "v_proj")) if request.param == "mixtral" else ALL
    return base, moved(Adapter(base, lora, ADAMW, seed=1)), AutoModelForCausalLM.from_pretrained(directory)


def _change_config(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_cell_takes_the_memory_that_is_reckoned_with(setup: tuple[SharedBase, Adapter, Any]) -> None:
    base, cache = setup[0], new_cache()
    base.base(input_ids=torch.tensor([[1, 2, 3]]), past_key_values=cache, use_cache=True)
    layers: list[Any] = cache.layers
    assert base.cell_bytes == sum(part[0, :, 0].nbytes for layer in layers for part in layer.held)


SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "a repetition penalty": {"repetition_penalty": 1.7},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_batches_of_base_and_adapter_equal_generate(
    setup: tuple[SharedBase, Adapter, Any], options: dict[str, Any]
) -> None:
    base, adapter, plain = setup
    sampling = replace(GREEDY, **options)
    jobs = [job(base, PROMPTS[:2], sampling), job(base, PROMPTS[1:3], sampling, adapter)]
    found = together(Generator(base, Limits(rows=3, pass_tokens=16)), jobs)
    for each, who in zip(jobs, (None, adapter), strict=True):
        for completion in found[each.operation_id].completions:
            prompt = each.prompts[completion.prompt_index]
            model = base.activate(who.name, training=False) if who else plain
            assert list(completion.tokens) == generated(model, prompt, **options)


def test_a_chat_equals_the_template(setup: tuple[SharedBase, Adapter, Any]) -> None:
    base, _, _ = setup
    base.tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "to be?"}]
    text = base.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert base.encode_chat(messages) == base.tokenizer(text, add_special_tokens=False)["input_ids"]
