from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import safetensors.torch
import torch
from tensorguard.tgsp import tensors as tgsp

from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.errors import CheckpointMismatchError
from processors.trainer.settings import Settings
from processors.trainer.tensors import digest_of, pack, unpack
from producers.settings import read
from tests.trainer.batches import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.trainer.adapter import Adapter

TENSORS = {
    "b/matrix": torch.arange(6.0).reshape(2, 3),
    "a/scalar": torch.tensor(3.5),
    "c/transposed": torch.arange(6.0).reshape(2, 3).t(),
    "d/half": torch.ones(3, dtype=torch.bfloat16),
    "e/count": torch.tensor([1, 2], dtype=torch.int64),
}


def test_an_image_is_what_safetensors_reads() -> None:
    image = pack(TENSORS, {"step": "1"})
    found = safetensors.torch.load(bytes(image))
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_an_image_unpacks_to_what_was_packed() -> None:
    found, metadata = unpack(pack(TENSORS, {"step": "1"}))
    assert metadata == {"step": "1"}
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


def test_the_digest_is_the_one_that_packages_check() -> None:
    image = pack(TENSORS, {})
    slices, _ = tgsp.parse(image)
    assert tgsp.adapter_digest(image, slices) == digest_of(TENSORS)


def test_the_digest_depends_on_name_type_shape_and_value() -> None:
    one = torch.ones(2, 3)
    others = [{"b": one}, {"a": one.half()}, {"a": one.t()}, {"a": one + 1}]
    assert digest_of({"a": one}) == digest_of({"a": one.clone()})
    assert len({digest_of(tensors) for tensors in ({"a": one}, *others)}) == 5


MALFORMED = {
    "nothing": b"",
    "a header that ends too early": bytes(pack(TENSORS, {}))[:40],
    "data that end too early": bytes(pack(TENSORS, {}))[:-1],
    "a type that no adapter has": bytes(pack({"a": torch.zeros(4)}, {})).replace(b'"F32"', b'"I32"'),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_image_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointMismatchError):
        unpack(bytearray(data))


def test_a_restored_adapter_goes_on_as_the_one_that_was_saved(new_adapter: Callable[..., Adapter]) -> None:
    one, other = new_adapter(), new_adapter(seed=99)
    for op_seq in (1, 2):
        forward_backward(one, random_rows(op_seq), seed=op_seq)
        optim_step(one, op_seq)
    tensors, _ = unpack(pack(one.tensors(include_optimizer=True), {}))
    other.restore(tensors, step=2, through_op_seq=2, include_optimizer=True)
    for adapter in (one, other):
        forward_backward(adapter, random_rows(3), seed=3)
        optim_step(adapter, 3)
    assert (one.digest(), one.step) == (other.digest(), other.step)


Tensors = dict[str, torch.Tensor]
UNFIT: dict[str, Callable[[Tensors], object]] = {
    "a tensor less": lambda tensors: tensors.pop(next(iter(tensors))),
    "a tensor more": lambda tensors: tensors.update({"adapter/x": torch.zeros(1)}),
    "another shape": lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(1)}),
    "an optimizer slot less": lambda tensors: tensors.pop(next(n for n in tensors if n.endswith(".step"))),
    "optimizer state of no parameter": lambda tensors: tensors.update({"optimizer/x.step": torch.zeros(())}),
}


@pytest.mark.parametrize("change", UNFIT.values(), ids=UNFIT)
def test_tensors_that_do_not_fit_change_nothing(
    change: Callable[[Tensors], object], new_adapter: Callable[..., Adapter]
) -> None:
    adapter = new_adapter()
    forward_backward(adapter, random_rows(1), seed=1)
    optim_step(adapter, 1)
    before, tensors = adapter.digest(), dict(unpack(pack(adapter.tensors(include_optimizer=True), {}))[0])
    change(tensors)
    with pytest.raises(CheckpointMismatchError):
        adapter.restore(tensors, step=9, through_op_seq=9, include_optimizer=True)
    assert (adapter.digest(), adapter.step) == (before, 1)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TG_CHECKPOINT_EVERY_STEPS", "3")
    monkeypatch.setenv("TG_CHECKPOINT_EVERY_SECONDS", "0.5")
    settings = Settings.of(read().settings)
    assert (settings.checkpoint_steps, settings.checkpoint_seconds) == (3, 0.5)
