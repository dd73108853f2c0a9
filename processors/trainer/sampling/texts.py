"""Text from tokens as they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"
"""What a tokenizer shows of a character whose bytes have not all come."""


class GrowingText:
    """The text of a completion that is still being generated.

    Tokens are decoded a few at a time: those since the last character boundary, together with the few before it that a
    tokenizer may need to see. ``text`` is all that is certain; what may yet become a stop string is held back.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str] = ()) -> None:
        self._decode = decode
        self._stop = tuple(stop)
        self._longest = max(map(len, self._stop), default=0)
        self._tokens: list[int] = []
        self._before = self._upto = 0
        self._text = ""
        self._told = 0
        self.stopped = False

    @property
    def text(self) -> str:
        """What there is so far."""
        return self._text

    def add(self, token: int) -> None:
        """Take one more token; :attr:`stopped` then says whether a stop string has come."""
        self._tokens.append(token)
        known = self._decode(self._tokens[self._before : self._upto])
        grown = self._decode(self._tokens[self._before :])
        if len(grown) > len(known) and not grown.endswith(REPLACEMENT):
            self._grow(grown[len(known) :])
            self._before, self._upto = self._upto, len(self._tokens)

    def finish(self) -> None:
        """Nothing more comes: what is left is decoded as it is."""
        if not self.stopped:
            known = self._decode(self._tokens[self._before : self._upto])
            self._grow(self._decode(self._tokens[self._before :])[len(known) :])
            self._before = self._upto = len(self._tokens)

    def news(self, *, last: bool) -> str:
        """The text since the last call; all of it at the ``last`` one."""
        until = len(self._text) if last or self.stopped else len(self._text) - self._held_back()
        told, self._told = self._told, max(self._told, until)
        return self._text[told : self._told]

    def _grow(self, piece: str) -> None:
        start = max(0, len(self._text) - self._longest + 1)
        self._text += piece
        found = [place for stop in self._stop if (place := self._text.find(stop, start)) >= 0]
        if found:
            self._text, self.stopped = self._text[: min(found)], True

    def _held_back(self) -> int:
        """How many characters at the end are the beginning of a stop string."""
        most = min(self._longest - 1, len(self._text))
        ends = (self._text[-count:] for count in range(most, 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stop)), 0)
