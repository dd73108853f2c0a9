from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from schemas import commands as c
from tests.support.doors import TENANT, Doors, copy_installation, open_doors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEIGHTS = bytes(range(256)) * 8192  # two chunks of a sealed stream
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS}
URL = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def doors(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with open_doors(copy_installation(installed, tmp_path_factory.mktemp("exports") / "data")) as opened:
        yield opened


def saved(doors: Doors, *, lora: bool = True) -> tuple[str, str]:
    """A run and a checkpoint of its weights alone, on which it does not rest; both ids."""
    run = doors.create(**({} if lora else {"lora_config": None}))
    doors.worker.take(run)
    future = doors.operate(run, "save_state", {"name": "first", "include_optimizer": False})
    artifact = doors.worker.saved(run, through=0, step=0, future=future, name="first", includes_optimizer=False)
    return run, artifact.hex()


def finished(doors: Doors, asked: dict[str, Any]) -> dict[str, Any]:
    """An export whose files are there."""
    export_id = bytes.fromhex(asked["export_id"])
    listing = doors.platform.exports.write(TENANT, export_id, [(name, [data]) for name, data in FILES.items()])
    run = asked["training_client_id"]
    doors.worker.say("packager", c.RecordArtifactExported(run, export_id, listing.digest, listing.size_bytes))
    found: dict[str, Any] = doors.get(f"/v1/exports/{asked['export_id']}?wait=5")
    return found


def exported(doors: Doors) -> dict[str, Any]:
    _, artifact = saved(doors)
    return finished(doors, doors.post(f"/v1/artifacts/{artifact}/exports"))


def test_an_export_is_asked_for_waited_for_and_fetched(doors: Doors) -> None:
    run, artifact = saved(doors)
    asked = doors.post(f"/v1/artifacts/{artifact}/exports", {"format": "peft"})
    assert (asked["status"], asked["training_client_id"], asked["files"]) == ("pending", run, None)
    assert doors.call("GET", f"/v1/exports/{asked['export_id']}/files/{URL}").json()["code"] == "export_not_ready"
    ready = finished(doors, asked)
    assert ready["status"] == "ready"
    assert {f["name"]: (f["sha256"], f["size_bytes"]) for f in ready["files"]} == {
        name: (sha256(data).hexdigest(), len(data)) for name, data in FILES.items()
    }
    assert ready["expires_at"] > ready["finished_at"]
    answer = doors.call("GET", f"/v1/exports/{ready['export_id']}/files/{URL}")
    assert (answer.status_code, answer.content) == (200, WEIGHTS)
    assert answer.headers["etag"] == f'"{sha256(WEIGHTS).hexdigest()}"'
    listed = doors.get(f"/v1/exports?artifact_id={artifact}")["items"]
    assert [each["export_id"] for each in listed] == [ready["export_id"]]


RANGES: dict[str, tuple[str, slice | None]] = {
    "a start": ("bytes=0-99", slice(100)),
    "across chunks": (f"bytes={(1 << 20) - 5}-{(1 << 20) + 4}", slice((1 << 20) - 5, (1 << 20) + 5)),
    "an end that is cut": (f"bytes=5-{len(WEIGHTS) * 2}", slice(5, None)),
    "a rest": (f"bytes={len(WEIGHTS) - 3}-", slice(-3, None)),
    "a suffix": ("bytes=-7", slice(-7, None)),
    "a suffix that is longer than the file": (f"bytes=-{len(WEIGHTS) + 1}", slice(None)),
    "several ranges": ("bytes=0-1,4-5", None),
    "another unit": ("lines=0-1", None),
    "backwards": ("bytes=9-3", None),
    "nothing": ("bytes=-", None),
}


@pytest.fixture(scope="module")
def there(doors: Doors) -> dict[str, Any]:
    return exported(doors)


@pytest.mark.parametrize(("wanted", "part"), RANGES.values(), ids=RANGES)
def test_a_range_gives_its_bytes_and_what_is_none_the_whole(
    wanted: str, part: slice | None, doors: Doors, there: dict[str, Any]
) -> None:
    answer = doors.call("GET", f"/v1/exports/{there['export_id']}/files/{URL}", headers={"Range": wanted})
    assert answer.status_code == (200 if part is None else 206)
    assert answer.content == WEIGHTS[part or slice(None)]
    if part is not None:
        start, stop, _ = part.indices(len(WEIGHTS))
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(WEIGHTS)}"


