"""A secured cluster: each role can do its work with the rights that the page on Kafka gives it, and nothing else."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, Producer

from processors.errors import WorkerEndedError
from processors.placement.kafka import KafkaRoster
from processors.placement.standing import Standing
from processors.runners.faust_app import LedgerApp, work
from producers.engines.errors import EngineError
from producers.engines.kafka import KafkaConfig, KafkaEngine, topics
from producers.engines.kafka.errors import BrokerError, DeniedError
from producers.engines.kafka.topics import Topics
from producers.engines.port import Append, Commit, Quarantined, Snapshot
from tests.engines.handles import SOON, Kafka, numbered, reply
from tests.support.certificates import Authority
from tests.support.kafka import own_broker
from tests.support.secured import SecuredBroker, right

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka.admin import AclBinding

PAGE = Path(__file__).parents[2] / "docs" / "kafka.md"
SEQUENCER, API, SIGNER, READER, LETTERS, WORKERS = "sequencer", "api", "signer", "views", "ledger", "workers"
"""The first words of the page's rows."""
PREFIX = "secured"
NAME = re.compile(r"`([^`]+)`")


def rows() -> Iterator[list[str]]:
    """The rows of the page's table of rights."""
    table = PAGE.read_text().split("| role |")[1].split("\n\n")[0]
    for line in table.splitlines()[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def granted() -> dict[str, list[tuple[str, str, str]]]:
    """Operation, kind and name of all resources, by the first word of a role."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    same: list[str] = []
    for role, read, write, more in rows():
        reads = _topics(read, same)
        same = same if "the same" in read or "all topics" in read else reads
        rights = [(operation, "TOPIC", "tg.*") for operation in ("Describe", "DescribeConfigs")]
        rights.append(("Describe", "GROUP", "tg.readers"))
        rights += [("Read", "TOPIC", name) for name in reads]
        rights += [("Write", "TOPIC", name) for name in _topics(write, same)]
        found[re.split(r"\W", role.strip("`").lower())[0]] = [*rights, *_more(more)]
    return found


def _topics(cell: str, same: list[str]) -> list[str]:
    said, names = cell.split(";", maxsplit=1)[0], NAME.findall(cell.split(";", maxsplit=1)[0])
    if said.startswith("all topics"):
        return ["tg.*"]
    if said.startswith("all but"):
        everything = [topic.name for topic in Topics(KafkaConfig("")).fixed()] + ["tg.ledger.*"]
        return [name for name in everything if name not in names]
    return [*(same if said.startswith("the same") else []), *names]


def _more(cell: str) -> Iterator[tuple[str, str, str]]:
    for clause in filter(None, cell.split("; ")):
        operations, _, resource = clause.partition(" on ")
        kind = "GROUP" if "group" in resource else "TRANSACTIONAL_ID" if "transactional" in resource else "TOPIC"
        for operation in NAME.findall(operations):
            yield operation, kind, NAME.findall(resource)[-1]


def bindings(role: str) -> list[AclBinding]:
    """The rights of a role on the ledger of this module."""
    return [
        right(role, operation, kind, name.replace("tg.", f"{PREFIX}.", 1)) for operation, kind, name in granted()[role]
    ]


@pytest.fixture(scope="module")
def secured() -> Iterator[SecuredBroker]:
    """A broker with a ledger that its operator has made, and a user for each role."""
    with own_broker(SecuredBroker()) as made:
        assert isinstance(made, SecuredBroker)
        for role in granted():
            made.open_to(role, bindings(role))
        operator = Kafka(made.operators(PREFIX))
        engine = operator.open()
        engine.commit(Commit(engine.open_epoch(), [Append("seed", 0, numbered(0, 1))]))
        operator.close()
        yield made


@pytest.fixture
def as_(secured: SecuredBroker) -> Iterator[Callable[[str], KafkaEngine]]:
    """A handle of a role."""
    opened: list[Kafka] = []

    def handle(role: str) -> KafkaEngine:
        opened.append(Kafka(secured.config_of(role, PREFIX)))
        return opened[-1].open()

    yield handle
    for each in opened:
        each.close()


def test_the_page_names_the_roles() -> None:
    assert {SEQUENCER, API, SIGNER, READER, LETTERS, WORKERS} <= granted().keys()


def test_each_role_can_do_its_work(as_: Callable[[str], KafkaEngine]) -> None:
    sequencer, api, signer, reader, letters = map(as_, (SEQUENCER, API, SIGNER, READER, LETTERS))
    positions = api.submit([b"one", b"two", b"three"])
    epoch = sequencer.open_epoch()
    waiting = sequencer.intake(sequencer.intake_position(), 9)
    assert [entry.data for entry in waiting] == [b"one", b"two", b"three"]
    poisoned = [Quarantined(position, "poison", 1) for position in positions[1:]]
    commit = Commit(epoch, [Append("acme", 0, numbered(0, 3))], [reply(1)], positions[-1], poisoned)
    sequencer.commit(commit)
    sequencer.save_snapshot(Snapshot("acme", 3, bytes(32), b"state"))
    assert sequencer.load_snapshot("acme") is not None
    assert api.wait_reply(reply(1).command_id, SOON) == reply(1)
    assert list(signer.read("acme", 0, 9)) == numbered(0, 3)
    signer.publish_checkpoint("acme", b"note")
    signer.submit([b"four"])
    for handle in (sequencer, api, signer, reader, letters):
        assert list(handle.read("acme", 0, 9)) == numbered(0, 3)
        assert handle.wait_checkpoint("acme", None, SOON) == b"note"
        assert len(handle.quarantined()) == len(poisoned)
    letters.drop(positions[1])
    again = letters.retry(positions[2])
    assert list(reader.quarantined()) == []
    assert [entry.data for entry in sequencer.intake(positions[-1], 9)] == [b"four", b"three"]
    sequencer.commit(Commit(epoch, [Append("beta", 0, numbered(0, 1))], [], again))
    assert reader.wait({"acme": 3}, SOON)
    assert list(reader.read("beta", 0, 9)) == numbered(0, 1)


class Given:
    """Stands for the work of a worker: it notes the chains that it is given."""

    def __init__(self) -> None:
        self.chains: asyncio.Queue[set[str]] = asyncio.Queue()

    def assign(self, chains: set[str]) -> None:
        self.chains.put_nowait(chains)

    def shut(self) -> None:
        """Nothing is sent."""

    remind = close = shut


def test_a_worker_joins_its_group_and_hears_who_is_there(secured: SecuredBroker) -> None:
    config, given = secured.config_of(WORKERS, PREFIX), Given()

    async def join() -> set[str]:
        app = LedgerApp(config, given)
        await app.start()
        try:
            return await asyncio.wait_for(given.chains.get(), SOON)
        finally:
            await app.stop()

    assert "seed" in asyncio.run(join())
    roster = KafkaRoster(secured.operators(PREFIX))
    roster.announce(Standing("w1"))
    heard = KafkaRoster(config)
    deadline = time.monotonic() + SOON
    while not heard.standings():
        assert time.monotonic() < deadline
        heard.wait(1.0)
    for each in (roster, heard):
        each.close()


def test_a_worker_without_a_right_on_its_group_ends_and_says_why(secured: SecuredBroker) -> None:
    async def join() -> None:
        await work(LedgerApp(secured.config_of(API, PREFIX), given := Given()), given, asyncio.Event())

    with pytest.raises(WorkerEndedError, match="GroupAuthorizationFailedError"):
        asyncio.run(join())


REFUSED: dict[str, tuple[str, Callable[[KafkaEngine], object]]] = {
    "the API takes no writer's role": (API, lambda engine: engine.open_epoch()),
    "the API publishes no checkpoint": (API, lambda engine: engine.publish_checkpoint("acme", b"forged")),
    "the API keeps no snapshot": (API, lambda engine: engine.save_snapshot(Snapshot("acme", 1, bytes(32), b""))),
    "the signer takes no writer's role": (SIGNER, lambda engine: engine.open_epoch()),
    "a reader submits nothing": (READER, lambda engine: engine.submit([b"no"])),
    "a reader publishes no checkpoint": (READER, lambda engine: engine.publish_checkpoint("acme", b"forged")),
    "a sequencer submits nothing": (SEQUENCER, lambda engine: engine.submit([b"no"])),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_role_cannot_do_what_is_not_its_own(as_: Callable[[str], KafkaEngine], case: str) -> None:
    role, act = REFUSED[case]
    with pytest.raises(DeniedError) as denied:
        act(as_(role))
    assert "docs/kafka.md" in denied.value.next_step


def test_only_a_sequencer_writes_the_ledger_and_what_stands_beside_it(secured: SecuredBroker) -> None:
    known = Topics(secured.operators(PREFIX))
    guarded = [known.ledger("seed"), known.replies, known.writers, known.snapshots]
    for role in granted().keys() - {SEQUENCER}:
        refused: list[str] = []
        config = secured.config_of(role, PREFIX)
        producer = Producer({"bootstrap.servers": config.servers, **config.options})
        for topic in guarded:
            producer.produce(
                topic, b"forged", b"7", on_delivery=lambda error, _, into=refused: into.append(error.name())
            )
        producer.flush(SOON)
        assert refused == [KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED).name()] * len(guarded), role


def test_who_gives_the_wrong_password_is_told_so(secured: SecuredBroker) -> None:
    with pytest.raises(DeniedError, match="TG_KAFKA_SASL_"):
        KafkaEngine(secured.config_of(API, PREFIX, sasl_password="guessed"))


def test_a_broker_with_a_strangers_certificate_is_not_spoken_to(
    secured: SecuredBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "_CONNECT_SECONDS", 1.0)
    stranger = str(Authority(tmp_path).path)
    with pytest.raises(BrokerError):
        KafkaEngine(secured.config_of(API, PREFIX, ssl_ca_location=stranger))


def test_a_client_in_plain_text_is_not_let_in(secured: SecuredBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_CONNECT_SECONDS", 1.0)
    with pytest.raises(EngineError):
        KafkaEngine(replace(secured.config(PREFIX), options={}))
