"""What logs, metrics and traces add to an operation: at the doors with its decision, and alone on the processor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from api.app import create_app
from api.http import Guard
from api.observability.metrics import Metrics
from api.platform import Platform
from api.quotas import QuotaLimits
from processors.measures import Meter
from producers.identities import make_envelope
from producers.sequencer.observing import Decided, DecisionLog, DecisionSpans, Round
from producers.telemetry.traces import Tracing
from schemas.commands import SubmitOptimStep
from schemas.events import RunClosed
from tests.bench.harness import Figure, Spread, interleave, seconds
from tests.bench.sizes import WatchingSize
from tests.support.doors import Doors, copy_installation, prepare_installation, running

WITHOUT = "the same request, nothing logged or counted"
MICROSECONDS, MILLISECONDS = 1e6, 1e3
OPERATIONS = 2_000
TRACEPARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


class _Silent(Metrics):
    """Counts nothing."""

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Do nothing."""

    def committed(self, batch: Round) -> None:
        """Do nothing."""


class _Nowhere(SpanExporter):
    """Takes spans and drops them: what is measured is making them."""

    def export(self, spans: Sequence[Any]) -> SpanExportResult:  # noqa: ARG002 -- the library's signature
        return SpanExportResult.SUCCESS


def run(size: WatchingSize, work: Path) -> list[Figure]:
    """A request with its decision by the three ways, and what an operation costs by itself."""
    installed = prepare_installation(work / "installed")
    before = structlog.get_config()
    try:
        with ExitStack() as stack, Path(os.devnull).open("w") as nowhere:
            levels = {"with": logging.INFO, "traced": logging.INFO, "without": logging.CRITICAL}
            found = interleave(
                size.rounds,
                {
                    name: _requests(stack.enter_context(_doors(installed, work / name, name)), size, level, nowhere)
                    for name, level in levels.items()
                },
            )
            _log_to(nowhere, logging.INFO)
            alone = [_alone(Tracing()), _alone(Tracing.through(_Nowhere(), "bench"))]
    finally:
        structlog.configure(**before)
    return [*_at_the_doors(found), *alone]


def _at_the_doors(found: dict[str, Spread]) -> Iterator[Figure]:
    without = found["without"].scaled(MILLISECONDS)
    for name, words in (("with", "request and decision"), ("traced", "request and decision, with traces")):
        yield Figure(words, "ms", found[name].scaled(MILLISECONDS), WITHOUT, without)


@contextmanager
def _doors(installed: Path, data_dir: Path, name: str) -> Iterator[Doors]:
    tracing = Tracing.through(_Nowhere(), "bench") if name == "traced" else Tracing()
    data_dir, quotas = copy_installation(installed, data_dir), QuotaLimits(rejections_per_minute=1 << 20)
    with contextlib.closing(Platform.open(data_dir, quota_limits=quotas, tracing=tracing)) as platform:
        used = platform if name != "without" else replace(platform, metrics=_Silent())
        with running(used), TestClient(create_app(used)) as client:
            yield Doors(used, client)


def _requests(doors: Doors, size: WatchingSize, level: int, nowhere: Any) -> Any:
    """Seconds a request, each a command that is decided: a step without gradients, which is rejected."""
    path = f"/v1/training_clients/{doors.create()}/optim_step"
    headers = {"traceparent": TRACEPARENT}

    def measure() -> float:
        _log_to(nowhere, level)
        answers: set[int] = set()
        took = seconds(
            lambda: answers.update(
                doors.call("POST", path, json={}, headers=headers).status_code for _ in range(size.requests)
            )
        )
        assert answers == {409}, answers
        return took / size.requests

    return measure


def _log_to(file: Any, level: int) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file),
    )


def _alone(tracing: Tracing) -> Figure:
    """Processor time of a request, two decisions and an execution, around nothing."""
    metrics, meter = Metrics(), Meter(lambda _: None)
    guard = Guard(_answer, 1 << 20, metrics, tracing)
    observers = (metrics, DecisionLog(), *((DecisionSpans(tracing),) if tracing.on else ()))
    envelope = _envelope()
    log = structlog.get_logger("bench")

    async def operate() -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "scheme": "http", "headers": _HEADERS}
        await guard(scope, _nothing, _drop)
        now = time.time_ns()
        for _ in range(2):
            batch = Round([Decided(envelope, "accepted", "", (RunClosed("run"),))], now, now)
            for observer in observers:
                observer.committed(batch)
        with tracing.span("forward_backward"):
            meter.took("forward_backward", 0.1)
            log.info("operation", kind="forward_backward", op_seq=1, outcome="CompleteForwardBackward", ms=100.0)

    async def many() -> None:
        for _ in range(OPERATIONS):
            await operate()

    start = time.process_time()
    asyncio.run(many())
    spent = (time.process_time() - start) / OPERATIONS
    tracing.close()
    name = f"one operation alone{', with traces' if tracing.on else ''}"
    return Figure(name, "µs", Spread.of(spent * MICROSECONDS), note="processor time in all processes together")


_HEADERS = [(b"traceparent", TRACEPARENT.encode())]


async def _answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 202, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def _nothing() -> Any:
    return {"type": "http.disconnect"}


async def _drop(_message: Any) -> None:
    pass


def _envelope() -> Any:
    command = SubmitOptimStep("run", None, None)
    ids: dict[str, Any] = {"command_id": bytes(16), "correlation": bytes(16), "trace": b"\xab" * 16}
    return make_envelope(command, chain="acme", stream="run/run", now=0, **ids)
