"""Downloads from a hub, in processes of their own: huggingface_hub reads its environment when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from processors.catalogue.names import is_hub_id
from tests.support.hub import Hub, running_hub
from tests.support.server import BIN
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FETCH = """
import json, sys
from pathlib import Path
from tensorguard.errors import TensorGuardError
from processors.catalogue.hub import fetch_model
out = Path(sys.argv[1])
for number, (hub_id, revision) in enumerate(json.loads(sys.argv[2])):
    folder = out / str(number)
    try:
        print(json.dumps({"source": fetch_model(hub_id, revision, folder)}))
    except TensorGuardError as error:
        print(json.dumps({"code": error.code, "next_step": error.next_step}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def hub(model: Path) -> Iterator[Hub]:
    with running_hub() as hub:
        hub.publish("acme/tiny", model, **{"pytorch_model.bin": b"x", "README.md": b"y", "modeling_tiny.py": b"z"})
        yield hub


def fetch(out: Path, *wanted: tuple[str, str | None], **environment: str) -> list[dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", FETCH, str(out), json.dumps(wanted)],
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(out / "home"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_hubs_model_is_added_by_its_id_and_the_commit_is_on_the_ledger(hub: Hub, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
    where = ["--data-dir", str(tmp_path / "data"), "--json"]
    added = subprocess.run(
        [str(BIN / "tensorguard"), "models", "add", "tiny", "acme/tiny", "--dtype", "bfloat16", *where],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert added.returncode == 0, added.stderr
    value = json.loads(added.stdout)
    assert (value["source"], value["dtype"]) == (f"acme/tiny@{hub.commits['acme/tiny']}", "bfloat16")
    stored = tmp_path / "data" / "models" / value["manifest_digest"]
    assert {path.name for path in stored.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [path.name for path in (tmp_path / "data" / "models").iterdir()] == [value["manifest_digest"]]
    asked = {path.rpartition("/")[2] for path in hub.asked}
    assert not asked & {"pytorch_model.bin", "README.md", "modeling_tiny.py"}
    assert all("/main/" not in path for path in hub.asked if "/resolve/" in path)


def test_what_a_hub_does_not_show_or_no_model_is_is_refused(hub: Hub, model: Path, tmp_path: Path) -> None:
    only_pickled = tmp_path / "pickled"
    only_pickled.mkdir()
    (only_pickled / "config.json").write_bytes((model / "config.json").read_bytes())
    hub.publish("acme/pickled", only_pickled, **{"pytorch_model.bin": b"x"})
    hub.publish("acme/damaged", model)
    answers = fetch(
        tmp_path,
        ("acme/nobody", None),
        ("acme/tiny", "no-such-branch"),
        ("acme/pickled", None),
        ("acme/tiny", hub.commits["acme/tiny"]),
        HF_ENDPOINT=hub.url,
    )
    assert [answer.get("code") for answer in answers] == [
        "hub_model_unknown",
        "hub_model_unknown",
        "model_pickled",
        None,
    ]
    assert all(answer["next_step"] for answer in answers[:3])


def test_a_file_that_was_changed_on_its_way_is_refused(hub: Hub, model: Path, tmp_path: Path) -> None:
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    hub.tampered["model.safetensors"] = bytes(data)
    assert [answer["code"] for answer in fetch(tmp_path, ("acme/tiny", None), HF_ENDPOINT=hub.url)] == [
        "hub_file_damaged"
    ]


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_a_hub_the_error_says_how_to_bring_a_folder(environment: dict[str, str], tmp_path: Path) -> None:
    (answer,) = fetch(tmp_path, ("acme/tiny", None), **environment)
    assert answer["code"] == "hub_unreachable"
    assert "hf download" in answer["next_step"]


@pytest.mark.parametrize("text", ["gpt2", "acme/tiny", "A-b.c_d/E.f"])
def test_an_id_may_be_of_a_hub(text: str) -> None:
    assert is_hub_id(text)


@pytest.mark.parametrize("text", ["", "./tiny", "/srv/tiny", "../tiny", "a/b/c", "acme/", "-rf", "a b", "acme/../x"])
def test_a_path_is_no_id_of_a_hub(text: str) -> None:
    assert not is_hub_id(text)
