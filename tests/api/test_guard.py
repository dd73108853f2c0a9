"""The outermost layer of the doors."""

from __future__ import annotations

import asyncio
from typing import Any

from api.http import Guard
from api.observability.metrics import Metrics
from producers.telemetry.traces import Tracing

SCOPE: Any = {"type": "http", "method": "POST", "path": "/", "scheme": "http", "headers": []}


def test_a_request_that_the_servers_end_cuts_off_is_told_to_come_again() -> None:
    sent: list[Any] = []
    waiting = asyncio.Event()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def wait_for_a_decision(_scope: Any, _receive: Any, _send: Any) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def cut_off() -> None:
        guard = Guard(wait_for_a_decision, 1 << 20, Metrics(), Tracing())
        request = asyncio.create_task(guard({**SCOPE}, receive, send))
        await waiting.wait()
        request.cancel()
        await request

    asyncio.run(cut_off())
    assert sent[0]["status"] == 503
    assert b"ledger_unavailable" in sent[1]["body"]
