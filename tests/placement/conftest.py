from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.inline_ledger import inline_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.inline_ledger import InlineLedger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[InlineLedger]:
    with inline_ledger(tmp_path / "data") as ledger:
        yield ledger
