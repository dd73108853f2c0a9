from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from processors.catalogue import expert_modules, linear_modules, verify_model
from processors.catalogue.files import model_dir
from processors.catalogue.register import describe, take_in
from processors.errors import ModelError, ModelIncompleteError, ModelRecurrentError
from producers.installation import Installation
from tests.support.ledgers import installed
from tests.support.tiny_model import FAMILIES, MAX_POSITIONS, VOCABULARY, build_tiny_model, build_tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FULL = "full_attention"
ADAPTED = {"gpt2": {"c_attn", "c_proj", "c_fc"}}


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation.open(installed(tmp_path / "data"))
    yield installation
    installation.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_any_family_is_described_by_what_transformers_makes_of_it(family: str, tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / family, family=family)
    model = describe(family, folder, dtype="bfloat16")
    assert model.architecture == json.loads((folder / "config.json").read_bytes())["architectures"][0]
    assert (model.vocabulary_size, model.max_positions, model.dtype) == (VOCABULARY, MAX_POSITIONS, "bfloat16")
    assert not model.has_chat_template
    assert linear_modules(folder) >= ADAPTED.get(family, {"q_proj", "v_proj"})


def test_a_model_with_its_text_settings_one_level_down_is_described_too(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, Gemma3Config  # noqa: PLC0415 - heavy

    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 99,
    }
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"image_size": 28, "patch_size": 14}
    folder = build_tiny_model(tmp_path / "nested")
    config = Gemma3Config(text_config=text, vision_config={**vision, **sizes}, mm_tokens_per_image=4)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    assert "max_position_embeddings" not in json.loads((folder / "config.json").read_bytes())
    model = describe("nested", folder)
    assert (model.vocabulary_size, model.max_positions) == (VOCABULARY, 99)


def test_a_chat_template_is_noticed_wherever_it_stands(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "tiny")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    apart = describe("tiny", folder)
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "chat_template": "{{ messages[0].content }}"}))
    within = describe("tiny", folder)
    assert (apart.has_chat_template, within.has_chat_template) == (True, True)
    assert apart.tokenizer_digest != within.tokenizer_digest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("whole") / "tiny")


@pytest.fixture(scope="module")
def in_shards(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - heavy

    folder = tmp_path_factory.mktemp("sharded") / "tiny"
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(folder, max_shard_size="60KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((whole / name).read_bytes())
    return folder


@pytest.fixture
def sharded(in_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(in_shards, tmp_path / "sharded"))


def test_a_sharded_model_comes_in_with_every_shard_that_its_index_names_and_no_other_weights(
    whole: Path, sharded: Path, installation: Installation
) -> None:
    (sharded / "consolidated.safetensors").write_bytes(b"the same weights under other names")
    model = take_in(installation, "tiny", sharded)
    stored = model_dir(installation, model.manifest_digest)
    shards = {path.name for path in stored.glob("*.safetensors")}
    assert len(shards) > 1
    assert "consolidated.safetensors" not in shards
    assert model.parameters == describe("tiny", whole).parameters
    assert verify_model(stored, model.manifest_digest)


def _no_shard(folder: Path) -> None:
    min(folder.glob("*.safetensors")).unlink()


def _index(change: Callable[[dict[str, str]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / "model.safetensors.index.json"
        value = json.loads(path.read_bytes())
        path.write_text(json.dumps({"weight_map": change(value["weight_map"])}))

    return write


BROKEN: dict[str, tuple[Callable[[Path], None], type[ModelError]]] = {
    "a shard that is not there": (_no_shard, ModelIncompleteError),
    "an index without shards": (_index(lambda _: {}), ModelIncompleteError),
    "an index that is a list": (_index(list), ModelIncompleteError),
    "an index that names a tensor too many": (
        _index(lambda names: {**names, "x": min(names.values())}),
        ModelIncompleteError,
    ),
    "an index that names another shard for a tensor": (
        _index(lambda names: dict(zip(names, reversed(names.values()), strict=True))),
        ModelIncompleteError,
    ),
    "an index that leads out of the folder": (
        _index(lambda names: {**names, "x": "../secret.safetensors"}),
        ModelIncompleteError,
    ),
    "an index that lacks a tensor": (_index(lambda names: dict(list(names.items())[1:])), ModelError),
}


@pytest.mark.parametrize(("damage", "error"), BROKEN.values(), ids=BROKEN)
def test_a_sharded_model_whose_index_and_files_disagree_is_refused(
    damage: Callable[[Path], None], error: type[ModelError], sharded: Path, installation: Installation
) -> None:
    damage(sharded)
    with pytest.raises(error) as refused:
        take_in(installation, "tiny", sharded)
    assert refused.value.next_step
    assert list((installation.data_dir / "models").iterdir()) == []


RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 4, "num_hidden_layers": 1},
    "lfm2": {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "layer_types": ["conv", FULL]},
}


@pytest.mark.parametrize("family", RECURRENT)
def test_a_model_that_sampling_keeps_no_cache_for_is_refused(family: str, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415 - heavy

    folder = build_tiny_tokenizer(tmp_path / family)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64}
    config = AutoConfig.for_model(family, **sizes, **RECURRENT[family])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(ModelRecurrentError, match="state from token to token"):
        describe(family, folder)


def test_the_layers_of_experts_are_known_by_their_names(tmp_path: Path) -> None:
    assert expert_modules(build_tiny_model(tmp_path / "mixtral", family="mixtral")) == {"w1", "w2", "w3"}
    assert expert_modules(build_tiny_model(tmp_path / "llama")) == frozenset()
