from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load
from tensorguard.artifact.store import PAYLOAD
from tensorguard.ledger import trust
from tensorguard.tgsp.errors import PackageReceiptError
from tensorguard.tgsp.package import Package, trusted_keys
from tensorguard.tgsp.receipt import check_receipt

from processors.packager.orders import Desk
from processors.packager.packager import Packager
from processors.packager.workbench import Workbench
from processors.runners.embedded import EmbeddedRunner
from processors.workshop import in_turn
from producers.locks import locked
from schemas.commands import RevokeProducer
from schemas.events import PackageFailed, PackageSigned
from tests.support.packages import TENANT, Shop, digest_of_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CANARY = np.frombuffer(b"canary weights.." * 4, dtype=np.float32)
TENSORS = {
    "adapter/base_model.layer.lora_A.weight": CANARY.reshape(2, 8),
    "adapter/base_model.layer.lora_B.weight": np.arange(8, dtype=np.float32).reshape(4, 2),
    "optimizer/base_model.layer.lora_A.weight.exp_avg": CANARY.reshape(2, 8),
    "optimizer/base_model.layer.lora_A.weight.step": np.array(5.0, dtype=np.float32),
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.close()


def opened(shop: Shop, package_id: bytes) -> tuple[Package, dict[str, np.ndarray]]:
    """The package of an order as its recipient sees it."""
    root = trust.parse(shop.trust_root.read_bytes())
    with shop.file(package_id).open("rb") as file:
        package = Package.verify(file, trusted_keys(root))
        check_receipt(shop.receipt(package_id), root, package)
        target = bytearray(package.manifest.weights.plaintext_size)
        package.decrypt_weights(package.open_key(shop.device.key_id, shop.device.hpke_key), memoryview(target))
    return package, load(bytes(target))


def signed(shop: Shop, package_id: bytes) -> PackageSigned:
    recorded = shop.outcome(package_id)
    assert recorded is not None
    assert isinstance(recorded.event, PackageSigned), recorded.event
    return recorded.event


def failure(shop: Shop, package_id: bytes) -> str:
    recorded = shop.outcome(package_id)
    assert recorded is not None
    assert isinstance(recorded.event, PackageFailed)
    assert not shop.file(package_id).exists()
    return recorded.event.code


def test_an_order_becomes_a_package_of_the_adapter_alone_and_a_record_of_it(shop: Shop) -> None:
    sealed = shop.save(TENSORS)
    order = shop.order(sealed, release_counter=4)
    shop.pack()
    package, tensors = opened(shop, order)
    assert set(tensors) == {"base_model.layer.lora_A.weight", "base_model.layer.lora_B.weight"}
    np.testing.assert_array_equal(tensors["base_model.layer.lora_A.weight"], CANARY.reshape(2, 8))
    event = signed(shop, order)
    assert event.package_digest == package.package_id
    assert event.file_digest == digest_of_file(shop.file(order))
    assert event.size_bytes == shop.file(order).stat().st_size
    assert package.manifest.release_counter == 4
    assert package.manifest.compatibility.architecture == "LlamaForCausalLM"
    assert package.evidence.artifact_manifest_digest == sealed.manifest_digest.hex()
    shop.ledger.verify()


def test_no_plaintext_is_left_anywhere(shop: Shop) -> None:
    shop.order(shop.save(TENSORS))
    shop.pack()
    files = [path for path in shop.data.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if b"canary" in path.read_bytes()]


def test_a_redelivered_order_is_answered_the_same_and_nothing_is_signed_again(shop: Shop) -> None:
    order = shop.order(shop.save(TENSORS))
    shop.pack()
    before, event = shop.file(order).read_bytes(), signed(shop, order)
    shop.pack()
    assert shop.file(order).read_bytes() == before
    assert signed(shop, order) == event
    assert shop.ledger.names(TENANT).count("PackageSigned") == 1


def test_a_package_that_was_finished_but_not_reported_is_reported_as_it_is(shop: Shop, tmp_path: Path) -> None:
    """A packager that dies between the file and the report leaves the file; the next one must not sign anew."""
    order = shop.order(shop.save(TENSORS))
    desk = Desk()
    for chain in ("platform", TENANT):
        for recorded in shop.ledger.events(chain):
            desk.take(recorded)
    report = Workbench.of(shop.ledger.installation).make(desk.waiting[TENANT, order], desk)
    before = shop.file(order).read_bytes()
    shop.pack()
    assert shop.file(order).read_bytes() == before
    assert signed(shop, order).package_digest == report.package_digest


def test_while_another_process_makes_a_chains_packages_this_one_waits(shop: Shop) -> None:
    order, ledger = shop.order(shop.save(TENSORS)), shop.ledger
    packager = Packager(Workbench.of(ledger.installation), in_turn(shop.data, Packager.name))
    runner = EmbeddedRunner(ledger.installation, ledger.engine, [packager])
    with locked(shop.data / "run" / "workshops" / f"packager-{TENANT}.lock"):
        while runner.step():
            pass
        assert not shop.file(order).exists()
    while runner.step():
        pass
    ledger.submitter._decide_inline()
    assert signed(shop, order).package_id == order


@pytest.mark.parametrize("damage", ["cut", "flipped", "another"])
def test_a_file_that_is_no_sound_package_is_made_anew(shop: Shop, damage: str) -> None:
    order = shop.order(shop.save(TENSORS))
    shop.pack()
    content = shop.file(order).read_bytes()
    second = shop.order(shop.save(TENSORS, artifact_id="cd" * 16))
    shop.file(second).write_bytes(
        {"cut": content[:-1], "flipped": content[:99] + b"?" + content[100:], "another": content}[damage]
    )
    shop.pack()
    assert opened(shop, second)[0].manifest.request_id == second.hex()


def test_several_orders_are_done_and_each_is_sealed_to_its_own_devices(shop: Shop) -> None:
    sealed = shop.save(TENSORS)
    orders = [shop.order(sealed) for _ in range(3)]
    shop.pack()
    packages = [opened(shop, order)[0] for order in orders]
    assert len({package.package_id for package in packages}) == 3


def test_a_receipt_of_another_package_proves_nothing(shop: Shop) -> None:
    sealed = shop.save(TENSORS)
    first, second = shop.order(sealed), shop.order(sealed)
    shop.pack()
    root = trust.parse(shop.trust_root.read_bytes())
    with shop.file(first).open("rb") as file, pytest.raises(PackageReceiptError):
        check_receipt(shop.receipt(second), root, Package.verify(file, trusted_keys(root)))


def flip(shop: Shop) -> None:
    path = shop.data / "blobs" / TENANT / ("ab" * 16) / PAYLOAD
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def cut(shop: Shop) -> None:
    os.truncate(shop.data / "blobs" / TENANT / ("ab" * 16) / PAYLOAD, 10)


def lose_key(shop: Shop) -> None:
    (shop.data / "keys" / "kek").unlink()


def revoke(shop: Shop) -> None:
    shop.ask(RevokeProducer(shop.device.key_id), by=shop.ledger.authority)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(flip, "checkpoint_damaged", id="a flipped bit in the checkpoint"),
        pytest.param(cut, "checkpoint_truncated", id="a truncated checkpoint"),
        pytest.param(lose_key, "key_lost", id="a lost key-encryption key"),
        pytest.param(revoke, "recipient_unknown", id="a device revoked in between"),
    ],
)
def test_an_order_that_cannot_be_fulfilled_fails_with_its_reason(shop: Shop, change: object, code: str) -> None:
    order = shop.order(shop.save(TENSORS))
    assert callable(change)
    change(shop)
    shop.pack()
    assert failure(shop, order) == code
    shop.ledger.verify()


