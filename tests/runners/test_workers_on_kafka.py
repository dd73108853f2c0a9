"""Workers on a real broker: they share chains, come, go and die, and every order has one outcome."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from processors.runners import faust_app
from producers.engines.kafka.topics import Topics
from schemas.events import PackageRequested, PackageSigned
from tests.runners.ground import Ground
from tests.runners.processors import Failing, Makes, Noting, eventually
from tests.support.kafka import own_broker
from tests.support.packages import MODEL, RUN, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TENANTS = ("acme", "globex", "initech", "umbrella")
TENSORS = {"adapter/layer.lora_A.weight": np.ones((2, 8), dtype=np.float32)}
SOON = 60.0


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    ground = Ground(tmp_path / "data")
    yield ground
    ground.close()


def open_tenant(ground: Ground, name: str) -> Shop:
    """A tenant with a device, a run and its device's folder."""
    ground.ledger.submitter.ensure_chain(name)
    return Shop(ground.ledger.folder.parent / name, ledger=ground.ledger, tenant=name)


def open_platform(ground: Ground) -> Shop:
    """The platform with a model, and the first tenant."""
    ground.ledger.submitter.ensure_chain("platform")
    shop = open_tenant(ground, TENANTS[0])
    shop.ask(MODEL, chain="platform", by=ground.ledger.authority)
    return shop


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))])
def test_every_order_has_one_outcome_and_every_run_one_lease_whichever_workers_come_go_and_die(
    ground: Ground, seed: int
) -> None:
    chance = random.Random(seed)
    with ground.sequencing(), ground.training() as trainer:
        shops = [open_platform(ground), *(open_tenant(ground, name) for name in TENANTS[1:])]
        sealed = [shop.save(TENSORS) for shop in shops]
        first, second = ground.start_worker(), ground.start_worker()
        eventually(lambda: ground.shared_by(first, second), "a share for each worker")
        ends = [(first, signal.SIGKILL), (second, signal.SIGTERM)]
        chance.shuffle(ends)
        orders: list[tuple[Shop, bytes]] = []
        for worker, number in ends:
            orders += [(shops[each], shops[each].order(sealed[each])) for each in chance.choices(range(4), k=6)]
            time.sleep(chance.random())
            worker.send_signal(number)
            assert worker.wait(SOON) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
            ground.start_worker()
        orders += [(shop, shop.order(each)) for shop, each in zip(shops, sealed, strict=True)]
        eventually(lambda: all(all(ground.outcomes(name).values()) for name in TENANTS), "an outcome for each order")
        eventually(lambda: all(ground.leases(name) for name in TENANTS), "a lease for each run")
        eventually(lambda: ground.shared_by(*ground.workers[2:]), "a share for each worker that is left")
        time.sleep(1.0)  # in which a second outcome could come
        assert all(ground.leases(name) == [(RUN, trainer)] for name in TENANTS)
        assert {count for name in TENANTS for count in ground.outcomes(name).values()} == {1}
        for shop, package in orders:
            outcome = shop.outcome(package)
            assert outcome is not None
            assert isinstance(outcome.event, PackageSigned)
            assert outcome.event.file_digest == sha256(shop.file(package).read_bytes()).digest()
        ground.ledger.verify()


@pytest.mark.soak
def test_a_worker_that_stood_still_goes_on_and_nothing_is_done_twice(ground: Ground) -> None:
    with ground.sequencing():
        shop = open_platform(ground)
        sealed = shop.save(TENSORS)
        first, second = ground.start_worker(), ground.start_worker()
        eventually(lambda: ground.shared_by(first, second), "a share for each worker")
        for worker in (first, second):
            worker.send_signal(signal.SIGSTOP)
            orders = [shop.order(sealed) for _ in range(2)]
            eventually(lambda: all(ground.outcomes("acme").values()), "an outcome from the other worker")
            worker.send_signal(signal.SIGCONT)
            assert [ground.outcomes("acme")[each] for each in orders] == [1, 1]
            eventually(lambda: ground.shared_by(first, second), "a share for each worker again")
        assert set(ground.outcomes("acme").values()) == {1}
        ground.ledger.verify()


