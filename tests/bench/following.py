"""``python -m tests.bench.following DATA_DIR``: read a whole ledger once, and say what that took."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from producers.feed import Feed
from producers.installation import Installation
from tests.bench.harness import seconds
from tests.bench.kafka import memory_of


def main(data_dir: Path) -> None:
    """Seconds from opening the ledger to its last record, and resident bytes."""
    installation = Installation.open(data_dir)

    def read() -> None:
        feed = Feed(installation.engine())
        while feed.poll():
            pass

    took = seconds(read)
    sys.stdout.write(json.dumps({"seconds": took, "memory": memory_of(os.getpid())}))
    installation.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
