"""Whether the processes that a supervisor of this machine keeps are well: ``python -m api.health --data-dir DIR``.

It is what a container's health check calls, so it loads next to nothing. Whether the whole platform is ready, wherever
its processes run, is for ``/readyz`` to say.

Exit codes: 0 well, 1 not.
"""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

from api.roll import alive, rolls

SECONDS = 4.0


def main() -> int:
    """Look, and say what is wrong; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m api.health", description="Are this server's processes well?")
    parser.add_argument("--data-dir", type=Path, required=True)
    wrong = trouble(parser.parse_args().data_dir)
    if wrong is not None:
        sys.stderr.write(f"{wrong}\n")
    return 0 if wrong is None else 1


def trouble(data_dir: Path) -> str | None:
    """What is wrong with the servers of this machine on a data directory, in a sentence; None if nothing is."""
    found = rolls(data_dir)
    if not found:
        return "No server runs here."
    ended = [name for roll in found for name, pid in roll.running.items() if pid is None or not alive(pid)]
    if ended:
        return f"Not running: {', '.join(sorted(ended))}."
    deaf = [roll.url for roll in found if roll.url is not None and not _answers(roll.url)]
    return f"Nothing answers at {deaf[0]}." if deaf else None


def _answers(url: str) -> bool:
    """Whether the doors are alive. It asks its own machine: whose certificate that is does not matter."""
    where = urlsplit(url)
    asked: http.client.HTTPConnection
    if where.scheme == "https":
        unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        asked = http.client.HTTPSConnection(where.netloc, timeout=SECONDS, context=unchecked)
    else:
        asked = http.client.HTTPConnection(where.netloc, timeout=SECONDS)
    try:
        asked.request("GET", "/healthz")
        return asked.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        asked.close()


if __name__ == "__main__":
    sys.exit(main())
