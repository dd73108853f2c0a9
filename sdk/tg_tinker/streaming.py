"""Listening to a sample while it is generated: server-sent events, and how to come back after a lost connection."""

from __future__ import annotations

import json

from tg_tinker import flows
from tg_tinker.errors import ProtocolError, StreamGapError
from tg_tinker.flows import Request, Surroundings
from tg_tinker.retry import Outcome
from tg_tinker.types import Future, SampleDelta

SILENCE_SECONDS = 60.0
"""How long a server may say nothing: it sends a comment every quarter of a minute."""


class Listening:
    """One listener's way through the stream of a future; ``future`` is there once it has finished.

    This is what the client does, apart from how it talks: :meth:`request` opens the stream, :meth:`take` is given its
    lines, :meth:`pause` is asked when it broke off.
    """

    def __init__(self, around: Surroundings, future_id: str) -> None:
        self._around = around
        self._path = flows.at("futures", future_id, "stream")
        self._last: str | None = None
        self._fields: dict[str, str] = {}
        self._attempt = 0
        self._heard_at = around.clock()
        self.future: Future | None = None

    def request(self) -> Request:
        """What opens the stream, after what was heard already."""
        self._fields = {}
        last = {} if self._last is None else {"Last-Event-ID": self._last}
        return Request("GET", self._path, headers={"Accept": "text/event-stream", **last}, seconds=SILENCE_SECONDS)

    def take(self, line: str) -> list[SampleDelta]:
        """What a line of the stream completes.

        Raises:
            StreamGapError: something gave way before it was heard.
            ProtocolError: the event is none of this protocol.
        """
        self._attempt, self._heard_at = 0, self._around.clock()
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return []
        fields, self._fields = self._fields, {}
        return self._event(fields) if "event" in fields else []

    def _event(self, fields: dict[str, str]) -> list[SampleDelta]:
        content = fields.get("data", "").encode()
        self._last = fields.get("id", self._last)
        match fields["event"]:
            case "deltas":
                return _deltas(content)
            case "result":
                self.future = flows.parse(Future, content)
            case "gap":
                raise StreamGapError("The server no longer holds everything that was sampled before.")
        return []

    def pause(self, outcome: Outcome) -> float:
        """The seconds to wait before opening the stream again.

        Raises:
            TGTinkerError: what the server says is wrong, or that it is out of reach for too long.
        """
        retry = self._around.retry
        pause = retry.pause(self._attempt, outcome, self._around.random())
        if pause is None or self._around.clock() + pause > self._heard_at + retry.most_seconds:
            flows.accepted(outcome)
            raise ProtocolError("The server answered with something else than a stream.")
        self._attempt += 1
        return pause


def _deltas(content: bytes) -> list[SampleDelta]:
    try:
        listed = json.loads(content)
    except ValueError:
        listed = None
    if not isinstance(listed, list):
        raise ProtocolError("An event of the stream is no list of texts.")
    return [flows.parse(SampleDelta, json.dumps(each).encode()) for each in listed]
