"""A device opens exactly what is in no doubt."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tensorguard.crypto.composite import CompositePrivateKey
from tensorguard.crypto.hpke import HpkePrivateKey
from tensorguard.errors import TensorGuardError
from tensorguard.ledger import trust
from tensorguard.ledger.trust import ArtifactKey

from edge.identity import Identity
from edge.inference import Runner
from edge.opening import opened_weights
from edge.releases import Releases
from producers.clock import DAY, system_clock
from tests.edge.device import PROMPT, Device
from tests.support.packages import Shop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_sample_is_that_of_the_adapter_on_its_model(device: Device) -> None:
    outcome = device.run(device.identity_folder("sample"))
    assert outcome.completion.completion == device.expected()
    assert device.expected() != device.expected(adapter=False)
    assert (outcome.step, outcome.reply, outcome.complete) == (5, None, True)
    assert outcome.completion.prompt == PROMPT


def test_the_weights_are_used_where_they_were_decrypted_and_are_zero_afterwards(device: Device) -> None:
    checked = device.check()
    runner = Runner(device.model_folder, checked.package.manifest.compatibility.adapter)
    with opened_weights(checked, device.shop.device) as weights:
        runner.attach(weights)
        start = torch.frombuffer(weights.image, dtype=torch.uint8).data_ptr()
        pointers = [p.data_ptr() for name, p in runner._model.named_parameters() if ".default." in name]
        assert pointers
        assert all(start <= pointer < start + len(weights.image) for pointer in pointers)
        assert any(weights.image)
        runner.detach()
    assert not any(weights.image)


def test_the_memory_is_zero_also_after_an_error(device: Device) -> None:
    seen: list[memoryview] = []

    def fail() -> None:
        with opened_weights(device.check(), device.shop.device) as weights:
            seen.append(weights.image)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not any(seen[0])


def damaged_package(device: Device, folder: Path) -> dict[str, Any]:
    path = folder / "damaged.tgsp"
    content = bytearray(device.package.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return {"file": path.open("rb")}


def cut_package(device: Device, folder: Path) -> dict[str, Any]:
    (folder / "cut.tgsp").write_bytes(device.package.read_bytes()[:-100])
    return {"file": (folder / "cut.tgsp").open("rb")}


def another_trust_root(device: Device, folder: Path) -> dict[str, Any]:
    stranger = CompositePrivateKey.generate().public_key
    return {"root": replace(device.root, artifact_keys=(ArtifactKey(stranger.key_id, stranger.data),))}


def another_ledgers_trust_root(device: Device, folder: Path) -> dict[str, Any]:
    return {"root": replace(device.root, origin="tensorguard.local/another")}


def receipt_of_another(device: Device, folder: Path) -> dict[str, Any]:
    return {"receipt": device.shop.receipt(device.pack())}


def cut_receipt(device: Device, folder: Path) -> dict[str, Any]:
    return {"receipt": device.receipt.read_bytes()[:-20]}


def no_receipt(device: Device, folder: Path) -> dict[str, Any]:
    return {"receipt": b""}


def changed_model(device: Device, folder: Path) -> dict[str, Any]:
    shutil.copytree(device.model_folder, folder / "model")
    weights = folder / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return {"model": folder / "model"}


def model_with_a_file_more(device: Device, folder: Path) -> dict[str, Any]:
    shutil.copytree(device.model_folder, folder / "model")
    (folder / "model" / "adapter_config.json").write_text("{}")
    return {"model": folder / "model"}


def no_model(device: Device, folder: Path) -> dict[str, Any]:
    return {"model": folder}


def model_with_a_pipe(device: Device, folder: Path) -> dict[str, Any]:
    shutil.copytree(device.model_folder, folder / "model")
    os.mkfifo(folder / "model" / "added_tokens.json")
    return {"model": folder / "model"}


@pytest.mark.parametrize(
    ("doubt", "code"),
    [
        pytest.param(damaged_package, "package_damaged", id="a flipped bit in the package"),
        pytest.param(cut_package, "package_malformed", id="a package cut short"),
        pytest.param(another_trust_root, "package_signature_invalid", id="a signing key that is not trusted"),
        pytest.param(another_ledgers_trust_root, "untrusted_key", id="a receipt of another ledger"),
        pytest.param(receipt_of_another, "package_receipt_invalid", id="another package's receipt"),
        pytest.param(cut_receipt, "malformed_note", id="a receipt cut short"),
        pytest.param(no_receipt, "malformed_note", id="no receipt"),
        pytest.param(changed_model, "package_model_mismatch", id="a base model with a flipped bit"),
        pytest.param(model_with_a_file_more, "package_model_mismatch", id="a base model with a file more"),
        pytest.param(model_with_a_pipe, "package_model_mismatch", id="a base model with a pipe among its files"),
        pytest.param(no_model, "package_model_mismatch", id="no base model"),
    ],
)
def test_a_doubt_ends_it_with_its_own_error(
    device: Device, tmp_path: Path, doubt: Callable[[Device, Path], dict[str, Any]], code: str
) -> None:
    with pytest.raises(TensorGuardError) as caught:
        device.check(**doubt(device, tmp_path))
    assert caught.value.code == code
    assert caught.value.next_step


def test_a_model_that_changes_between_check_and_use_is_refused(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(device.model_folder, folder)
    checked = device.check(model=folder)
    checked.confirm_model()
    weights = folder / "model.safetensors"
    sound, times = weights.read_bytes(), weights.stat()
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    weights.write_bytes(sound)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(TensorGuardError) as caught:
        checked.confirm_model()
    assert caught.value.code == "package_model_mismatch"


def test_an_expired_package_is_refused(device: Device) -> None:
    order = device.pack(expires_at=system_clock() + DAY)
    arguments = {"file": device.shop.file(order).open("rb"), "receipt": device.shop.receipt(order)}
    with pytest.raises(TensorGuardError) as caught:
        device.check(**arguments, now=system_clock() + 2 * DAY)
    assert caught.value.code == "package_expired"
    device.check(**arguments)


def test_another_device_does_not_get_the_key(device: Device, tmp_path: Path) -> None:
    for identity in (
        Identity.create(tmp_path / "stranger"),
        Identity(device.shop.device.signing_seed, HpkePrivateKey.generate()),
    ):
        with pytest.raises(TensorGuardError) as caught, opened_weights(device.check(), identity):
            pass
        assert caught.value.code == "package_not_for_device"


def open_release(device: Device, folder: Path, order: bytes) -> None:
    receipt = folder / f"{order.hex()}.receipt"
    receipt.write_bytes(device.shop.receipt(order))
    device.run(folder, package=str(device.shop.file(order)), receipt=str(receipt))


def test_an_older_release_is_refused_once_a_newer_one_was_opened(device: Device) -> None:
    folder = device.identity_folder("releases")
    old, new = device.pack(release_counter=1), device.pack(release_counter=2)
    open_release(device, folder, old)
    open_release(device, folder, new)
    with pytest.raises(TensorGuardError) as caught:
        open_release(device, folder, old)
    assert caught.value.code == "package_rolled_back"
    open_release(device, folder, new)


def test_of_two_packages_with_one_counter_the_one_made_later_is_the_newer(device: Device) -> None:
    folder = device.identity_folder("same-counter")
    old, new = device.pack(release_counter=5), device.pack(release_counter=5)
    open_release(device, folder, new)
    with pytest.raises(TensorGuardError) as caught:
        open_release(device, folder, old)
    assert caught.value.code == "package_rolled_back"


def test_of_two_agents_at_once_the_one_with_the_older_release_stops(device: Device, tmp_path: Path) -> None:
    old, new = (
        device.check(file=device.shop.file(order).open("rb"), receipt=device.shop.receipt(order)).package
        for order in (device.pack(release_counter=20), device.pack(release_counter=21))
    )
    one, other = Releases(tmp_path), Releases(tmp_path)
    one.check(old)
    other.remember(new)
    with pytest.raises(TensorGuardError) as caught:
        one.remember(old)
    assert caught.value.code == "package_rolled_back"
    other.check(new)


def test_a_package_that_was_refused_does_not_raise_the_counter(device: Device, tmp_path: Path) -> None:
    folder = device.identity_folder("refused")
    order = device.pack(release_counter=9)
    receipt = tmp_path / "receipt"
    receipt.write_bytes(device.shop.receipt(order))
    with pytest.raises(TensorGuardError):
        device.run(folder, package=str(device.shop.file(order)), receipt=str(receipt), model=tmp_path)
    assert device.run(folder).complete


def test_a_damaged_memory_of_releases_excludes_nothing_so_it_refuses(device: Device) -> None:
    folder = device.identity_folder("damaged-memory")
    device.run(folder)
    for path in (folder / "releases").iterdir():
        path.write_text("{}")
    with pytest.raises(TensorGuardError) as caught:
        device.check(releases=Releases(folder))
    assert caught.value.code == "identity"


def test_a_prompt_that_fills_the_model_is_refused(device: Device) -> None:
    with pytest.raises(TensorGuardError) as caught:
        device.run(device.identity_folder("prompt"), prompt="to be " * 200)
    assert caught.value.code == "prompt_too_long"


def test_tensors_of_another_adapter_are_refused(model_folder: Path, device: Device, tmp_path: Path) -> None:
    """A checkpoint whose manifest says one adapter while its tensors are another's."""
    shop = Shop(tmp_path, device.shop.model)
    try:
        tensors = dict(device.tensors)
        first = min(tensors)
        tensors[first] = tensors[first].T.copy()
        order = shop.order(shop.save(tensors))
        shop.pack()
        root = trust.parse(shop.trust_root.read_bytes())
        checked = device.check(file=shop.file(order).open("rb"), receipt=shop.receipt(order), root=root)
        runner = Runner(model_folder, checked.package.manifest.compatibility.adapter)
        with pytest.raises(TensorGuardError) as caught, opened_weights(checked, shop.device) as weights:
            runner.attach(weights)
        assert caught.value.code == "model_unusable"
    finally:
        shop.close()