def test_an_aborted_transaction_is_seen_by_no_processor(ground: Ground) -> None:
    with ground.sequencing():
        shop = open_platform(ground)
        shop.order(shop.save(TENSORS))
    (asked,) = (each for each in ground.ledger.events("acme") if isinstance(each.event, PackageRequested))
    topic, makes = Topics(ground.config).ledger("acme"), Makes()
    with ground.working(makes):
        eventually(lambda: "acme" in makes.made and makes.now("acme").settled > 0, "the chain")
        writer = Producer(ground.config.transactional("sequencer.0"))
        writer.init_transactions(SOON)
        writer.begin_transaction()
        frame = uncommitted(ground, topic, str(asked.seq).encode())
        key = str(ground.ledger.engine.size("acme")).encode()
        writer.produce(topic, frame, key)
        assert writer.flush(SOON) == 0
        assert uncommitted(ground, topic, key) == frame  # It lies there, and who reads what is not committed sees it.
        writer.abort_transaction(SOON)
        with ground.sequencing():
            later = shop.order(shop.save(TENSORS))
            eventually(lambda: ground.outcomes("acme").get(later, 0) == 1, "the next order's outcome")
        heeded = [each.seq for each in ground.ledger.events("acme") if type(each.event) in Noting.events]
        told = [seq for chain, seq in makes.now("acme").told if chain == "acme"]
        assert max(told) > int(key)
        assert told == heeded[: len(told)]


@pytest.mark.soak
def test_a_worker_outlives_a_broker_that_is_started_again(tmp_path: Path) -> None:
    with own_broker() as made:
        ground = Ground(tmp_path / "data", made.servers)
        with ground.sequencing():
            shop = open_platform(ground)
            worker = ground.start_worker()
            eventually(lambda: ground.shared_by(worker), "the chains")
        made.stop()
        time.sleep(12.0)  # longer than it takes to be missed
        made.start()
        with ground.sequencing():
            order = shop.order(shop.save(TENSORS))
            eventually(lambda: ground.outcomes("acme")[order] == 1, "an outcome")
            ground.ledger.submitter.ensure_chain("later")
            eventually(lambda: ground.shared_by(worker), "the chains, and a new one")
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(SOON) == 0
        ground.close()


def uncommitted(ground: Ground, topic: str, key: bytes) -> bytes:
    """The newest message of a key in a topic, committed or not."""
    settings = ground.config.consumer("test", reset="earliest") | {"isolation.level": "read_uncommitted"}
    consumer, found = Consumer(settings), b""
    consumer.assign([TopicPartition(topic, 0, 0)])
    while (message := consumer.poll(SOON)) is not None and message.error() is None:
        found = message.value() or b"" if message.key() == key else found
    consumer.close()
    return found


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A ledger for tests that keep to a tenant of their own."""
    ground = Ground(tmp_path_factory.mktemp("common") / "data")
    with ground.sequencing():
        open_platform(ground)
        yield ground
    ground.close()


def test_faust_wakes_a_chain_and_finds_new_ones(common: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faust_app, "REMIND_SECONDS", 600.0)  # So it is nobody else.
    with common.working(makes := Makes()):
        eventually(lambda: "acme" in makes.made, "the chain that is there")
        shop = open_tenant(common, "globex")
        eventually(lambda: "globex" in makes.made and makes.now("globex").settled > 0, "the chain that is new")
        order = shop.order(shop.save(TENSORS))
        eventually(lambda: common.outcomes("globex")[order] == 1, "an outcome")


def test_a_poisonous_event_stops_nobody(common: Ground) -> None:
    shop = open_tenant(common, "initech")
    with common.working(Makes(Failing), Makes()):
        sealed = shop.save(TENSORS)
        orders = [shop.order(sealed) for _ in range(2)]
        eventually(lambda: [common.outcomes("initech")[each] for each in orders] == [1, 1], "an outcome for each order")


def test_workers_leave_no_topic_of_their_own(common: Ground) -> None:
    with common.working(makes := Makes()):
        eventually(lambda: "acme" in makes.made, "the chain")
    consumer = Consumer(common.config.consumer("test", reset="earliest"))
    ours = {name for name in consumer.list_topics(timeout=SOON).topics if name.startswith(f"{common.config.prefix}.")}
    consumer.close()
    fixed = {topic.name for topic in Topics(common.config).fixed()}
    assert ours == fixed | {Topics(common.config).ledger(chain) for chain in common.chains()}


def test_a_worker_has_no_part_in_a_ledger_of_one_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "processors.worker", "--data-dir", tmp_path / "data"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "TG_LOG_URL" in done.stderr) == (2, True)
