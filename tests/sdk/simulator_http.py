"""The simulator's doors: HTTP over real sockets, with the faults that a test ordered."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.sdk.simulator import API_KEY, CONTENT, MODEL, NOW, Json, ProblemError, Seen, Simulator
from tests.support.http_server import serving


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    simulator: Simulator

    def do_GET(self) -> None:
        self._exchange()

    def do_POST(self) -> None:
        self._exchange()

    def log_message(self, *_: object) -> None:
        pass

    def _exchange(self) -> None:
        seen = self._read()
        fault = self.simulator.faults.popleft() if self.simulator.faults else None
        if fault == "drop before":
            return self._hang_up()
        if fault in ("429", "503"):
            document = ProblemError("quota_exceeded" if fault == "429" else "ledger_unavailable", int(fault)).document
            return self._answer(
                int(fault), json.dumps(document).encode(), {"Retry-After": "0"} if fault == "429" else {}
            )
        if fault == "500":
            return self._answer(500, b"<html>oh no</html>", {})
        if fault == "not json":
            return self._answer(200, b"hello", {})
        status, content = self._decide(seen)
        if fault == "drop after":
            return self._hang_up()
        return self._answer(status, content, {})

    def _hang_up(self) -> None:
        self.close_connection = True

    def _read(self) -> Seen:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.command, parts.path, query, headers, json.loads(body) if body else {})
        self.simulator.seen.append(seen)
        return seen

    def _decide(self, seen: Seen) -> tuple[int, bytes]:
        try:
            _check_key(seen)
            with self.simulator.changed:
                status, answer = self._once(seen) if seen.method == "POST" else _get(self.simulator, seen)
        except ProblemError as error:
            status, answer = error.status, error.document
        return status, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def _once(self, seen: Seen) -> tuple[int, Json]:
        key, body = seen.headers["idempotency-key"], json.dumps(seen.body)
        if key in self.simulator.answers:
            before, status, answer = self.simulator.answers[key]
            if before != body:
                raise ProblemError("idempotency_key_reused")
            return status, answer
        status, answer = _post(self.simulator, seen)
        self.simulator.answers[key] = body, status, answer
        return status, answer

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Accept-Encoding", "gzip, zstd")
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _check_key(seen: Seen) -> None:
    if seen.headers.get("authorization") != f"Bearer {API_KEY}":
        raise ProblemError("unauthenticated")


def _post(simulator: Simulator, seen: Seen) -> tuple[int, Json]:
    match [unquote(part) for part in seen.path.split("/")[2:]]:
        case ["training_clients"]:
            return simulator.create(seen.body)
        case ["samplers"]:
            return simulator.sampler(seen.body)
        case ["training_clients" | "samplers", run_id, "close"]:
            run = simulator.run(run_id)
            run.update(status="closed", closed_at=NOW)
            return 200, run
        case ["training_clients" | "samplers", run_id, kind]:
            return simulator.submit(run_id, kind, seen.body)
        case ["futures", future_id, "cancel"]:
            return simulator.cancel(future_id)
        case ["packages"]:
            return simulator.package(seen.body)
    raise ProblemError("not_found", 404)


def _get(simulator: Simulator, seen: Seen) -> tuple[int, Any]:  # noqa: C901, PLR0911, PLR0912 -- one line per route
    match [unquote(part) for part in seen.path.split("/")[2:]]:
        case ["training_clients"]:
            return 200, _page(list(simulator.runs.values()), seen)
        case ["samplers"]:
            return 200, _page(list(simulator.samplers.values()), seen)
        case ["training_clients" | "samplers", run_id]:
            return 200, simulator.run(run_id)
        case ["futures", future_id, "result"]:
            return simulator.finished(future_id, float(seen.query.get("timeout", 25)))
        case ["futures", _, "stream"]:
            return 200, simulator.streamed.popleft()
        case ["futures", future_id]:
            return 200, simulator.future(future_id)
        case ["audit_logs"]:
            event = seen.query.get("event")
            return 200, _page([entry for entry in simulator.audit() if event in (None, entry["event"])], seen)
        case ["artifacts"]:
            return 200, {"items": [], "next_cursor": None}
        case ["models"]:
            return 200, {"items": [_described_model()], "next_cursor": None}
        case ["models", *rest]:
            return 200, _model(simulator, rest)
        case ["packages", package_id] if package_id in simulator.packages:
            return 200, simulator.packages[package_id]
        case ["packages", package_id, "content"] if package_id in simulator.packages:
            return 200, CONTENT
        case ["packages", package_id, "receipt"] if package_id in simulator.packages:
            return 200, b"c2sp.org/tlog-proof@v1\n"
    raise ProblemError("not_found", 404)


def _described_model() -> Json:
    more = {"tokenizer_digest": "ef" * 32, "parameters": 1000, "dtype": "float32", "source": None, "files": []}
    return {**MODEL, **more, "name": "small", "has_chat_template": True, "registered_at": NOW}


def _model(simulator: Simulator, segments: list[str]) -> Any:
    match segments:
        case ["small", "tokenizer"]:
            return simulator.tokenizer_info()
        case ["small", "tokenizer", name] if name in simulator.tokenizer:
            return simulator.tokenizer[name]
        case _:
            raise ProblemError("unknown_model")


def _page(items: list[Json], seen: Seen) -> Json:
    start, size = int(seen.query.get("cursor", 0)), int(seen.query["limit"])
    more = start + size < len(items)
    return {"items": items[start : start + size], "next_cursor": str(start + size) if more else None}


@contextmanager
def running() -> Iterator[Simulator]:
    """A simulator on a free port of this machine."""
    simulator = Simulator()
    handler = type("Handler", (_Handler,), {"simulator": simulator})
    with serving(handler) as simulator.url:
        try:
            yield simulator
        finally:
            simulator.release()
