"""Which of a server's processes did what, as its ledger, its log and its own account of its processes say."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tg_tinker import ServiceClient, TrainingClient

from api.demo import finetune
from api.demo.errors import PartFailedError
from api.demo.processes import tensorguard
from api.demo.screen import Screen
from api.roll import rolls

DOORS = 2
TRAINERS = 2
MOST_RUNS = 6
_CONNECTIONS, _ROUNDS = 8, 40
_LOOKS, _GLANCE_SECONDS = 100, 0.05


@dataclass(frozen=True)
class WhoDidWhat:
    """Processes by their names; ``workers`` are the trainers that runs at once were leased to, by their ids."""

    processes: Sequence[str]
    submitted_at: str
    awaited_at: str
    workers: Sequence[str]
    sequencers: Sequence[str]


class Line:
    """One connection to the server, for one request at a time."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        self._http = httpx.Client(base_url=url, headers=headers, limits=limits, timeout=finetune.PATIENCE)
        self.request_id = ""

    def ask(self, method: str, path: str, **given: Any) -> Any:
        """The JSON of an answer."""
        return json.loads(self.text(method, path, **given))

    def text(self, method: str, path: str, **given: Any) -> str:
        """An answer; ``request_id`` is then that request's."""
        answer = self._http.request(method, path, **given).raise_for_status()
        self.request_id = answer.headers["X-Request-Id"]
        return answer.text

    def close(self) -> None:
        """End the connection."""
        self._http.close()


@dataclass(frozen=True)
class Scene:
    """A server with two trainers and two API processes: its address, an API key, its data directory and its log."""

    url: str
    key: str
    data_dir: Path
    log: Path


def see(scene: Scene, client: ServiceClient, data: finetune.Dataset, model: str) -> WhoDidWhat:
    """Have every trainer hold a run at once, and one future submitted at one API process and awaited at another.

    Raises:
        PartFailedError: one process did what two should have done.
    """
    runs = _runs_on_all_trainers(client, data, model)
    with two_doors(scene) as (one, other):
        submitted, awaited = across(one, other, next(iter(runs)).training_client_id, data.held_out[0], scene.log)
    workers = sorted(set(runs.values()))
    for run in runs:
        run.close()
    status = tensorguard("ledger", "status", "--data-dir", scene.data_dir)
    found = WhoDidWhat(
        processes=[f"{name} (pid {pid})" for roll in rolls(scene.data_dir) for name, pid in roll.running.items()],
        submitted_at=submitted,
        awaited_at=awaited,
        workers=workers,
        sequencers=[f"partition {each['partition']}: {each['written_by']}" for each in status["epochs"]],
    )
    _check(found)
    return found


def _runs_on_all_trainers(client: ServiceClient, data: finetune.Dataset, model: str) -> dict[TrainingClient, str]:
    """Open runs with a step done, each with its trainer: as many as it takes for every trainer to have one."""
    runs: dict[TrainingClient, str] = {}
    while len(set(runs.values())) < TRAINERS and len(runs) < MOST_RUNS:
        run = client.create_training_client(finetune.training_config(model))
        finetune.send_step(run, data, 1, 1)[1].result(finetune.PATIENCE)
        runs[run] = _leased_to(client, run)
    return runs


def _check(found: WhoDidWhat) -> None:
    if found.submitted_at == found.awaited_at:
        raise PartFailedError("A future was submitted and awaited at the same API process.")
    if len(found.workers) != TRAINERS:
        raise PartFailedError(f"{MOST_RUNS} runs at once were not placed on {TRAINERS} trainers.")


@contextmanager
def two_doors(scene: Scene) -> Iterator[tuple[Line, Line]]:
    """Two connections that the kernel gave to two API processes: it gives each to whichever is free first."""
    with ExitStack() as stack:
        for _ in range(_ROUNDS):
            lines = [Line(scene.url, scene.key) for _ in range(_CONNECTIONS)]
            for line in lines:
                stack.callback(line.close)
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                list(pool.map(lambda line: line.ask("GET", "/v1/models"), lines))
            by_process = {_answered_by(line.request_id, scene.log): line for line in lines}
            if len(by_process) > 1:
                first, second, *_ = by_process.values()
                yield first, second
                return
        raise PartFailedError(f"Of {_ROUNDS * _CONNECTIONS} connections one API process has taken all.")


def across(one: Line, other: Line, run_id: str, batch: finetune.Batch, log: Path) -> tuple[str, str]:
    """The evaluation of a batch, submitted by one line and awaited by the other; the processes that answered."""
    future = one.ask("POST", f"/v1/training_clients/{run_id}/forward", json={"batch": batch})
    asked = f"/v1/futures/{future['future_id']}/result"
    while other.ask("GET", asked)["status"] == "pending":
        continue
    return _answered_by(one.request_id, log), _answered_by(other.request_id, log)


def _answered_by(request_id: str, log: Path) -> str:
    """The process that logged a request."""
    for _ in range(_LOOKS):
        for line in log.read_text().splitlines():
            if request_id in line and (found := json.loads(line)).get("event") == "request":
                return str(found["process"])
        threading.Event().wait(_GLANCE_SECONDS)
    raise PartFailedError(f"No line of {log} tells of request {request_id}.")


def _leased_to(client: ServiceClient, run: TrainingClient) -> str:
    granted = list(client.get_audit_logs(stream=f"run/{run.training_client_id}", event="RunLeaseGranted"))
    return str(granted[-1].data["worker"])


def show(found: WhoDidWhat, screen: Screen) -> None:
    """For people."""
    screen.say(f"processes: {', '.join(found.processes)}")
    screen.say(f"a future was submitted at {found.submitted_at} and awaited at {found.awaited_at}")
    screen.say(f"runs at once were trained by {' and '.join(found.workers)}")
    for each in found.sequencers:
        screen.say(f"written last in {each}")
