from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tensorguard.artifact import CheckpointDamagedError

from processors.exporter.checkpoints import Checkpoints
from processors.exporter.errors import BaseModelUnknownError, ExportError, NothingToExportError
from processors.exporter.exporter import Exporter
from processors.exporter.merging import Merger
from processors.exporter.orders import Desk
from processors.exporter.workbench import Workbench
from schemas import commands as c
from schemas.types import LoraSpec
from tests.exporter.checkpoints import TENANT, Shop, Trained
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from producers.installation import Installation

LORA = LoraSpec(rank=2, alpha=4.0, dropout=0.0, target_modules=("q_proj",), bias="none")


@pytest.fixture(scope="module")
def shop(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(installation, build_tiny_model(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def trained(shop: Shop) -> Trained:
    return shop.train(LORA, steps=1)


def test_a_peft_folder_is_two_files_that_name_no_path_of_the_server(
    shop: Shop, trained: Trained, tmp_path: Path
) -> None:
    shop.export(shop.order(trained, "peft"), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_bytes())
    assert (config["base_model_name_or_path"], config["r"], config["target_modules"]) == ("tiny", 2, ["q_proj"])


def test_a_folder_of_a_hubs_model_names_it_with_its_commit(shop: Shop, trained: Trained, tmp_path: Path) -> None:
    key, facts = next(iter(shop.desk.bases.items()))
    desk = Desk(bases={key: replace(facts, source="acme/tiny@abc")})
    order = shop.order(trained, "peft")
    shop.workbench.make(order, desk)
    listing = shop.exports.open(TENANT, order.request.export_id)
    assert listing is not None
    config = json.loads(b"".join(shop.exports.read(listing, "adapter_config.json")))
    assert (config["base_model_name_or_path"], config["revision"]) == ("acme/tiny", "abc")


def test_a_finished_export_is_reported_again_and_not_made_anew(shop: Shop, trained: Trained) -> None:
    order = shop.order(trained, "peft")
    first = shop.workbench.make(order, shop.desk)
    held = shop.exports.open(TENANT, order.request.export_id)
    assert shop.workbench.make(order, shop.desk) == first
    assert shop.exports.open(TENANT, order.request.export_id) == held


def test_a_checkpoint_of_all_weights_has_no_peft_folder(shop: Shop) -> None:
    whole = shop.train(None, steps=1)
    with pytest.raises(NothingToExportError):
        shop.workbench.make(shop.order(whole, "peft"), shop.desk)


def test_another_checkpoint_cannot_stand_in(shop: Shop, trained: Trained) -> None:
    order = shop.order(trained, "peft")
    request = replace(order.request, manifest_digest=bytes(32))
    with pytest.raises(CheckpointDamagedError):
        shop.workbench.make(replace(order, request=request), shop.desk)


def test_a_model_that_nobody_registered_cannot_be_merged_into(shop: Shop, trained: Trained) -> None:
    with pytest.raises(BaseModelUnknownError):
        shop.workbench.make(shop.order(trained, "merged"), Desk())


def test_a_process_of_its_own_merges_and_says_why_it_could_not(
    installation: Installation, shop: Shop, trained: Trained, tmp_path: Path
) -> None:
    merger = Merger(installation.data_dir)
    bench = Workbench(Checkpoints.of(installation), shop.exports, merger)
    made = bench.make(shop.order(trained, "merged"), shop.desk)
    listing = shop.exports.open(TENANT, made.export_id)
    assert listing is not None
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= {file.path for file in listing.files}
    gone = shop.directory.rename(tmp_path / "gone")
    try:
        with pytest.raises(ExportError) as refused:
            bench.make(shop.order(trained, "merged"), shop.desk)
        assert refused.value.code == "model_unknown"
    finally:
        gone.rename(shop.directory)


def test_each_order_that_waits_is_fulfilled_once_and_a_failure_is_reported_by_its_code(
    shop: Shop, trained: Trained
) -> None:
    exporter = Exporter(shop.workbench)
    good, bad = shop.order(trained, "peft"), shop.order(trained, "merged")
    exporter._desk.waiting = {(TENANT, order.request.export_id): order for order in (good, bad)}
    (made,), (failed,) = exporter.caught_up(), exporter.caught_up()
    assert isinstance(made.command, c.RecordArtifactExported)
    assert failed.command == c.FailArtifactExport("run-1", bad.request.export_id, "model_unknown")
    assert {intent.stream for intent in (made, failed)} == {"run/run-1"}
    assert list(exporter.caught_up()) == []
