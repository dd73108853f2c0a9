"""A model's tokenizer can be read by any key that may read; its weights by none."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from tensorguard.model_manifest import FileDigest, tokenizer_digest

from processors.catalogue import model_dir, register_model
from tests.support.doors import Doors
from tests.support.tiny_model import CHAT, build_tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"), chat_template=CHAT)


@pytest.fixture
def real(doors: Doors, model: Path) -> Doors:
    register_model(doors.platform.installation, doors.platform.submitter, "real", model)
    assert doors.platform.projector.wait_for_all(10)
    return doors


def test_the_files_come_byte_for_byte_with_the_digests_of_the_ledger(real: Doors, model: Path) -> None:
    info = real.get("/v1/models/real/tokenizer")
    files = [FileDigest(**each) for each in info["files"]]
    assert {file.path for file in files} == {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
    assert tokenizer_digest(files).hex() == info["tokenizer_digest"]
    for file in files:
        answer = real.call("GET", f"/v1/models/real/tokenizer/{file.path}")
        assert answer.content == (model / file.path).read_bytes()
        assert sha256(answer.content).hexdigest() == file.sha256 == answer.headers["etag"].strip('"')


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "..%2F..%2Fkeys", "merges.txt", "no-such-file"])
def test_nothing_but_a_tokenizers_files_is_served(real: Doors, name: str) -> None:
    answer = real.call("GET", f"/v1/models/real/tokenizer/{name}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_unknown_model_has_no_tokenizer(doors: Doors) -> None:
    for path in ("tokenizer", "tokenizer/tokenizer.json"):
        answer = doors.call("GET", f"/v1/models/none/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")


def test_a_file_that_is_gone_or_changed_is_not_sent(real: Doors) -> None:
    row = real.platform.views.model("real")
    assert row is not None
    path = model_dir(real.platform.installation, bytes.fromhex(row.manifest_digest)) / "tokenizer.json"
    path.write_bytes(b"{}")
    for _ in range(2):
        answer = real.call("GET", "/v1/models/real/tokenizer/tokenizer.json")
        assert (answer.status_code, answer.json()["code"]) == (409, "model_changed")
        path.unlink(missing_ok=True)
