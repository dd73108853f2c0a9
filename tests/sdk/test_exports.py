"""A folder of weights is there whole or not at all, however often the way to it breaks."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

import pytest
from tg_tinker import RetryPolicy, ServiceClient, errors
from tg_tinker.cli.main import run

from tests.sdk.exporting import ARTIFACT, Exports, exporting
from tests.sdk.simulator import API_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEIGHTS = os.urandom(300_000)
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": WEIGHTS, "empty": b""}
ONCE = RetryPolicy(most_seconds=0.0)


@pytest.fixture
def server() -> Iterator[Exports]:
    with exporting(dict(FILES)) as server:
        yield server


@pytest.fixture
def client(server: Exports) -> Iterator[ServiceClient]:
    with ServiceClient(server.url, API_KEY, retry=ONCE) as client:
        yield client


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_export_is_fetched_whole_and_dropped_on_the_server(
    server: Exports, client: ServiceClient, tmp_path: Path
) -> None:
    server.pending = 2
    told: list[tuple[int, int]] = []
    out = client.export_artifact(ARTIFACT, tmp_path / "out", report=lambda done, total: told.append((done, total)))
    assert held(out) == FILES
    assert server.deleted == ["export-1"]
    assert told[-1] == (len(WEIGHTS) + 2, len(WEIGHTS) + 2)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_broken_download_goes_on_where_it_broke_off(server: Exports, client: ServiceClient, tmp_path: Path) -> None:
    server.cuts.extend([None, 100_000, 150_000])
    assert held(client.export_artifact(ARTIFACT, tmp_path / "out")) == FILES
    assert server.ranges == [None, None, "bytes=100000-", "bytes=250000-"]


def test_a_download_that_gives_up_leaves_no_folder_and_the_next_call_goes_on(
    server: Exports, client: ServiceClient, tmp_path: Path
) -> None:
    server.cuts.extend([None, 100_000, 0])
    with pytest.raises(errors.ServerUnreachableError):
        client.export_artifact(ARTIFACT, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    server.ranges.clear()
    assert held(client.export_artifact(ARTIFACT, tmp_path / "out")) == FILES
    assert server.ranges == ["bytes=100000-"]


def test_what_an_earlier_call_left_of_other_weights_is_fetched_anew(
    server: Exports, client: ServiceClient, tmp_path: Path
) -> None:
    server.cuts.extend([None, 100_000, 0])
    with pytest.raises(errors.ServerUnreachableError):
        client.export_artifact(ARTIFACT, tmp_path / "out")
    server.files["adapter_model.safetensors"] = other = os.urandom(200_000)
    del server.files["empty"]
    out = client.export_artifact(ARTIFACT, tmp_path / "out")
    assert held(out) == {"adapter_config.json": b"{}", "adapter_model.safetensors": other}


@pytest.mark.parametrize("more", [0, -100, 100], ids=["another", "a shorter", "a longer"])
def test_a_file_with_another_digest_is_refused_and_not_kept(
    server: Exports, client: ServiceClient, tmp_path: Path, more: int
) -> None:
    server.forged["adapter_model.safetensors"] = bytes(len(WEIGHTS) + more)
    with pytest.raises(errors.DownloadDamagedError):
        client.export_artifact(ARTIFACT, tmp_path / "out")
    server.forged.clear()
    assert held(client.export_artifact(ARTIFACT, tmp_path / "out")) == FILES


@pytest.mark.parametrize("name", ["../escape", ".hidden", "a/b", "", "x" * 200])
def test_a_name_that_leads_elsewhere_is_refused(
    name: str, server: Exports, client: ServiceClient, tmp_path: Path
) -> None:
    server.files[name] = b"x"
    with pytest.raises(errors.ProtocolError):
        client.export_artifact(ARTIFACT, tmp_path / "out")


@pytest.mark.parametrize("digest", ["/../../../escape", "a" * 63, "A" * 64, ""])
def test_a_digest_that_leads_elsewhere_is_refused(
    digest: str, server: Exports, client: ServiceClient, tmp_path: Path
) -> None:
    server.told["adapter_config.json"] = digest
    with pytest.raises(errors.ProtocolError):
        client.export_artifact(ARTIFACT, tmp_path / "out")
    assert not list(tmp_path.parent.rglob("*escape*"))


def test_nothing_is_asked_for_when_something_stands_in_the_way(
    server: Exports, client: ServiceClient, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(errors.TargetExistsError):
        client.export_artifact(ARTIFACT, tmp_path / "out")
    assert server.asked == 0


def test_a_failed_export_raises_the_error_of_its_code(server: Exports, client: ServiceClient, tmp_path: Path) -> None:
    server.failure = "checkpoint_damaged"
    with pytest.raises(errors.CheckpointDamagedError):
        client.export_artifact(ARTIFACT, tmp_path / "out")


def test_an_export_is_awaited_without_blocking(server: Exports, tmp_path: Path) -> None:
    async def fetch() -> Path:
        async with ServiceClient(server.url, API_KEY, retry=ONCE) as client:
            return await client.export_artifact_async(ARTIFACT, tmp_path / "out")

    server.cuts.extend([None, 7])
    assert held(asyncio.run(fetch())) == FILES


def test_the_command_exports_and_says_what_it_wrote(
    server: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TG_TINKER_BASE_URL", server.url)
    monkeypatch.setenv("TG_TINKER_API_KEY", API_KEY)
    assert run(["export", ARTIFACT, "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == {name: len(data) for name, data in FILES.items()}
    assert run(["export", ARTIFACT, "--out", str(tmp_path / "out")]) == 2
    assert run(["export", ARTIFACT, "--out", str(tmp_path / "else"), "--format", "gguf"]) == 2
