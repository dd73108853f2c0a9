"""What a worker does with the chains that it is given, whoever gives them: here the test does, on a real ledger."""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

import pytest

from processors.runners import chains
from processors.runners.crew import Crew, Kind
from producers.deciders.registry import stream_of
from producers.identities import Producer, make_envelope
from producers.positions import readers
from schemas import commands as c
from schemas.events import ModelRegistered, PackageFailed
from tests.runners.processors import Failing, Makes, Noting, Slow, eventually, name_of
from tests.support.ledgers import Ledger
from tests.support.packages import ADAMW, LORA, MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.base import Command


DEVICE = Producer("device", bytes(32))


class Desk:
    """A ledger of which everything is decided at once, and crews on it."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(folder)
        self.crews: list[Crew] = []
        self._stop = threading.Event()
        self._sequencer = threading.Thread(target=self._decide)
        self._sequencer.start()
        self.open("acme")

    def _decide(self) -> None:
        while not self._stop.wait(0.01):
            self.ledger.submitter._decide_inline()

    def crew(self, *makes: Makes) -> Crew:
        kinds = [Kind(each.kind.name, each.kind.role, each) for each in makes]
        crew = Crew(self.ledger.installation, self.ledger.engine, kinds)
        self.crews.append(crew)
        return crew

    def open(self, chain: str) -> None:
        """Have a chain with a run and a device."""
        self.ledger.submitter.ensure_chain(chain)
        self.ask(c.EnrolProducer(DEVICE.key_id, DEVICE.public_key, "device", "device", bytes(1216)), chain, "authority")
        self.ask(c.CreateRun("run", "m", bytes(32), bytes(32), LORA, ADAMW, 1, 1, None, 0, None), chain)

    def ask(self, command: Command, chain: str, role: str = "gateway") -> None:
        """Have a command accepted."""
        stream, name = stream_of(command), secrets.token_bytes(16)
        envelope = make_envelope(command, chain=chain, stream=stream, command_id=name, now=self.ledger.clock())
        producer = self.ledger.installation.producer(role)
        self.ledger.submitter.submit_and_wait(producer, envelope).raise_for_outcome()

    def order(self, text: str, chain: str = "acme") -> bytes:
        """Ask for a package; its id."""
        name = name_of(text)
        self.ask(c.RequestPackage(name, "run", name, bytes(32), (DEVICE.key_id,), 0, None), chain)
        return name

    def failed(self, chain: str = "acme") -> list[bytes]:
        """The packages that were answered, in order."""
        return [each.event.package_id for each in self.ledger.events(chain) if isinstance(each.event, PackageFailed)]

    def close(self) -> None:
        for crew in self.crews:
            crew.close()
        self._stop.set()
        self._sequencer.join()
        self.ledger.verify()
        self.ledger.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


def test_an_assigned_chain_is_folded_from_its_first_record_and_acted_on_once_all_is_known(desk: Desk) -> None:
    makes, names = Makes(), [desk.order("one"), desk.order("two")]
    crew = desk.crew(makes)
    crew.assign({"acme"})
    eventually(lambda: desk.failed() == names)
    told = [seq for chain, seq in makes.now("acme").told if chain == "acme"]
    heeded = [each.seq for each in desk.ledger.events("acme") if type(each.event) in Noting.events]
    assert told == heeded[: len(told)]
    assert makes.now("acme").settled <= 2


def test_what_was_known_a_while_ago_is_not_acted_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stood still has missed what others did: it reads first, however little it has to read."""
    monkeypatch.setattr(chains, "FRESH_SECONDS", 0.0)
    crew, name = desk.crew(makes := Makes()), desk.order("one")
    crew.assign({"acme"})
    eventually(lambda: name in makes.now("acme").orders)
    crew.remind()
    assert (makes.now("acme").settled, desk.failed()) == (0, [])
    monkeypatch.undo()
    crew.remind()
    eventually(lambda: desk.failed() == [name])


def test_what_is_recorded_later_is_taken_when_the_chain_is_woken(desk: Desk) -> None:
    crew = desk.crew(makes := Makes())
    crew.assign({"acme"})
    eventually(lambda: makes.now("acme").settled > 0)
    name = desk.order("late")
    crew.wake("acme")
    eventually(lambda: desk.failed() == [name])


