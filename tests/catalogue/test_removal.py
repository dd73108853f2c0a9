from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from api.commands import models
from processors.catalogue import model_dir, register_model, registered_models, remove_model, verify_model
from processors.catalogue.files import incoming
from processors.errors import ModelInUseError, ModelNotRegisteredError
from tests.support.doors import Doors, copy_installation, open_doors, prepare_installation
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_installation(tmp_path_factory.mktemp("installed") / "data")


@pytest.fixture
def doors(installed: Path, tmp_path: Path) -> Iterator[Doors]:
    with open_doors(copy_installation(installed, tmp_path / "data")) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


def add(doors: Doors, name: str, model: Path, **given: Any) -> Path:
    platform = doors.platform
    registered = register_model(platform.installation, platform.submitter, name, model, **given)
    assert platform.projector.wait_for_all(10)
    return model_dir(platform.installation, registered.manifest_digest)


def remove(doors: Doors, name: str) -> None:
    remove_model(doors.platform.installation, doors.platform.submitter, name)
    assert doors.platform.projector.wait_for_all(10)


def test_a_removed_model_is_gone_with_its_files_and_its_name_may_mean_another(
    doors: Doors, model: Path, tmp_path: Path
) -> None:
    stored = add(doors, "mine", model, dtype="bfloat16")
    shown = next(row for row in doors.get("/v1/models")["items"] if row["name"] == "mine")
    assert (shown["dtype"], shown["source"], shown["has_chat_template"]) == ("bfloat16", None, False)
    remove(doors, "mine")
    assert not stored.exists()
    assert list(stored.parent.iterdir()) == []
    assert "mine" not in [row["name"] for row in doors.get("/v1/models")["items"]]
    refused = doors.call("POST", "/v1/training_clients", json={"model_ref": "mine"})
    assert refused.json()["code"] == "unknown_model"
    other = add(doors, "mine", build_tiny_model(tmp_path / "other", seed=1))
    assert other != stored
    assert doors.create(model_ref="mine")


def test_the_same_files_may_come_back_under_the_same_name(doors: Doors, model: Path) -> None:
    stored = add(doors, "mine", model)
    remove(doors, "mine")
    assert add(doors, "mine", model) == stored
    assert verify_model(stored, bytes.fromhex(stored.name))


def test_files_stay_as_long_as_another_name_has_them(doors: Doors, model: Path) -> None:
    stored = add(doors, "one", model)
    assert add(doors, "two", model) == stored
    remove(doors, "one")
    assert verify_model(stored, bytes.fromhex(stored.name))
    remove(doors, "two")
    assert not stored.exists()


def test_a_run_outlives_the_name_of_its_model(doors: Doors, model: Path) -> None:
    add(doors, "mine", model)
    run = doors.create(model_ref="mine")
    remove(doors, "mine")
    assert doors.get(f"/v1/training_clients/{run}")["model"]["architecture"] == "LlamaForCausalLM"


def test_what_was_never_there_cannot_be_removed(doors: Doors) -> None:
    with pytest.raises(ModelNotRegisteredError):
        remove(doors, "nobody")


def test_the_command_refuses_while_open_runs_stand_on_the_model(doors: Doors, model: Path) -> None:
    stored = add(doors, "mine", model)
    run = doors.create(model_ref="mine")
    where = ["--data-dir", str(doors.platform.installation.data_dir)]
    refused = CliRunner().invoke(models.app, ["remove", "mine", *where])
    assert isinstance(refused.exception, ModelInUseError)
    assert stored.exists()
    doors.post(f"/v1/training_clients/{run}/close")
    assert CliRunner().invoke(models.app, ["remove", "mine", *where]).exit_code == 0
    assert not stored.exists()


def test_force_removes_what_open_runs_stand_on(doors: Doors, model: Path) -> None:
    add(doors, "mine", model)
    doors.create(model_ref="mine")
    where = ["--data-dir", str(doors.platform.installation.data_dir)]
    assert CliRunner().invoke(models.app, ["remove", "mine", "--force", *where]).exit_code == 0
    assert "mine" not in registered_models(doors.platform.engine)


def test_what_a_killed_command_left_is_swept_and_what_a_living_one_holds_is_not(doors: Doors, model: Path) -> None:
    installation = doors.platform.installation
    with incoming(installation) as living:
        left = living.with_name(".incoming-left")
        shutil.copytree(model, left)
        add(doors, "mine", model)
        assert (living.exists(), left.exists()) == (True, False)
