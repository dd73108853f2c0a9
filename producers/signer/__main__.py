"""The signer's process: ``python -m producers.signer --data-dir DIR [--init | --once | --rotate]``.

Exit codes: 0 done, 1 refused or failed, 2 usage.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import structlog
from tensorguard.errors import TensorGuardError

from producers import logs
from producers.clock import SECOND, system_clock
from producers.engines.opening import open_engine
from producers.installation import read_identity
from producers.settings import read
from producers.signer import Signer, SignerHome

NAP_SECONDS = 0.1
"""Half of the time in which a commit is to be signed: waking for each one would only mean to wait on."""


def main() -> int:
    """Run the signer as the arguments say; the exit code."""
    logs.configure()
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        return _run(arguments)
    except TensorGuardError as error:
        structlog.get_logger("signer").exception("signer_failed", code=error.code, detail=str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 0


def _run(arguments: argparse.Namespace) -> int:
    data_dir: Path = arguments.data_dir
    identity = read_identity(data_dir)
    home = SignerHome(data_dir)
    try:
        if arguments.init or arguments.rotate:
            _prepare_keys(home, rotate=arguments.rotate)
        if arguments.init:
            return 0
        engine = open_engine(read(data_dir).settings, data_dir, NAP_SECONDS)
        signer = Signer(engine, home.store, identity["origin"], system_clock)
        try:
            return _sign(signer, arguments)
        finally:
            engine.close()
    finally:
        home.close()


def _prepare_keys(home: SignerHome, *, rotate: bool) -> None:
    if rotate or home.store.seeds() is None:
        home.make_keys(system_clock() // SECOND)
    home.publish_keys()


def _sign(signer: Signer, arguments: argparse.Namespace) -> int:
    if not (arguments.once or arguments.rotate):
        signer.run()
    signer.promise()
    signer.sign(anew=arguments.rotate)
    signer.publish()
    return 1 if signer.refused else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m producers.signer", description="Sign the ledger's checkpoints.")
    parser.add_argument("--data-dir", type=Path, required=True)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--init", action="store_true", help="make and publish the keys if there are none, then end")
    mode.add_argument("--once", action="store_true", help="sign what is committed now, then end")
    mode.add_argument("--rotate", action="store_true", help="make new keys, sign with them, then end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