@pytest.mark.parametrize(
    ("tensors", "changes", "code"),
    [
        pytest.param({"optimizer/x": CANARY}, {}, "nothing_to_package", id="a checkpoint without an adapter"),
        pytest.param(TENSORS, {"lora": None}, "nothing_to_package", id="a checkpoint of no LoRA run"),
        pytest.param(TENSORS, {"adapter_digest": "00" * 32}, "checkpoint_damaged", id="another adapter than said"),
        pytest.param(TENSORS, {"manifest_digest": "99" * 32}, "model_unknown", id="a model out of the catalogue"),
    ],
)
def test_a_checkpoint_that_is_not_right_fails_with_its_reason(
    shop: Shop, tensors: dict[str, np.ndarray], changes: dict[str, object], code: str
) -> None:
    order = shop.order(shop.save(tensors, **changes))
    shop.pack()
    assert failure(shop, order) == code


def test_one_failing_order_does_not_hold_up_the_next(shop: Shop) -> None:
    bad = shop.order(shop.save({"optimizer/x": CANARY}, artifact_id="cd" * 16))
    good = shop.order(shop.save(TENSORS))
    shop.pack()
    assert failure(shop, bad) == "nothing_to_package"
    assert signed(shop, good)


def test_the_packagers_process_starts_light_works_and_ends_when_told_to(shop: Shop) -> None:
    order = shop.order(shop.save(TENSORS))
    code = (
        "import sys, threading; from processors.packager.__main__ import main;"
        "sys.argv[1:] = ['--data-dir', sys.argv[1]]; status = main();"
        "print(status, [name for name in ('torch', 'transformers', 'peft', 'numpy') if name in sys.modules])"
    )
    stop = threading.Event()
    sequencer = threading.Thread(target=shop.ledger.sequencer().run, args=(stop,))
    sequencer.start()
    process = subprocess.Popen([sys.executable, "-c", code, str(shop.data)], stdout=subprocess.PIPE, text=True)
    try:
        wait_for_outcome(shop, order)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        stop.set()
        sequencer.join()
    assert signed(shop, order)
    assert output.splitlines()[-1] == "0 []"


def wait_for_outcome(shop: Shop, order: bytes) -> None:
    for _ in range(60):
        size = shop.ledger.engine.size(TENANT)
        if shop.outcome(order):
            return
        shop.ledger.engine.wait({TENANT: size, "platform": 1 << 62}, 1.0)
