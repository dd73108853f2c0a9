from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from schemas.types import LoraSpec
from tests.exporter.checkpoints import TOKENS, Shop, Trained
from tests.support.tiny_model import FAMILIES, build_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from producers.installation import Installation


def lora(*targets: str, **changes: object) -> LoraSpec:
    given = {"rank": 4, "alpha": 8.0, "dropout": 0.1, "target_modules": targets, "bias": "none", **changes}
    return LoraSpec(**given)  # type: ignore[arg-type]


@torch.no_grad()
def _peft_logits(model: Path, folder: Path) -> torch.Tensor:
    base = AutoModelForCausalLM.from_pretrained(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # peft only warns of tensors that it did not find
        return PeftModel.from_pretrained(base, folder).eval()(input_ids=TOKENS).logits


@torch.no_grad()
def _merged_logits(folder: Path) -> torch.Tensor:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()(input_ids=TOKENS).logits


def _moved(model: Path, trained: Trained) -> bool:
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(model).eval()(input_ids=TOKENS).logits
    return not torch.allclose(plain, trained.logits, atol=1e-2)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_export_of_any_family_gives_the_logits_of_the_trainers_own_adapter(
    family: str, installation: Installation, tmp_path: Path
) -> None:
    model = build_tiny_model(tmp_path / "model", family=family)
    shop = Shop(installation, model)
    trained = shop.train(lora("all-linear", dropout=0.0))  # peft has none for the weights of several experts
    shop.export(shop.order(trained, "peft"), tmp_path / "peft")
    shop.export(shop.order(trained, "merged"), tmp_path / "merged")
    assert _moved(model, trained)
    torch.testing.assert_close(_peft_logits(model, tmp_path / "peft"), trained.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(_merged_logits(tmp_path / "merged"), trained.logits, atol=1e-5, rtol=0)


KINDS: dict[str, tuple[str, LoraSpec]] = {
    "rsLoRA": ("llama", lora("q_proj", "down_proj", use_rslora=True)),
    "DoRA": ("llama", lora("q_proj", "down_proj", use_dora=True)),
    "DoRA on transposed weights": ("gpt2", lora("c_attn", "c_fc", use_dora=True)),
    "all biases": ("qwen2", lora("q_proj", bias="all")),
    "biases of adapted layers": ("qwen2", lora("q_proj", bias="lora_only")),
    "all biases, transposed": ("gpt2", lora("c_attn", bias="all")),
    "attention alone of a mixture of experts": ("mixtral", lora("q_proj", "v_proj")),
}


@pytest.mark.parametrize(("family", "settings"), KINDS.values(), ids=KINDS)
def test_an_export_of_any_kind_of_adapter_gives_the_same_logits(
    family: str, settings: LoraSpec, installation: Installation, tmp_path: Path
) -> None:
    model = build_tiny_model(tmp_path / "model", family=family)
    shop = Shop(installation, model)
    trained = shop.train(settings)
    shop.export(shop.order(trained, "peft"), tmp_path / "peft")
    shop.export(shop.order(trained, "merged"), tmp_path / "merged")
    assert _moved(model, trained)
    torch.testing.assert_close(_peft_logits(model, tmp_path / "peft"), trained.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(_merged_logits(tmp_path / "merged"), trained.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_a_fully_fine_tuned_model_is_exported_whole_and_in_the_precision_it_was_trained_in(
    family: str, installation: Installation, tmp_path: Path
) -> None:
    model = build_tiny_model(tmp_path / "model", family=family)
    shop = Shop(installation, model, dtype="bfloat16")
    trained = shop.train(None)
    shop.export(shop.order(trained, "merged"), tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_bytes())["dtype"] == "float32"
    assert _moved(model, trained)
    torch.testing.assert_close(_merged_logits(tmp_path / "merged"), trained.logits, atol=1e-5, rtol=0)
