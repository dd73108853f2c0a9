"""Submitting: with a server, without one, and while one dies."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from tensorguard.errors import UsageError
from tensorguard.ledger import trust

from producers.engines.port import ACCEPTED
from producers.errors import NoDecisionError, RefusedError, RejectedError, WriterActiveError
from producers.identities import Producer
from producers.sequencer import SequencerLock
from producers.signer import SignerHome
from tests.support.ledgers import Ledger, python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 20.0

SUBMIT_SOME = """
import sys
from pathlib import Path
from tests.support.ledgers import Ledger
ledger = Ledger(Path(sys.argv[1]))
for _ in range(20):
    ledger.submitter.submit_and_wait(ledger.authority, ledger.issue()).raise_for_outcome()
"""
HOLD_THE_LOCK = """
import sys, threading
from pathlib import Path
from producers.sequencer import SequencerLock
lock = SequencerLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


@contextmanager
def server(ledger: Ledger) -> Iterator[None]:
    """The writer of a server, in a thread of its own."""
    lock, stop = SequencerLock(ledger.folder), threading.Event()
    lock.acquire()
    thread = threading.Thread(target=ledger.sequencer().run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        lock.close()


def test_without_a_server_the_submitter_decides_itself(ledger: Ledger) -> None:
    reply = ledger.submitter.submit_and_wait(ledger.authority, ledger.issue())
    assert reply.outcome == ACCEPTED
    ledger.verify()


def test_with_a_server_it_waits_for_the_servers_decision(ledger: Ledger) -> None:
    with server(ledger):
        epoch_after_start = ledger.submitter.submit_and_wait(ledger.authority, ledger.issue()) and ledger.engine.epoch()
        assert ledger.submitter.submit_and_wait(ledger.authority, ledger.issue()).outcome == ACCEPTED
        assert ledger.engine.epoch() == epoch_after_start  # Nobody wrote beside the server.
    ledger.verify()


def test_one_submitter_opens_one_epoch_however_often_it_decides(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.submitter.submit_and_wait(ledger.authority, ledger.issue())
    assert ledger.names("acme").count("EpochOpened") == 2  # That of the template's writer, and its own.


def test_a_rejection_and_a_refusal_are_raised_only_when_asked_for(ledger: Ledger) -> None:
    rejected = ledger.submitter.submit_and_wait(ledger.authority, ledger.issue(expected_version=7))
    with pytest.raises(RejectedError) as info:
        rejected.raise_for_outcome()
    assert info.value.code == "version_conflict"
    refused = ledger.submitter.submit_and_wait(Producer("gateway", bytes(32)), ledger.issue())
    with pytest.raises(RefusedError) as info_refused:
        refused.raise_for_outcome()
    assert info_refused.value.code == "unauthenticated"
    ledger.verify()


def test_a_command_that_nobody_decides_in_time_is_kept_and_decided_later(ledger: Ledger) -> None:
    asked = ledger.issue()
    lock = SequencerLock(ledger.folder)
    lock.acquire()
    with pytest.raises(NoDecisionError):
        ledger.submitter.submit_and_wait(ledger.authority, asked, timeout=0.05)
    lock.close()
    assert ledger.submitter.wait(asked.command_id, "acme").outcome == ACCEPTED


def test_two_processes_without_a_server_get_all_their_answers(ledger: Ledger) -> None:
    processes = [python(SUBMIT_SOME, ledger.folder) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert ledger.names("acme").count("ApiKeyIssued") == 40
    ledger.verify()


def test_many_threads_without_a_server_get_all_their_answers(ledger: Ledger) -> None:
    def ask(_: int) -> str:
        return ledger.submitter.submit_and_wait(ledger.authority, ledger.issue()).outcome

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {ACCEPTED}
    ledger.verify()


def test_when_the_writer_is_killed_who_waits_takes_over(ledger: Ledger) -> None:
    holder = python(HOLD_THE_LOCK, ledger.folder)
    assert holder.stdout is not None
    holder.stdout.readline()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.submitter.submit_and_wait, ledger.authority, ledger.issue(), SOON)
        holder.kill()
        holder.wait(10)
        assert waiting.result().outcome == ACCEPTED


def test_a_second_server_on_one_data_dir_is_refused(ledger: Ledger) -> None:
    with server(ledger):
        second = SequencerLock(ledger.folder)
        with pytest.raises(WriterActiveError, match="stop it first"):
            second.acquire(timeout=0.05)
        second.close()


def test_a_starting_server_waits_for_who_decides_for_a_moment(ledger: Ledger) -> None:
    first, second = SequencerLock(ledger.folder), SequencerLock(ledger.folder)
    first.acquire()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(second.acquire, SOON)
        first.release()
        starting.result()
    assert second.held
    first.close()
    second.close()


def test_opening_a_chain_twice_changes_nothing(ledger: Ledger) -> None:
    sizes = [ledger.engine.size(chain) for chain in ("acme", "platform")]
    for chain in ("acme", "platform"):
        ledger.submitter.ensure_chain(chain)
    assert [ledger.engine.size(chain) for chain in ("acme", "platform")] == sizes


def test_opening_a_chain_whose_replies_are_forgotten_changes_nothing(ledger: Ledger) -> None:
    with sqlite3.connect(ledger.folder / "ledger.db") as db:
        db.execute("DELETE FROM replies")
    test_opening_a_chain_twice_changes_nothing(ledger)


def test_this_installations_producers_may_speak_on_a_chain_that_it_opened(ledger: Ledger) -> None:
    ledger.submitter.ensure_chain("beta")
    enrolled = {
        recorded.meta.stream for recorded in ledger.events("beta") if recorded.meta.stream.startswith("producer/")
    }
    roles = ("gateway", "dispatcher", "worker", "packager", "retention")
    ours = {ledger.installation.producer(role).key_id.hex() for role in roles}
    assert enrolled == {f"producer/{key_id}" for key_id in ours}


@pytest.mark.parametrize("name", ["", "Acme", "a/b", "../x", "-a", "a" * 64, "a b", "ä"])
def test_a_name_that_no_chain_may_have_is_a_usage_error(ledger: Ledger, name: str) -> None:
    with pytest.raises(UsageError):
        ledger.submitter.ensure_chain(name)


def test_the_platform_chain_names_the_signers_and_the_artifacts_keys(ledger: Ledger) -> None:
    names = ledger.names("platform")
    assert names.count("SignerKeyPublished") == names.count("ArtifactKeyPublished") == 1


def test_a_rotation_of_the_signers_keys_reaches_the_chain_and_the_trust_root(ledger: Ledger) -> None:
    ledger.sign()
    home = SignerHome(ledger.folder)
    public = home.make_keys(ledger.clock() // 1_000_000)
    home.publish_keys()
    home.close()
    ledger.submitter.ensure_chain("platform")
    ledger.submitter.ensure_chain("platform")
    assert ledger.names("platform").count("SignerKeyRotated") == 1
    root = trust.parse(ledger.installation.trust_root_path.read_bytes())
    assert [key.ed25519 for key in root.signer_keys][1:] == [public.ed25519]
    ledger.verify()
