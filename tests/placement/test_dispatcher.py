"""Which leases the dispatcher grants, on a real ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from processors.placement.dispatcher import UNHEARD_SECONDS, Dispatcher
from processors.placement.grants import SHOWN_SECONDS, Grants
from processors.placement.roster import LocalRoster
from processors.placement.standing import Standing, worker_id
from producers.feed import Feed
from producers.identities import HOUR
from schemas import commands as c
from schemas import events as e
from tests.support.inline_ledger import roster_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.base import Intent
    from tests.support.inline_ledger import InlineLedger

OTHER_BASE = b"\1" * 32


def dispatcher_of(*workers: str) -> Dispatcher:
    return Dispatcher(roster_of(*workers))


def folded(ledger: InlineLedger, dispatcher: Dispatcher) -> Dispatcher:
    """A dispatcher that has read all there is, and has not said anything yet."""
    for recorded in Feed(ledger.engine).poll(10_000):
        if type(recorded.event) in dispatcher.events:
            dispatcher.handle(recorded)
    return dispatcher


def workers_of(intents: Sequence[Intent]) -> list[str]:
    return [intent.command.worker for intent in intents if isinstance(intent.command, c.GrantLease)]


def rejections(ledger: InlineLedger) -> list[str]:
    return [r.event.code for r in Feed(ledger.engine).poll(10_000) if isinstance(r.event, e.CommandRejected)]


def test_every_run_gets_a_lease_once(ledger: InlineLedger) -> None:
    runner = ledger.runner(dispatcher_of("w1"))
    ledger.create_run("a")
    ledger.drain(runner)
    ledger.create_run("b")
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1), ("b", "w1", 1)]


def test_a_restart_with_the_same_trainer_grants_nothing_again(ledger: InlineLedger) -> None:
    ledger.create_run("a")
    ledger.drain(ledger.runner(dispatcher_of("w1")))
    ledger.drain(ledger.runner(dispatcher_of("w1")))
    assert ledger.leases() == [("a", "w1", 1)]


def test_a_new_trainer_takes_over_open_runs_and_those_with_work_left(ledger: InlineLedger) -> None:
    for run_id in ("open", "closed", "closing"):
        ledger.create_run(run_id)
    ledger.ask(c.SubmitSample("closing", bytes(32), 1, 1, 0.0, 1.0, None, None), "closing", b"s" * 16)
    for run_id in ("closed", "closing"):
        ledger.ask(c.CloseRun(run_id), run_id, f"close {run_id}".encode().ljust(16, b"\0"))
    ledger.drain(ledger.runner(dispatcher_of("w1")))
    ledger.drain(ledger.runner(dispatcher_of("w2")))
    assert ledger.leases() == [("open", "w1", 1), ("closing", "w1", 1), ("open", "w2", 2), ("closing", "w2", 2)]
    ledger.drain(ledger.runner(dispatcher_of("w3")))
    assert ledger.leases()[4:] == [("open", "w3", 3)]


def test_a_closed_run_whose_state_is_being_computed_again_is_not_left_so(ledger: InlineLedger) -> None:
    ledger.create_run("a", batch_retention="sealed")
    ledger.drain(ledger.runner(dispatcher_of("w1")))
    ledger.ask(c.SubmitForwardBackward("a", bytes(32), 1, 1, None, 0), "a", b"b" * 16)
    ledger.ask(c.CompleteForwardBackward("a", b"b" * 16, 1, 1.0, 1.0, 1), "a", b"c" * 16, "worker")
    ledger.drain(ledger.runner(dispatcher_of("w2")))
    ledger.ask(c.CloseRun("a"), "a", b"close".ljust(16, b"\0"))
    ledger.drain(ledger.runner(dispatcher_of("w3")))
    assert ledger.leases()[2:] == [("a", "w3", 3)]
    ledger.ask(c.RecordReplay("a", 3, 1, 0, bytes(32), True, None, None), "a", b"r" * 16, "worker")
    ledger.drain(ledger.runner(dispatcher_of("w4")))
    assert len(ledger.leases()) == 3


def test_runs_wait_for_a_trainer_and_move_when_theirs_has_left(ledger: InlineLedger) -> None:
    roster = LocalRoster()
    runner = ledger.runner(Dispatcher(roster))
    ledger.create_run("a")
    ledger.drain(runner)
    assert ledger.leases() == []
    roster.announce(Standing("w1"))
    ledger.drain(runner)
    roster.announce(Standing("w2"))
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1)]
    roster.leave("w1")
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1), ("a", "w2", 2)]


def test_a_silent_trainer_keeps_its_runs_until_it_is_lost_and_gets_none_meanwhile(ledger: InlineLedger) -> None:
    seconds = [0.0]
    roster = LocalRoster(10.0, lambda: seconds[0])
    runner = ledger.runner(Dispatcher(roster, seconds=lambda: seconds[0]))
    ledger.create_run("a")
    roster.announce(Standing("w1"))
    ledger.drain(runner)
    for second in (3, 6, 9):
        seconds[0] = second
        roster.announce(Standing("w2"))
        ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1)]
    seconds[0] = 11.0
    roster.announce(Standing("w2"))
    ledger.create_run("b")
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1), ("a", "w2", 2), ("b", "w2", 1)]
    roster.announce(Standing("w1"))
    ledger.create_run("c")
    ledger.drain(runner)
    assert ledger.leases()[3:] == [("c", "w1", 1)]


def test_a_trainer_that_is_leaving_keeps_its_runs_until_it_is_gone_and_gets_none(ledger: InlineLedger) -> None:
    roster = LocalRoster()
    runner = ledger.runner(Dispatcher(roster))
    ledger.create_run("a")
    roster.announce(Standing("w1"))
    ledger.drain(runner)
    roster.announce(Standing("w1", leaving=True))
    ledger.create_run("b")
    ledger.drain(runner)
    roster.announce(Standing("w2", leaving=True))
    roster.leave("w1")
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1)]
    roster.announce(Standing("w3"))
    ledger.drain(runner)
    assert sorted(ledger.leases()) == [("a", "w1", 1), ("a", "w3", 2), ("b", "w3", 1)]


def test_the_first_trainer_that_comes_is_not_given_all_runs(ledger: InlineLedger) -> None:
    seconds, roster = [0.0], LocalRoster(3600.0)
    runner = ledger.runner(Dispatcher(roster, seconds=lambda: seconds[0], gather_seconds=1.0))
    for run_id in ("a", "b"):
        ledger.create_run(run_id)
    for at, worker in ((0.0, "w1"), (0.5, "w2")):
        seconds[0] = at
        roster.announce(Standing(worker))
        ledger.drain(runner)
    assert ledger.leases() == []
    seconds[0] = 1.0
    ledger.drain(runner)
    assert sorted(ledger.leases()) == [("a", "w1", 1), ("b", "w2", 1)]


def test_runs_are_spread_also_before_their_trainers_show_them(ledger: InlineLedger) -> None:
    for number in range(6):
        ledger.create_run(f"r{number}")
    ledger.drain(ledger.runner(dispatcher_of("w1", "w2", "w3")))
    assert sorted(worker for _, worker, _ in ledger.leases()) == ["w1", "w1", "w2", "w2", "w3", "w3"]


def test_what_was_granted_counts_until_it_shows(ledger: InlineLedger) -> None:
    seconds = [0.0]
    dispatcher = Dispatcher(roster_of("w1", "w2"), seconds=lambda: seconds[0])
    runner = ledger.runner(dispatcher)
    for run_id in ("a", "b"):
        ledger.create_run(run_id)
        ledger.drain(runner)
    assert [worker for _, worker, _ in ledger.leases()] == ["w1", "w2"]
    seconds[0] = SHOWN_SECONDS
    ledger.create_run("c")
    ledger.drain(runner)
    assert ledger.leases()[2:] == [("c", "w1", 1)]


def test_dispatchers_of_several_chains_know_what_each_other_granted(ledger: InlineLedger) -> None:
    ledger.create_run("a")
    grants, roster = Grants(), roster_of("w1", "w2")
    one, other = [folded(ledger, Dispatcher(roster, chain="acme", grants=grants)) for _ in range(2)]
    assert [workers_of(dispatcher.caught_up()) for dispatcher in (one, other)] == [["w1"], ["w2"]]


def test_a_run_goes_where_its_base_model_is(ledger: InlineLedger) -> None:
    roster = LocalRoster(3600.0)
    roster.announce(Standing("idle", memory=100))
    roster.announce(Standing("has-it", memory=100, used=50, runs=3, bases={OTHER_BASE.hex(): 40}))
    ledger.create_run("a", OTHER_BASE)
    ledger.drain(ledger.runner(Dispatcher(roster, lambda _: 40)))
    assert ledger.leases() == [("a", "has-it", 1)]


def test_of_two_dispatchers_that_grant_at_once_one_alone_wins(ledger: InlineLedger) -> None:
    ledger.create_run("a")
    one, other = folded(ledger, dispatcher_of("w1")), folded(ledger, dispatcher_of("w2"))
    for dispatcher in (one, other):
        for intent in dispatcher.caught_up():
            ledger.send(intent)
    assert ledger.leases() == [("a", "w1", 1)]
    assert rejections(ledger) == ["stale_lease"]
    together = roster_of("w1", "w2")
    for dispatcher in (Dispatcher(together), Dispatcher(together)):
        assert folded(ledger, dispatcher).caught_up() == []


def test_two_dispatchers_that_choose_alike_grant_once(ledger: InlineLedger) -> None:
    ledger.create_run("a")
    for dispatcher in [folded(ledger, dispatcher_of("w1", "w2")) for _ in range(2)]:
        for intent in dispatcher.caught_up():
            ledger.send(intent)
    assert ledger.leases() == [("a", "w1", 1)]
    assert rejections(ledger) == []


def test_a_dispatcher_of_one_chain_leaves_the_others_alone(ledger: InlineLedger) -> None:
    ledger.create_run("a")
    ledger.submitter.ensure_chain("beta")
    ledger.drain(ledger.runner(Dispatcher(roster_of("w1"), chain="beta")))
    assert ledger.leases() == []
    ledger.drain(ledger.runner(Dispatcher(roster_of("w1"), chain="acme")))
    assert ledger.leases() == [("a", "w1", 1)]


@pytest.fixture
def late(ledger: InlineLedger) -> InlineLedger:
    """A ledger with a run whose grant was asked for too late, and refused."""
    now = ledger.installation.clock
    ledger.create_run("a")
    ledger.installation.clock = lambda: now() - 2 * HOUR
    ledger.drain(ledger.runner(dispatcher_of("w1")))
    ledger.installation.clock = now
    assert (ledger.leases(), rejections(ledger)) == ([], ["expired"])
    return ledger


def test_a_grant_that_was_refused_before_a_restart_is_asked_for_under_another_id(late: InlineLedger) -> None:
    late.drain(late.runner(dispatcher_of("w1")))
    assert late.leases() == [("a", "w1", 1)]


def test_a_grant_that_was_refused_is_asked_for_again_after_a_pause(ledger: InlineLedger) -> None:
    seconds = [0.0]
    runner = ledger.runner(Dispatcher(roster_of("w1"), seconds=lambda: seconds[0]))
    ledger.create_run("a")
    now = ledger.installation.clock
    ledger.installation.clock = lambda: now() - 2 * HOUR
    ledger.drain(runner)
    ledger.installation.clock = now
    ledger.drain(runner)
    assert ledger.leases() == []
    seconds[0] = 1.0
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1)]


def test_a_grant_of_which_nothing_is_heard_is_asked_for_again(ledger: InlineLedger) -> None:
    seconds = [0.0]
    ledger.create_run("a")
    dispatcher = folded(ledger, Dispatcher(roster_of("w1"), seconds=lambda: seconds[0]))
    assert workers_of(lost := dispatcher.caught_up()) == ["w1"]
    assert dispatcher.caught_up() == []
    seconds[0] = UNHEARD_SECONDS
    again = dispatcher.caught_up()
    assert workers_of(again) == ["w1"]
    assert again[0].trigger != lost[0].trigger


def test_a_grant_under_way_to_a_trainer_that_is_gone_is_not_waited_for(ledger: InlineLedger) -> None:
    roster = roster_of("w1")
    ledger.create_run("a")
    dispatcher = folded(ledger, Dispatcher(roster))
    assert workers_of(dispatcher.caught_up()) == ["w1"]
    roster.leave("w1")
    roster.announce(Standing("w2"))
    assert workers_of(dispatcher.caught_up()) == ["w2"]


def test_a_worker_id_is_bound_to_the_workers_key(ledger: InlineLedger) -> None:
    worker = ledger.installation.producer("worker")
    assert worker_id(worker).startswith(worker.key_id.hex())
    assert worker_id(worker) != worker_id(worker)
