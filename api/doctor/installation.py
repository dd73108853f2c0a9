"""The data directory: keys, ledger, signer, clock, model files. Nothing in it is changed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tensorguard.crypto.composite import PRIVATE_BYTES
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.record import decode_meta

from api.doctor import fleet, kafka
from api.doctor.findings import OK, Finding, failed, looked_at, ok, warning
from api.gates import PRODUCTION, open_key_files, unmet
from api.receipts import size_of
from processors.catalogue import model_dir, registered_models, verify_model
from processors.errors import ModelError
from processors.keys.file import FileKeyProvider
from producers.deciders.registry import PLATFORM
from producers.engines.opening import kafka_config, open_engine
from producers.home import read_home
from producers.identities import ROLES, SEED_BYTES
from producers.installation import Installation, read_identity
from producers.secretfiles import read_secret
from producers.sequencer.place import Place
from producers.sequencer.recover import recover
from producers.sequencer.timekeeper import MAX_IDLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.clock import Clock
    from producers.engines.port import LogEngine
    from producers.settings import Settings

BEHIND = 1024
"""Records that may wait for the signer of a running server before that is worth a word: it signs each 128."""
_DAY = 86_400 * 1_000_000


def look(data_dir: Path, settings: Settings, clock: Clock, *, server_runs: bool) -> Iterator[Finding]:
    """Everything about a data directory; one that is not there yet is made at a server's first start."""
    yield from production(settings, data_dir)
    if not (data_dir / "installation.json").exists():
        yield ok("installation", f"{data_dir} is no installation yet: a server makes it at its first start.")
        return
    identity = read_identity(data_dir)
    yield ok("installation", f"{identity['installation_id']} in {data_dir}.")
    installation = Installation(data_dir, identity["installation_id"], identity["origin"], settings, clock)
    yield from looked_at("keys", lambda: keys(installation))
    yield from looked_at("ledger", lambda: ledger(installation, server_runs=server_runs))


def production(settings: Settings, data_dir: Path) -> Iterator[Finding]:
    """The gates, where they are on."""
    if settings.environment != PRODUCTION:
        return
    found = [
        failed("production", sentence, "Without it no server starts in production.")
        for sentence in unmet(settings, data_dir)
    ]
    yield from found or [ok("production", "Every gate is met.")]


def keys(installation: Installation) -> Iterator[Finding]:
    """Each key is there, private, and opens."""
    for role in ROLES:
        installation.producer(role)
    read_secret(installation.artifact_signing_key, PRIVATE_BYTES)
    read_secret(installation.keys_dir / "api-key-pepper", SEED_BYTES)
    provider = FileKeyProvider.of(installation)
    tenants = provider.check()
    yield ok("keys", f"All are there and open, those of {tenants} tenants too.")
    for path in open_key_files(installation.settings, installation.data_dir):
        yield warning("keys", f"{path} is open to other users.", f"Run `chmod go-rwx {path}`.")
    if installation.settings.environment == PRODUCTION and not provider.wrapped:
        step = "Set TG_KEY_MASTER: the next start wraps it."
        yield warning("keys", "The key-encryption key lies bare in keys/kek.", step)


def ledger(installation: Installation, *, server_runs: bool) -> Iterator[Finding]:
    """It opens, its last records link up, the signer keeps up, and the clock and the models fit what it says."""
    path = installation.settings.ledger_path(installation.data_dir)
    if path is not None and not path.is_file():
        step = "Restore it from a backup, or look where TG_LOG_URL leads."
        yield failed("ledger", f"{path} is not there, though the installation is.", step)
        return
    if path is None:
        findings = list(kafka.look(kafka_config(installation.settings)))
        yield from findings
        if any(each.check == "kafka" and each.state != OK for each in findings):
            return
        yield from fleet.look(installation.data_dir, installation.settings)
    with contextlib.closing(open_engine(installation.settings, installation.data_dir)) as engine:
        sizes = {chain: engine.size(chain) for chain in engine.chains()}
        yield from looked_at("place", lambda: place(installation, engine))
        yield from heads(engine, sizes)
        yield signer(engine, sizes, server_runs=server_runs)
        yield clock(newest(engine, sizes), installation.clock())
        yield from looked_at("models", lambda: models(installation, engine))


