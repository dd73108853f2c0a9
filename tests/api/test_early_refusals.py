"""What can never work is refused before a run exists, by the name of the field that is in its way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from processors.catalogue import model_dir
from tests.support.doors import Doors, register_model

if TYPE_CHECKING:
    from pathlib import Path

MATRIX = np.zeros((2, 2), np.float32)
LAYERS = ("self_attn.q_proj", *(f"mlp.experts.{expert}.{name}_proj" for expert in (0, 1) for name in ("up", "down")))
NEVER: dict[str, tuple[dict[str, Any], str]] = {
    "dropout on experts": ({"target_modules": ["all-linear"], "dropout": 0.1}, "lora_config.dropout"),
    "magnitudes of experts": ({"target_modules": ["all-linear"], "use_dora": True}, "lora_config.use_dora"),
    "dropout on an expert's layer": ({"target_modules": ["q_proj", "up_proj"], "dropout": 0.1}, "lora_config.dropout"),
}
WORKS: dict[str, dict[str, Any]] = {
    "experts alone": {"target_modules": ["all-linear"]},
    "dropout on attention": {"target_modules": ["q_proj"], "dropout": 0.1, "use_dora": True},
}


@pytest.fixture
def experts(doors: Doors) -> str:
    """The name of a mixture of experts in the catalogue, with its weights."""
    registered = register_model("experts")
    doors.worker.say("authority", registered, tenant="platform")
    folder: Path = model_dir(doors.platform.installation, registered.manifest_digest)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({f"model.layers.0.{name}.weight": MATRIX for name in LAYERS}, folder / "model.safetensors")
    return registered.name


@pytest.mark.parametrize("name", NEVER)
def test_settings_that_experts_cannot_take_are_refused(name: str, doors: Doors, experts: str) -> None:
    lora, named = NEVER[name]
    response = doors.call("POST", "/v1/training_clients", json={"model_ref": experts, "lora_config": lora})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert response.json()["detail"].startswith(f"{named}: ")


@pytest.mark.parametrize("name", WORKS)
def test_settings_that_a_mixture_of_experts_can_take_are_not(name: str, doors: Doors, experts: str) -> None:
    assert doors.create(model_ref=experts, lora_config=WORKS[name])


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "adafactor"])
def test_a_momentum_is_refused_where_no_optimizer_would_use_it(optimizer: str, doors: Doors) -> None:
    body = {"model_ref": "tiny", "optimizer": {"name": optimizer, "momentum": 0.9}}
    response = doors.call("POST", "/v1/training_clients", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert [each["field"] for each in response.json()["errors"]] == ["body.optimizer.momentum"]
    assert doors.create(optimizer={"name": "sgd", "momentum": 0.9})


def test_a_conversation_is_taken_by_a_model_with_a_chat_template(doors: Doors) -> None:
    registered = replace(register_model("chatty"), has_chat_template=True)
    doors.worker.say("authority", registered, tenant="platform")
    conversation = {"messages": [[{"role": "user", "content": "a"}]]}
    assert doors.operate(doors.create(model_ref="chatty"), "sample", conversation)["status"] == "pending"
    refused = doors.call("POST", f"/v1/training_clients/{doors.create()}/sample", json=conversation)
    assert refused.json()["code"] == "chat_template_refused"