def test_a_range_behind_the_end_is_refused_and_one_of_another_file_gives_the_whole(
    doors: Doors, there: dict[str, Any]
) -> None:
    path = f"/v1/exports/{there['export_id']}/files/{URL}"
    refused = doors.call("GET", path, headers={"Range": f"bytes={len(WEIGHTS)}-"})
    assert (refused.status_code, refused.json()["code"]) == (416, "range_not_satisfiable")
    assert refused.headers["content-range"] == f"bytes */{len(WEIGHTS)}"
    other = doors.call("GET", path, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
    assert (other.status_code, len(other.content)) == (200, len(WEIGHTS))
    same = {"Range": "bytes=0-1", "If-Range": other.headers["etag"]}
    assert doors.call("GET", path, headers=same).content == WEIGHTS[:2]


def test_an_export_is_another_tenants_business_in_no_way(doors: Doors, there: dict[str, Any]) -> None:
    for method, path in (("GET", ""), ("GET", f"/files/{URL}"), ("DELETE", "")):
        answer = doors.call(method, f"/v1/exports/{there['export_id']}{path}", key=doors.other_key)
        assert answer.json()["code"] == "unknown_export"


def test_a_deleted_export_is_gone_with_its_files(doors: Doors) -> None:
    export = exported(doors)
    path = f"/v1/exports/{export['export_id']}"
    assert doors.call("DELETE", path).status_code == 204
    assert doors.call("DELETE", path).status_code == 204
    assert (doors.get(path)["status"], doors.get(path)["files"]) == ("gone", None)
    answer = doors.call("GET", f"{path}/files/{URL}")
    assert (answer.status_code, answer.json()["code"]) == (410, "export_gone")


def test_a_failed_export_says_why(doors: Doors) -> None:
    run, artifact = saved(doors)
    asked = doors.post(f"/v1/artifacts/{artifact}/exports", {"format": "merged"})
    doors.worker.say("packager", c.FailArtifactExport(run, bytes.fromhex(asked["export_id"]), "model_unknown"))
    failed = doors.get(f"/v1/exports/{asked['export_id']}")
    assert (failed["status"], failed["error"]["code"]) == ("failed", "model_unknown")


def test_all_weights_have_no_peft_folder(doors: Doors) -> None:
    _, artifact = saved(doors, lora=False)
    answer = doors.call("POST", f"/v1/artifacts/{artifact}/exports", json={"format": "peft"})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_export")


def test_a_repeated_request_is_one_export(doors: Doors) -> None:
    _, artifact = saved(doors)
    headers = {"Idempotency-Key": "once"}
    first = doors.post(f"/v1/artifacts/{artifact}/exports", {"format": "peft"}, headers=headers)
    again = doors.post(f"/v1/artifacts/{artifact}/exports", {"format": "peft"}, headers=headers)
    assert again["export_id"] == first["export_id"]


def test_an_artifact_is_deleted_in_two_steps_and_then_unknown(doors: Doors) -> None:
    run, artifact = saved(doors)
    asked = doors.call("DELETE", f"/v1/artifacts/{artifact}")
    assert (asked.status_code, asked.json()["artifact_id"]) == (202, artifact)
    assert asked.json()["deletion_requested_at"]
    assert doors.call("DELETE", f"/v1/artifacts/{artifact}").status_code == 202
    other, package = doors.create(), {"artifact_id": artifact, "recipients": ["00" * 32], "release_counter": 1}
    for path, body in (
        (f"artifacts/{artifact}/exports", {}),
        ("samplers", {"artifact_id": artifact}),
        ("training_clients", {"model_ref": "tiny", "start_artifact_id": artifact}),
        (f"training_clients/{other}/load_state", {"artifact_id": artifact, "include_optimizer": False}),
        ("packages", package),
    ):
        assert doors.call("POST", f"/v1/{path}", json=body).json()["code"] == "unknown_artifact", path
    doors.worker.say("retention", c.RecordArtifactDeleted(run, bytes.fromhex(artifact)))
    assert doors.call("GET", f"/v1/artifacts/{artifact}").json()["code"] == "unknown_artifact"
    assert doors.call("DELETE", f"/v1/artifacts/{artifact}").status_code == 404


def test_an_artifact_that_a_run_rests_on_is_not_deleted(doors: Doors) -> None:
    run = doors.create()
    doors.worker.take(run)
    future = doors.operate(run, "save_state", {"name": "whole", "include_optimizer": True})
    artifact = doors.worker.saved(run, through=0, step=0, future=future, name="whole").hex()
    refused = doors.call("DELETE", f"/v1/artifacts/{artifact}")
    assert (refused.status_code, refused.json()["code"]) == (409, "artifact_in_use")
    doors.post(f"/v1/training_clients/{run}/close")
    assert doors.call("DELETE", f"/v1/artifacts/{artifact}").status_code == 202