def place(installation: Installation, engine: LogEngine) -> Iterator[Finding]:
    """The ledger is where the installation's is, and goes on there.

    Raises:
        LedgerMovedError: it was moved away, or is a copy from before.
    """
    home = read_home(installation.data_dir)
    Place(home).check({PLATFORM: recover(engine, PLATFORM)[0]})
    if home is not None:
        yield ok("place", f"It is {home!r}, where the installation moved to.")


def heads(engine: LogEngine, sizes: dict[str, int]) -> Iterator[Finding]:
    """The last two records of each chain link up; the whole is what `tensorguard audit verify` checks."""
    broken = [chain for chain, size in sizes.items() if not _links(engine, chain, size)]
    if broken:
        step = "Keep the directory as evidence, and run `tensorguard ledger export` and `tensorguard audit verify`."
        yield failed("ledger", f"The last records of {', '.join(broken)} do not link up.", step)
    else:
        yield ok("ledger", f"{sum(sizes.values())} records on {len(sizes)} chains, epoch {engine.epoch()}.")
    if parked := len(engine.quarantined()):
        step = "See `tensorguard ledger dead-letters list`, and report the type of error that the server's log names."
        yield warning("ledger", f"{parked} commands could not be decided and were set aside.", step)


def _links(engine: LogEngine, chain: str, size: int) -> bool:
    start = max(0, size - 2)
    records = engine.read(chain, start, 2)
    metas = [decode_meta(record) for record in records]
    linked = len(records) < 2 or metas[1].prev_hash == leaf_hash(records[0])  # noqa: PLR2004 -- a pair
    return linked and [meta.seq for meta in metas] == list(range(start, size))


def signer(engine: LogEngine, sizes: dict[str, int], *, server_runs: bool) -> Finding:
    """How far the published checkpoints are behind the chains."""
    behind = [size - size_of(engine.checkpoint(chain)) for chain, size in sizes.items()]
    lag = sum(behind)
    if min(behind, default=0) < 0:
        step = "Never sign over it: restore the newest backup of the ledger."
        return failed("signer", "A checkpoint covers more than the ledger holds: the ledger was rolled back.", step)
    if lag > BEHIND and server_runs:
        return warning(
            "signer", f"{lag} records wait for a signature.", "Look for `signing_refused` in the server's log."
        )
    if lag and not server_runs:
        return ok("signer", f"{lag} records wait for a signature: the next start signs them.")
    return ok("signer", f"{lag} records wait for a signature.")


def newest(engine: LogEngine, sizes: dict[str, int]) -> int:
    """The time of the newest record, in microseconds; 0 without one."""
    last = (engine.read(chain, size - 1, 1) for chain, size in sizes.items() if size)
    return max((decode_meta(records[0]).recorded_at for records in last), default=0)


def clock(recorded: int, now: int) -> Finding:
    """The machine's clock beside the newest record."""
    if recorded and now > recorded + MAX_IDLE:
        step = "Set the clock right; if it is right, start once with TG_ACCEPT_CLOCK=1."
        return failed("clock", f"The clock is {(now - recorded) // _DAY} days ahead of the newest record.", step)
    if now < recorded:
        detail = f"The clock is {(recorded - now) / 1e6:.0f} s behind the newest record."
        return warning("clock", detail, "Set it right: until it has caught up, records repeat the newest time.")
    return ok("clock", "The clock is not behind the newest record.")


def models(installation: Installation, engine: LogEngine) -> Iterator[Finding]:
    """Every file of the catalogue is the one that was registered."""
    registered = registered_models(engine)
    wrong = []
    for name, model in registered.items():
        try:
            verify_model(model_dir(installation, model.manifest_digest), model.manifest_digest)
        except ModelError as error:
            wrong.append(failed("models", f"{name}: {error.detail}", error.next_step))
    yield from wrong or [ok("models", f"The files of {len(registered)} models are those that were registered.")]