def test_a_wake_that_was_missed_is_made_up_for_by_a_reminder(desk: Desk) -> None:
    crew = desk.crew(makes := Makes())
    crew.assign({"acme"})
    eventually(lambda: makes.now("acme").settled > 0)
    name = desk.order("missed")
    crew.remind()
    eventually(lambda: desk.failed() == [name])


def test_nothing_is_sent_between_a_revocation_and_the_next_assignment_and_nothing_is_lost(desk: Desk) -> None:
    crew = desk.crew(makes := Makes())
    crew.assign({"acme"})
    eventually(lambda: makes.now("acme").settled > 0)
    crew.shut()
    name = desk.order("meanwhile")
    crew.wake("acme")
    crew.remind()
    eventually(lambda: bool(makes.now("acme").orders))
    assert desk.failed() == []
    crew.assign({"acme"})
    eventually(lambda: desk.failed() == [name])
    assert len(makes.made["acme"]) == 1  # what was known of it stayed


def test_a_chain_that_goes_to_another_worker_is_dropped_and_comes_back_from_its_first_record(desk: Desk) -> None:
    crew = desk.crew(makes := Makes())
    crew.assign({"acme", "platform"})
    eventually(lambda: makes.now("acme").settled > 0)
    crew.shut()
    crew.assign({"platform"})
    name = desk.order("others")
    crew.wake("acme")
    crew.remind()
    crew.assign({"acme", "platform"})
    eventually(lambda: desk.failed() == [name])
    assert [len(makes.made[chain]) for chain in ("acme", "platform")] == [2, 1]
    assert makes.made["acme"][0].orders == {}


def test_what_was_under_way_when_a_chain_was_lost_is_done_by_the_next_worker_and_told_once(desk: Desk) -> None:
    Slow.started, Slow.go_on = threading.Event(), threading.Event()
    loses, gets = desk.crew(slow := Makes(Slow)), desk.crew(Makes())
    name = desk.order("long")
    loses.assign({"acme"})
    assert Slow.started.wait(60)
    loses.shut()
    loses.assign(())
    gets.assign({"acme"})
    eventually(lambda: desk.failed() == [name])
    Slow.go_on.set()
    eventually(lambda: slow.now("acme").settled > 0)
    assert desk.failed() == [name]


def test_long_work_for_one_chain_holds_up_no_other_processor_and_no_other_chain(desk: Desk) -> None:
    Slow.started, Slow.go_on = threading.Event(), threading.Event()
    desk.open("globex")
    crew = desk.crew(Makes(Slow), quick := Makes())
    names = {chain: desk.order(chain, chain) for chain in ("acme", "globex")}
    crew.assign({"acme", "globex"})
    assert Slow.started.wait(60)
    eventually(lambda: all(desk.failed(chain) == [name] for chain, name in names.items()))
    later = desk.order("later")
    crew.wake("acme")
    eventually(lambda: desk.failed() == [names["acme"], later])
    assert quick.now("acme").settled > 0
    Slow.go_on.set()


def test_a_processor_that_fails_stops_no_other(desk: Desk) -> None:
    crew = desk.crew(Makes(Failing), Makes())
    name = desk.order("one")
    crew.assign({"acme"})
    eventually(lambda: desk.failed() == [name])


def test_models_on_the_platforms_chain_are_told_to_every_chain_before_it_is_acted_on(desk: Desk) -> None:
    desk.ask(MODEL, "platform", "authority")
    crew = desk.crew(makes := Makes())
    crew.assign({"acme"})
    eventually(lambda: makes.now("acme").settled > 0)
    (model,) = (each.seq for each in desk.ledger.events("platform") if isinstance(each.event, ModelRegistered))
    assert [seq for chain, seq in makes.now("acme").told if chain == "platform"] == [model]


def test_a_worker_says_how_far_each_processor_is_in_its_own_chains(desk: Desk) -> None:
    crew = desk.crew(makes := Makes())
    crew.assign({"acme"})
    eventually(lambda: makes.now("acme").settled > 0)
    size = desk.ledger.engine.size("acme")

    def noted() -> bool:
        crew.remind()
        return [(each.positions, each.partial) for each in readers(desk.ledger.folder)] == [({"acme": size}, True)]

    eventually(noted)
    crew.close()
    assert readers(desk.ledger.folder) == []


def test_a_worker_that_has_left_takes_no_chain_any_more(desk: Desk) -> None:
    crew = desk.crew(makes := Makes())
    crew.close()
    crew.assign({"acme"})
    assert makes.made == {}
