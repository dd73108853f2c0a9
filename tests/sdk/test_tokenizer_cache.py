"""A tokenizer is fetched once, kept by its digest, and believed only if its files are those of the ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tg_tinker import ServiceClient, Tokenizer, TrainingClient, TrainingConfig, errors
from tg_tinker.tokenizer_cache import default_cache

from tests.sdk import simulator as simulation
from tests.sdk.conftest import QUICK
from tests.sdk.simulator import Simulator
from tests.support.tiny_model import build_tiny_tokenizer

TEXT = "To be, or not to be"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = build_tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def served(simulator: Simulator, files: dict[str, bytes]) -> None:
    simulator.tokenizer = dict(files)


def _files_asked_for(simulator: Simulator) -> list[str]:
    return [seen.path.rpartition("/")[2] for seen in simulator.seen if "/tokenizer/" in seen.path]


def test_it_is_fetched_once_and_then_taken_from_the_cache(
    simulator: Simulator, client: ServiceClient, files: dict[str, bytes], tmp_path: Path
) -> None:
    first = client.get_tokenizer("small", cache_dir=tmp_path)
    again = client.get_tokenizer("small", cache_dir=tmp_path)
    assert first.encode(TEXT) == again.encode(TEXT) == Tokenizer(files).encode(TEXT)
    assert sorted(_files_asked_for(simulator)) == sorted(files)


def test_a_run_and_asyncio_get_the_same(simulator: Simulator, training: TrainingClient, tmp_path: Path) -> None:
    async def fetched() -> tuple[Tokenizer, Tokenizer]:
        async with ServiceClient(simulator.url, simulation.API_KEY, retry=QUICK) as client:
            run = await client.create_training_client_async(TrainingConfig(model_ref="small"))
            return await client.get_tokenizer_async("small", cache_dir=tmp_path), await run.get_tokenizer_async(
                cache_dir=tmp_path
            )

    one, two = asyncio.run(fetched())
    assert one.encode(TEXT) == two.encode(TEXT) == training.get_tokenizer(cache_dir=tmp_path).encode(TEXT)


def test_a_damaged_cache_is_mended(client: ServiceClient, files: dict[str, bytes], tmp_path: Path) -> None:
    client.get_tokenizer("small", cache_dir=tmp_path)
    kept = next(tmp_path.rglob("tokenizer.json"))
    kept.write_bytes(b"damaged")
    assert client.get_tokenizer("small", cache_dir=tmp_path).encode(TEXT)
    assert kept.read_bytes() == files["tokenizer.json"]


def test_other_bytes_than_those_listed_are_refused_and_not_kept(
    simulator: Simulator, client: ServiceClient, files: dict[str, bytes], tmp_path: Path
) -> None:
    simulator.listed = dict(files)
    simulator.tokenizer["tokenizer.json"] += b" "
    with pytest.raises(errors.TokenizerChangedError):
        client.get_tokenizer("small", cache_dir=tmp_path)
    assert not list(tmp_path.rglob("tokenizer.json"))


@pytest.mark.parametrize("name", ["../escape.json", "/etc/escape", "weights.safetensors", ""])
def test_a_name_that_no_tokenizer_file_has_never_becomes_a_path(
    simulator: Simulator, client: ServiceClient, tmp_path: Path, name: str
) -> None:
    simulator.tokenizer[name] = b"{}"
    with pytest.raises(errors.TokenizerChangedError):
        client.get_tokenizer("small", cache_dir=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_a_run_refuses_the_tokenizer_of_another_model_under_its_name(
    simulator: Simulator, training: TrainingClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(simulation.MODEL, "manifest_digest", "cd" * 32)
    with pytest.raises(errors.TokenizerChangedError):
        training.get_tokenizer(cache_dir=tmp_path)


def test_an_unknown_model_is_told_by_its_type(client: ServiceClient, tmp_path: Path) -> None:
    with pytest.raises(errors.UnknownModelError):
        client.get_tokenizer("other", cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written_is_told_with_what_to_do(client: ServiceClient, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.TokenizerError, match="Give a cache_dir"):
        client.get_tokenizer("small", cache_dir=tmp_path / "file")


def test_the_cache_lies_where_caches_do(tmp_path: Path) -> None:
    assert default_cache({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "tensorguard" / "tokenizers"
    assert default_cache({}) == Path.home() / ".cache" / "tensorguard" / "tokenizers"
