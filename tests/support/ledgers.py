"""A real installation on a temporary data dir, and the check of its whole ledger after a scenario."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tensorguard.ledger.export import ExportWriter
from tensorguard.ledger.verify import Options, verify_export

from producers.clock import system_clock
from producers.decisions import replay
from producers.feed import Feed, Recorded
from producers.identities import Producer, make_envelope
from producers.installation import Installation
from producers.sequencer import Limits, Sequencer
from producers.signer import Signer, SignerHome
from producers.submitter import Submitter
from schemas.commands import IssueApiKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorguard.ledger.envelope import Envelope
    from tensorguard.ledger.report import Report

    from producers.engines.port import LogEngine
    from producers.engines.sqlite import SqliteEngine

ROOT = Path(__file__).parents[2]
_PAGE = 512


@cache
def _template() -> Path:
    """One installation with its chains opened; copies of it spare every test the start of a signer process."""
    folder = Path(tempfile.mkdtemp(prefix="tg-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    installation = Installation.open(folder)
    submitter = Submitter(installation, installation.engine())
    submitter.ensure_chain("platform")
    submitter.ensure_chain("acme")
    submitter.close()
    installation.close()
    return folder


def installed(folder: Path) -> Path:
    """A folder with an installation in it, unless it has one, whose chains ``platform`` and ``acme`` are open."""
    if not folder.exists():
        shutil.copytree(_template(), folder, ignore=shutil.ignore_patterns("bells"))
    return folder


class Ledger:
    """An installation with its chains ``platform`` and ``acme``, and what a scenario does with it."""

    def __init__(self, folder: Path, clock: Callable[[], int] = system_clock) -> None:
        self.folder = folder
        self.clock = clock
        self.installation = Installation.open(installed(folder))
        self.installation.clock = clock
        self.engine: LogEngine = self.installation.engine()
        self.authority: Producer = self.installation.producer("authority")
        self.submitter = Submitter(self.installation, self.engine)

    def sequencer(self, limits: Limits | None = None) -> Sequencer:
        """A writer that the scenario drives itself."""
        return Sequencer.of(self.installation, self.engine, limits)

    def issue(self, name: str | None = None, *, chain: str = "acme", **changes: object) -> Envelope:
        """An accepted command, unless it is changed: an API key of that name is issued."""
        key_id = sha256((name or uuid.uuid4().hex).encode()).hexdigest()[:16]
        given = {"stream": f"api-key/{key_id}", "command_id": uuid.uuid4().bytes, "now": self.clock(), **changes}
        return make_envelope(IssueApiKey(key_id, b"\x07" * 32, ("train",)), chain=chain, **given)  # type: ignore[arg-type]

    def submit(self, *envelopes: Envelope) -> list[bytes]:
        """Put commands of the authority into the intake."""
        return self.submitter.submit(self.authority, envelopes)

    def events(self, chain: str) -> list[Recorded]:
        """All that is recorded on a chain."""
        return read_all(self.engine, chain)

    def names(self, chain: str) -> list[str]:
        """The events' names on a chain."""
        return [type(recorded.event).__name__ for recorded in self.events(chain)]

    def sign(self) -> Signer:
        """What the signer's process does in one round."""
        home = SignerHome(self.folder)
        try:
            signer = Signer(self.engine, home.store, self.installation.origin, self.clock)
            signer.advance()
            return signer
        finally:
            home.close()

    def verify(self) -> Report:
        """Sign and export the whole ledger and let the auditor's verifier find nothing, decisions included."""
        self.sign()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "export"
            export(self.installation, self.engine, out)
            report = verify_export(out, Options(require_signed=True, replay=replay))
        assert report.verified, report.all_findings
        return report

    def close(self) -> None:
        self.submitter.close()
        self.installation.close()

    def reopen(self) -> Ledger:
        """The same data dir in the hands of another process."""
        self.close()
        return Ledger(self.folder, self.clock)


def read_all(engine: LogEngine, chain: str) -> list[Recorded]:
    """Every record of a chain."""
    feed, found = Feed(engine, chains=lambda name: name == chain), []
    while page := feed.poll(_PAGE):
        found += page
    return found


def export(installation: Installation, engine: LogEngine, out: Path) -> None:
    """Export all chains as the command line does."""
    writer = ExportWriter(out)
    writer.write_trust_root(installation.trust_root_path.read_bytes())
    for chain in engine.chains():
        checkpoint = engine.checkpoint(chain)
        writer.write_chain(chain, engine.read(chain, 0, engine.size(chain)), checkpoint)


def limit_storage(engine: SqliteEngine, *, pages: int | None) -> None:
    """Let the ledger use so many pages more than it does, or again without bounds."""
    durable = engine._store._durable
    durable.execute("CREATE TABLE IF NOT EXISTS ballast (data BLOB)")
    while durable.execute("PRAGMA freelist_count").fetchone()[0]:
        durable.execute("INSERT INTO ballast VALUES (zeroblob(4000))")
    for connection in (engine._store._durable, engine._store._relaxed):
        used = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={used + pages if pages is not None else 1 << 30}")


def python(script: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Another process of ours; its standard output is a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "sdk")))},
        stdout=subprocess.PIPE,
        text=True,
    )
