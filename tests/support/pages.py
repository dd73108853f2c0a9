"""The fenced blocks of a page of documentation, for tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: ``info`` says how it is run."""

    info: str
    code: str


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    return [Block(match["info"], match["code"]) for match in _BLOCK.finditer(page.read_text())]
