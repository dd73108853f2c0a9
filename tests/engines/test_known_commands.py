"""A command is decided once, on every engine and at every age, and whoever asks again is told the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from producers.deciders.registry import stream_of
from producers.engines.port import ACCEPTED, REJECTED, LogEngine, Reply
from producers.identities import make_envelope
from producers.sequencer import Limits, Sequencer
from schemas.commands import EnrolProducer
from tests.engines.kits import EngineKit
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tensorguard.ledger.envelope import Envelope

SOON = 20.0


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


class Forgetful:
    """A handle that has no reply when it is asked, as if all of them were old."""

    def __init__(self, engine: LogEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def reply(self, _: bytes, __: str | None = None) -> None:
        return None


def chain_of(engine: LogEngine) -> str:
    """A chain that the first partition of the intake gets."""
    return next(name for name in map("t{}".format, range(99)) if engine.partition_of(name) == 0)


def some_commands(ledger: Ledger, chain: str) -> list[Envelope]:
    """One that opens the chain, some that are accepted, and one that is rejected."""
    key = ledger.installation.producer("gateway")
    enrol = EnrolProducer(key.key_id, key.public_key, "gateway", "gateway", None)
    opening = make_envelope(enrol, chain=chain, stream=stream_of(enrol), command_id=b"o" * 16, now=ledger.clock())
    accepted = [ledger.issue(f"key-{number}", chain=chain) for number in range(40)]
    return [opening, *accepted, ledger.issue("key-0", chain=chain)]


def decide(ledger: Ledger, engine: LogEngine, *envelopes: Envelope) -> Sequencer:
    """Decide commands as a sequencer does that has just started."""
    submit(ledger, engine, *envelopes)
    sequencer = Sequencer.of(ledger.installation, engine, Limits(batch=16))
    drain(sequencer)
    return sequencer


def submit(ledger: Ledger, engine: LogEngine, *envelopes: Envelope) -> None:
    """Put commands of the authority, signed now, into an intake."""
    signed = ledger.authority.sign([envelope.to_bytes() for envelope in envelopes])
    engine.submit([command.to_bytes() for command in signed])


def drain(sequencer: Sequencer) -> None:
    """Decide all that waits."""
    while sequencer.step():
        pass


def replies(engine: LogEngine, envelopes: list[Envelope]) -> list[Reply | None]:
    return [engine.wait_reply(each.command_id, SOON, each.chain) for each in envelopes]


@pytest.mark.parametrize("snapshot", [False, True], ids=["folded", "from a snapshot"])
def test_a_command_is_known_however_old(kit: EngineKit, ledger: Ledger, *, snapshot: bool) -> None:
    first = kit.open()
    chain = chain_of(first)
    asked = some_commands(ledger, chain)
    sequencer = decide(ledger, first, *asked)
    told = replies(first, asked)
    outcomes = [reply.outcome for reply in told if reply is not None]
    assert outcomes == [ACCEPTED] * (len(asked) - 1) + [REJECTED]
    if snapshot:
        sequencer.close()
    size = first.size(chain)
    kit.age()
    waiting, writing = kit.open(), kit.open()
    decide(ledger, writing, *asked)
    assert replies(waiting, asked) == told
    assert replies(writing, asked) == told
    assert waiting.size(chain) == size
    assert list(waiting.quarantined()) == []


def test_a_sequencer_knows_what_it_decided_when_its_engine_has_forgotten(kit: EngineKit, ledger: Ledger) -> None:
    engine: Any = Forgetful(kit.open())
    asked = some_commands(ledger, chain_of(engine))
    sequencer = Sequencer.of(ledger.installation, engine, Limits(batch=16))
    submit(ledger, engine, *asked)
    drain(sequencer)
    told, size = replies(engine, asked), engine.size(asked[0].chain)
    other = ledger.issue(chain=asked[0].chain)
    submit(ledger, engine, *asked, other)
    drain(sequencer)
    assert replies(engine, asked) == told
    assert engine.size(asked[0].chain) == size + 1


def test_an_epoch_is_no_smaller_than_asked_for(kit: EngineKit) -> None:
    engine = kit.open()
    first = engine.open_epoch()
    assert engine.open_epoch(first + 1000) == first + 1000
    assert engine.open_epoch(first + 7) == first + 1001
    assert kit.open().epoch() == first + 1001
