"""An installation, a second place for its ledger, and a process that may end at each of its writes."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorguard.ledger.verify import Options, verify_export

from producers.decisions import replay
from producers.engines.sqlite import SqliteEngine
from producers.moving import End, Moved, Mover
from producers.sequencer import Sequencer
from producers.signer import Signer, SignerHome
from tests.support.ledgers import Ledger, export, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensorguard.ledger.envelope import Envelope

    from producers.engines.port import LogEngine, Reply
    from producers.moving.survey import Chain

NAME = "there-1"
_WRITES = frozenset({"commit", "submit", "open_epoch", "publish_checkpoint", "save_snapshot"})


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Fuse:
    """Ends the process before or after its n-th write, when told to; ``burnt`` counts half writes."""

    left: float = float("inf")
    burnt: float = 0.0

    def burn(self) -> None:
        self.left -= 0.5
        self.burnt += 0.5
        if self.left < 0:
            raise Crash


class Breaking:
    """A handle on a ledger whose writes burn a fuse."""

    def __init__(self, engine: LogEngine, fuse: Fuse) -> None:
        self._engine = engine
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._burning(found) if name in _WRITES else found

    def _burning(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def burning(*given: Any) -> Any:
            self._fuse.burn()
            done = write(*given)
            self._fuse.burn()
            return done

        return burning


class Desk:
    """The data dir's ledger (``here``), and another place (``there``)."""

    def __init__(self, folder: Path, there: LogEngine | None = None) -> None:
        self.folder = folder
        self.ledger = Ledger(folder / "data")
        self.installation = self.ledger.installation
        self.here: LogEngine = self.ledger.engine
        self.there: LogEngine = there or SqliteEngine(folder / "there" / "ledger.db")
        self.fuse = Fuse()

    def mover(
        self, source: LogEngine | None = None, destination: LogEngine | None = None, *, signs: bool = True
    ) -> Mover:
        ends = [self.end(engine) for engine in (source or self.here, destination or self.there)]
        return Mover(self.installation, ends[0], ends[1], self.sign if signs else lambda _: None)

    def end(self, engine: LogEngine) -> End:
        breaking: Any = Breaking(engine, self.fuse)
        return End(lambda _: breaking)

    def copy(self) -> Sequence[Chain]:
        return self.mover().copy()

    def move(self, name: str = NAME) -> Moved:
        return self.mover().move(name)

    def sequencer(self, engine: LogEngine) -> Sequencer:
        """The writer that a server would start on this engine."""
        return Sequencer.of(self.installation, engine)

    def submit(self, engine: LogEngine, *envelopes: Envelope) -> None:
        signed = self.ledger.authority.sign([envelope.to_bytes() for envelope in envelopes])
        engine.submit([command.to_bytes() for command in signed])

    def decide(self, engine: LogEngine, *envelopes: Envelope) -> None:
        """What a server does with commands."""
        if envelopes:
            self.submit(engine, *envelopes)
        sequencer = self.sequencer(engine)
        while sequencer.step():
            pass

    def work(self, engine: LogEngine, count: int = 3) -> list[Envelope]:
        """Some commands that are accepted and one that is rejected."""
        asked = [self.ledger.issue() for _ in range(count)]
        again = self.ledger.issue("taken"), self.ledger.issue("taken")
        self.decide(engine, *asked, *again)
        return [*asked, *again]

    def sign(self, engine: LogEngine) -> None:
        home = SignerHome(self.ledger.folder)
        try:
            signer = Signer(engine, home.store, self.installation.origin, self.installation.clock)
            signer.advance()
            for refusal in signer.refused.values():
                raise refusal
        finally:
            home.close()

    def verify(self, engine: LogEngine) -> None:
        """Sign and export the whole ledger, and let an auditor look for something, decisions included."""
        self.sign(engine)
        self.audit(engine, require_signed=True)

    def audit(self, engine: LogEngine, *, require_signed: bool = False) -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "export"
            export(self.installation, engine, out)
            report = verify_export(out, Options(require_signed=require_signed, replay=replay))
        assert report.verified, report.all_findings

    def names(self, engine: LogEngine, chain: str = "acme") -> list[str]:
        return [type(recorded.event).__name__ for recorded in read_all(engine, chain)]

    def close(self) -> None:
        self.there.close()
        self.ledger.close()


def records(engine: LogEngine) -> dict[str, list[bytes]]:
    """Every record of every chain."""
    return {chain: list(engine.read(chain, 0, engine.size(chain))) for chain in engine.chains()}


def is_prefix(shorter: LogEngine, longer: LogEngine) -> bool:
    theirs = records(longer)
    return all(theirs.get(chain, [])[: len(ours)] == ours for chain, ours in records(shorter).items())


def decided(engine: LogEngine) -> dict[tuple[str, bytes], Reply | None]:
    """The reply to each command that is on the chains, as this engine knows it."""
    return {
        (chain, recorded.meta.cause): engine.reply(recorded.meta.cause, chain)
        for chain in engine.chains()
        for recorded in read_all(engine, chain)
        if recorded.meta.cause is not None
    }


def fresh_id() -> bytes:
    return uuid.uuid4().bytes
