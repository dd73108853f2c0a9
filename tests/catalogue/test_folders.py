from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tensorguard.model_manifest import digest_files, manifest_digest, tokenizer_digest

from processors.catalogue import choose_files, linear_modules, model_dir, register_model, verify_model
from processors.errors import (
    ModelChangedError,
    ModelError,
    ModelFileRefusedError,
    ModelIncompleteError,
    ModelNameError,
    ModelNotCausalError,
    ModelNotFoundError,
    ModelUnsupportedError,
    PickledWeightsError,
    RemoteCodeError,
    TokenizerMissingError,
)
from producers.errors import RejectedError
from producers.installation import Installation
from producers.submitter import Submitter
from tests.support.ledgers import installed
from tests.support.tiny_model import HIDDEN, MAX_POSITIONS, VOCABULARY, build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def folder(tmp_path: Path, tiny: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    installation = Installation.open(installed(tmp_path / "data"))
    yield installation
    installation.close()


@pytest.fixture
def submitter(installation: Installation) -> Submitter:
    return Submitter(installation, installation.engine())


def test_a_model_is_copied_in_and_registered_with_all_its_digests(
    folder: Path, installation: Installation, submitter: Submitter
) -> None:
    (folder / "README.md").write_text("stays behind")
    model = register_model(installation, submitter, "tiny", folder)
    stored = model_dir(installation, model.manifest_digest)
    found = digest_files(stored)
    assert {file.path for file in model.files} == {path.name for path in folder.iterdir()} - {"README.md"}
    assert (manifest_digest(found), tokenizer_digest(found)) == (model.manifest_digest, model.tokenizer_digest)
    assert (model.architecture, model.vocabulary_size, model.max_positions) == (
        "LlamaForCausalLM",
        VOCABULARY,
        MAX_POSITIONS,
    )
    assert model.parameters > VOCABULARY * HIDDEN
    assert linear_modules(stored) >= {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert [path.name for path in stored.parent.iterdir()] == [model.manifest_digest.hex()]


def test_the_same_model_again_is_no_error_and_another_one_under_its_name_is(
    folder: Path, tmp_path: Path, installation: Installation, submitter: Submitter
) -> None:
    first = register_model(installation, submitter, "tiny", folder)
    assert register_model(installation, submitter, "tiny", folder) == first
    assert register_model(installation, submitter, "second-name", folder).manifest_digest == first.manifest_digest
    other = build_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(RejectedError) as refused:
        register_model(installation, submitter, "tiny", other)
    assert refused.value.code == "already_exists"


def _pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x")


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _link(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


def _folder_for_file(folder: Path) -> None:
    (folder / "vocab.json").mkdir()


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def _changed(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))

    return change


def _bad_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _config(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "config.json").write_text(text)

    return write


def _weights(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


REFUSED: dict[str, tuple[Callable[[Path], None], type[ModelError]]] = {
    "pickled weights": (_pickle, PickledWeightsError),
    "pickled weights alone": (_only_pickle, PickledWeightsError),
    "a link": (_link, ModelFileRefusedError),
    "a folder in place of a file": (_folder_for_file, ModelFileRefusedError),
    "no tokenizer": (_no_tokenizer, TokenizerMissingError),
    "no config": (_no_config, ModelNotFoundError),
    "no weights": (_no_weights, ModelNotFoundError),
    "no folder": (_no_folder, ModelNotFoundError),
    "a config that is no JSON": (_config("{"), ModelError),
    "a config that is a list": (_config("[]"), ModelError),
    "a config without model type": (_config(json.dumps({"vocab_size": 3, "n_positions": 4})), ModelUnsupportedError),
    "a config with words for numbers": (_changed(vocab_size="many"), ModelError),
    "no architecture": (_changed(architectures=None), ModelNotCausalError),
    "a classifier": (_changed(architectures=["LlamaForSequenceClassification"]), ModelNotCausalError),
    "an encoder": (_changed(model_type="vit", architectures=["ViTModel"]), ModelNotCausalError),
    "a model type that nobody knows": (_changed(model_type="hyena-9"), ModelUnsupportedError),
    "a model with code of its own": (
        _changed(model_type="hyena-9", auto_map={"AutoModelForCausalLM": "modeling_hyena.Hyena"}),
        RemoteCodeError,
    ),
    "quantised weights": (_changed(quantization_config={"quant_method": "gptq"}), ModelUnsupportedError),
    "weights of another width": (_changed(hidden_size=64), ModelError),
    "weights of too few layers": (_changed(num_hidden_layers=3), ModelIncompleteError),
    "a tokenizer that does not load": (_bad_tokenizer, TokenizerMissingError),
    "truncated weights": (_weights(lambda data: data[:-1]), ModelError),
    "weights with something behind them": (_weights(lambda data: data + b"x"), ModelError),
    "weights with a huge header": (_weights(lambda data: b"\xff" * 8 + data[8:]), ModelError),
    "weights that are no safetensors": (_weights(lambda _: b"PK\x03\x04" * 9), ModelError),
    "empty weights": (_weights(lambda _: b""), ModelError),
}


@pytest.mark.parametrize(("damage", "error"), REFUSED.values(), ids=REFUSED)
def test_a_folder_is_refused_and_leaves_nothing_behind(
    damage: Callable[[Path], None],
    error: type[ModelError],
    folder: Path,
    installation: Installation,
    submitter: Submitter,
) -> None:
    damage(folder)
    with pytest.raises(error) as refused:
        register_model(installation, submitter, "tiny", folder)
    assert refused.value.next_step
    assert list((installation.data_dir / "models").iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 129, "ä", "a b"])
def test_a_name_is_refused(name: str, folder: Path, installation: Installation, submitter: Submitter) -> None:
    with pytest.raises(ModelNameError):
        register_model(installation, submitter, name, folder)


def _append(folder: Path) -> None:
    with (folder / "config.json").open("ab") as file:
        file.write(b" ")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "added_tokens.json")


def _linked_folder(folder: Path) -> None:
    (folder / "additional_chat_templates").symlink_to(folder.parent, target_is_directory=True)


def _dangling_link(folder: Path) -> None:
    (folder / "chat_template.jinja").symlink_to(folder.parent / "comes-later")


CHANGED: dict[str, Callable[[Path], None]] = {
    "a byte more": _append,
    "a file less": _no_config,
    "a file more": _pickle,
    "no folder": _no_folder,
    "a pipe": _pipe,
    "a link to a folder": _linked_folder,
    "a link to nothing yet": _dangling_link,
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_changed_model_is_noticed(change: Callable[[Path], None], folder: Path) -> None:
    digest = manifest_digest(digest_files(folder))
    assert verify_model(folder, digest)
    change(folder)
    with pytest.raises(ModelChangedError):
        verify_model(folder, digest)


def test_a_models_own_code_stays_behind(folder: Path) -> None:
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    assert "modeling_tiny.py" not in {path.name for path in choose_files(folder)}
