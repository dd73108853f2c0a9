"""What a step, a large batch and another run's modules must not do."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tensorguard.model_manifest import digest_files, manifest_digest, stamps

from processors import catalogue
from processors.errors import ModelChangedError
from processors.trainer import bases as in_memory
from processors.trainer import compute
from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.batch import Row
from processors.trainer.compute import forward_backward, micro_batches, optim_step
from processors.trainer.errors import NonFiniteLossError
from producers.installation import Installation
from schemas.types import LoraSpec, OptimizerSpec
from tests.support.ledgers import installed
from tests.support.tiny_model import VOCABULARY, build_tiny_model
from tests.trainer.batches import random_rows
from tests.trainer.conftest import ADAMW, LORA

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _state(adapter: Adapter) -> dict[str, bytes]:
    held = {**adapter.tensors(include_optimizer=True), **{f"gradient/{n}": g for n, g in adapter.gradients.items()}}
    return {name: tensor.cpu().numpy().tobytes() for name, tensor in held.items()}


def _tiny_eps() -> OptimizerSpec:
    return OptimizerSpec("adamw", ADAMW.learning_rate, 0.0, 0.9, 0.999, 1e-50)


RUINOUS: dict[str, tuple[OptimizerSpec, float | None]] = {
    "a learning rate that overflows": (ADAMW, 1e38),
    "a learning rate that no float32 holds": (ADAMW, 1e300),
    "an eps that is zero in float32": (_tiny_eps(), None),
}


@pytest.mark.parametrize(("optimizer", "rate"), RUINOUS.values(), ids=RUINOUS)
def test_a_step_that_would_ruin_the_adapter_is_refused_and_changes_nothing(
    optimizer: OptimizerSpec, rate: float | None, new_adapter: Callable[..., Adapter]
) -> None:
    adapter = new_adapter(optimizer=optimizer)
    steps_before = int(optimizer is ADAMW)
    for op_seq in range(steps_before):
        forward_backward(adapter, random_rows(op_seq), seed=op_seq)
        optim_step(adapter, op_seq)
    for call in range(2):
        forward_backward(adapter, random_rows(call), seed=call)
    before = _state(adapter)
    with pytest.raises(NonFiniteLossError):
        optim_step(adapter, 9, rate)
    assert _state(adapter) == before
    assert (adapter.step, adapter.calls) == (steps_before, 2)
    assert all(parameter.grad is None for parameter in adapter.parameters.values())


def test_after_a_refused_step_a_gentler_one_is_as_if_it_had_been_the_first(new_adapter: Callable[..., Adapter]) -> None:
    one, other = new_adapter(), new_adapter()
    for adapter in (one, other):
        for call in range(3):
            forward_backward(adapter, random_rows(call), seed=call)
    with pytest.raises(NonFiniteLossError):
        optim_step(one, 4, 1e38)
    optim_step(one, 5)
    optim_step(other, 4)
    assert one.digest() == other.digest()


def test_an_overflowing_sum_of_gradients_is_no_step(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter()
    forward_backward(adapter, random_rows(1), seed=1)
    next(iter(adapter.gradients.values())).fill_(float("inf"))
    before = adapter.digest()
    with pytest.raises(NonFiniteLossError):
        optim_step(adapter, 2)
    assert adapter.digest() == before


def test_large_finite_weights_are_finite(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter()
    first = next(iter(adapter.parameters.values()))
    first.data.fill_(3e38)
    adapter.check_finite()
    first.data[0, 0] = float("-inf")
    with pytest.raises(NonFiniteLossError):
        adapter.check_finite()


PIECES: dict[str, tuple[list[int], int, list[int]]] = {
    "all at once": ([3, 5, 2], 15, [3]),
    "padding counts": ([3, 5, 2], 14, [2, 1]),
    "a row each": ([9, 9, 9], 9, [1, 1, 1]),
    "a row that is too large alone": ([2, 20, 2], 6, [1, 1, 1]),
    "no room at all": ([1, 1], 0, [1, 1]),
}


@pytest.mark.parametrize(("lengths", "positions", "sizes"), PIECES.values(), ids=PIECES)
def test_a_large_batch_goes_in_pieces(lengths: list[int], positions: int, sizes: list[int]) -> None:
    rows = [Row((1,) * length, (1,) * length) for length in lengths]
    pieces = micro_batches(rows, positions)
    assert [len(piece) for piece in pieces] == sizes
    assert [row for piece in pieces for row in piece] == rows


def test_pieces_give_loss_and_gradient_of_the_whole(
    new_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = LoraSpec(4, 8.0, 0.0, ("q_proj", "v_proj"), "none")
    rows = [*random_rows(1, (9, 5, 12, 7)), Row((1, 2, 3), (-100,) * 3)]
    whole, pieces = new_adapter(lora=lora), new_adapter(lora=lora)
    wanted = forward_backward(whole, rows, seed=1)
    monkeypatch.setattr(compute, "MAX_LOGITS", 18 * VOCABULARY)
    found = forward_backward(pieces, rows, seed=1)
    assert (whole.micro_batches, pieces.micro_batches) == (1, 3)
    assert found.tokens == wanted.tokens == 36
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    for name, gradient in whole.gradients.items():
        torch.testing.assert_close(pieces.gradients[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("which", ["lora_only", "all"])
@pytest.mark.parametrize("targets", [("k_proj",), ()], ids=["another module", "every module"])
def test_biases_do_not_depend_on_what_other_runs_adapt(which: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path / "biased", biases=True)
    lora = LoraSpec(4, 8.0, 0.1, ("q_proj", "v_proj"), which)
    alone = Adapter(SharedBase(directory), lora, ADAMW, 7)
    base = SharedBase(directory)
    Adapter(base, LoraSpec(4, 8.0, 0.1, targets, "none"), ADAMW, 1)
    beside = Adapter(base, lora, ADAMW, 7)
    for adapter in (alone, beside):
        forward_backward(adapter, random_rows(1), seed=1)
        optim_step(adapter, 2)
    assert beside.parameters.keys() == alone.parameters.keys()
    assert beside.digest() == alone.digest()


def test_a_model_in_memory_does_not_depend_on_its_files(model_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_dir, tmp_path / "model")
    adapter = Adapter(SharedBase(folder), LORA, ADAMW, 7)
    other = Adapter(SharedBase(model_dir), LORA, ADAMW, 7)
    os.truncate(folder / "model.safetensors", 0)
    assert forward_backward(adapter, random_rows(1), seed=1) == forward_backward(other, random_rows(1), seed=1)


def test_a_model_that_changes_while_it_is_loaded_is_not_used(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meddled(SharedBase):
        """A base whose weights are exchanged while it is loaded, and put back."""

        def __init__(self, directory: Path, *arguments: Any) -> None:
            path = directory / "model.safetensors"
            sound, times = path.read_bytes(), path.stat()
            path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
            super().__init__(directory, *arguments)
            path.write_bytes(sound)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    installation = Installation.open(installed(tmp_path / "data"))
    digest = manifest_digest(digest_files(model_dir))
    folder = shutil.copytree(model_dir, catalogue.model_dir(installation, digest))
    bases = in_memory.Bases(installation)
    with monkeypatch.context() as patched:
        patched.setattr(in_memory, "SharedBase", Meddled)
        with pytest.raises(ModelChangedError):
            bases.get(digest)
    assert manifest_digest(digest_files(folder)) == digest
    assert bases.get(digest).vocabulary == VOCABULARY
    installation.close()


def test_stamps_tell_of_a_change_that_was_undone(model_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model_dir, tmp_path / "model")
    before = stamps(folder)
    assert stamps(folder) == before
    config = folder / "config.json"
    times = config.stat()
    config.rename(folder / "aside")
    (folder / "aside").rename(config)
    os.utime(config, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stamps(folder) != before
    assert stamps(folder / "nowhere") == {}
