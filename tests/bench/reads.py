"""Reads at a fixed rate, open loop: a request is due at its moment, and its latency counts from there.

So a server that falls behind cannot slow the clock that measures it (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.harness import Figure, Spread, interleave
from tests.bench.service import make_model, service
from tests.bench.sizes import ModelSize, ReadsSize

CONNECTIONS = 32
BARE = "GET /healthz at the same rate: the same server, no read model"
MILLISECONDS = 1e3
TAIL = 0.99
LEAD = 0.2
"""Seconds until the first request is due: connections are open by then."""


def run(size: ReadsSize, work: Path) -> list[Figure]:
    """The 99th percentile of a run's reads, of a list's, and of an answer without a read model."""
    model = make_model(work / "model", ModelSize(32, 2))
    with service(work, {"base": model}) as live:
        runs = [live.new_run("base", 1).training_client_id for _ in range(size.runs)]
        address = ("127.0.0.1", live.server.port)
        targets = {
            "a run": [f"/v1/training_clients/{each}" for each in runs],
            "a list of runs": ["/v1/training_clients?limit=10"],
            "bare": ["/healthz"],
        }
        found = interleave(
            size.rounds,
            {
                name: lambda paths=paths: asyncio.run(_tail(address, live.api_key, paths, size))
                for name, paths in targets.items()
            },
        )
    note = f"{size.rate} requests/s for {size.seconds} s each; the goal is at most 10 ms"
    return [_figure("a run", found, note), _figure("a list of runs", found, note)]


def _figure(name: str, found: dict[str, Spread], note: str) -> Figure:
    ours, bare = (found[each].scaled(MILLISECONDS) for each in (name, "bare"))
    return Figure(f"p99 of reading {name}", "ms", ours, BARE, bare, note=note)


async def _tail(address: tuple[str, int], key: str, paths: Sequence[str], size: ReadsSize) -> float:
    due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
    start, count = time.perf_counter() + LEAD, size.rate * size.seconds
    for number in range(count):
        due.put_nowait((start + number / size.rate, _request(paths[number % len(paths)], key)))
    for _ in range(CONNECTIONS):
        due.put_nowait(None)
    taken = await asyncio.gather(*(_connection(address, due) for _ in range(CONNECTIONS)))
    ordered = sorted(seconds for each in taken for seconds in each)
    return ordered[int(len(ordered) * TAIL)]


async def _connection(address: tuple[str, int], due: asyncio.Queue[tuple[float, bytes] | None]) -> list[float]:
    """One kept-alive connection, one request at a time; a full client library would be what is measured."""
    reader, writer = await asyncio.open_connection(*address)
    taken = []
    while (each := await due.get()) is not None:
        moment, request = each
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        writer.write(request)
        await _answer(reader)
        taken.append(time.perf_counter() - moment)
    writer.close()
    return taken


def _request(path: str, key: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError("The server refused a read.")
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
