"""A thousand requests that schemathesis makes from /openapi.json, half of them wrong on purpose: none meets a fault,
and every answer has a status, a content type and a shape that the document promises.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.schemas import APIOperation

from api.quotas import QuotaLimits
from schemas.commands import RecordArtifactExported
from tests.support.doors import TENANT, Doors, batch, copy_installation, enrol_device, open_doors

CASES = (1000, pytest.param(4000, marks=pytest.mark.soak))
PATIENCE = ("wait", "timeout")
"""Parameters that let a request wait for what will not come here."""
ROOMY = QuotaLimits(runs=10**6, queued=10**6, bytes_in_flight=1 << 40, rejections_per_minute=10**6)
load_all_checks()
HELD = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
Known = dict[str, Any]


@contextmanager
def signing(data_dir: Path) -> Iterator[None]:
    """The signer's own process, as beside a server."""
    command = [sys.executable, "-m", "producers.signer", "--data-dir", str(data_dir)]
    with subprocess.Popen(command) as signer:
        try:
            yield
        finally:
            signer.terminate()


@pytest.fixture(scope="module")
def opened(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    data_dir = copy_installation(installed, tmp_path_factory.mktemp("generated") / "data")
    with open_doors(data_dir, quotas=ROOMY) as doors, signing(data_dir):
        yield doors


@pytest.fixture(scope="module")
def document(opened: Doors) -> Any:
    return schemathesis.openapi.from_dict(opened.client.get("/openapi.json").json())


@pytest.fixture(scope="module")
def known(opened: Doors) -> Known:
    """Ids of things that are there, so that half of the requests get past the first question."""
    run = opened.create()
    opened.worker.take(run)
    future = opened.operate(run, "save_state", {"name": "first"})
    artifact = opened.worker.saved(run, through=0, step=0, future=future, name="first").hex()
    device = enrol_device(opened.worker, "reader", bytes(32))
    wanted = {"artifact_id": artifact, "recipients": [device.key_id.hex()]}
    package = opened.post("/v1/packages", wanted)["package_id"]
    export = bytes.fromhex(opened.post(f"/v1/artifacts/{artifact}/exports")["export_id"])
    listing = opened.platform.exports.write(TENANT, export, [("tiny", [b"weights"])])
    opened.worker.say("packager", RecordArtifactExported(run, export, listing.digest, listing.size_bytes))
    return {
        "export_id": export.hex(),
        "training_client_id": run,
        "future_id": future["future_id"],
        "artifact_id": artifact,
        "package_id": package,
        "chain": TENANT,
        "name": "tiny",
        "seq": "1",
        "model_ref": "tiny",
        "batch": batch(),
        "recipients": wanted["recipients"],
        "dp_config": None,
        "generation": None,
    }


def aimed(case: Case, known: Known, *, at_what_is_there: bool) -> Case:
    """The case, where it is to be at something that exists, and without waiting for long."""
    for part in (case.path_parameters, case.body) if at_what_is_there else ():
        if isinstance(part, dict):
            part.update({name: known[name] for name in part if name in known})
    for name in PATIENCE:
        if isinstance(case.query, dict) and name in case.query and _is_number(case.query[name]):
            case.query[name] = 0
    return case


def _is_number(value: object) -> bool:
    try:
        return float(str(value)) >= 0
    except ValueError:
        return False


def send(doors: Doors, case: Case) -> Any:
    asked = case.as_transport_kwargs(headers={"Authorization": f"Bearer {doors.key}"})
    asked.pop("verify", None)
    asked["url"] = asked["url"].removeprefix("http://localhost")
    asked["content"] = asked.pop("data", None)
    asked["cookies"] = None
    return doors.client.request(**{name: value for name, value in asked.items() if value is not None})


@pytest.mark.parametrize("cases", CASES)
def test_generated_requests_are_all_answered_as_the_document_says(
    opened: Doors, document: Any, known: Known, cases: int
) -> None:
    operations: list[APIOperation] = [each.ok() for each in document.get_all_operations()]
    operations.sort(key=lambda each: (len(each.body), len(list(each.iter_parameters()))))  # few shapes, few requests
    statuses: Counter[int] = Counter()
    for number, operation in enumerate(operations):
        share = -(-(cases - statuses.total()) // (len(operations) - number))
        statuses += _try(opened, operation, {**known, "training_client_id": opened.create()}, share)
    assert statuses.total() >= cases
    assert {200, 201, 202, 404, 409, 422} <= statuses.keys()
    assert statuses[201] + statuses[202] > cases // 50, statuses


def _try(doors: Doors, operation: APIOperation, known: Known, cases: int) -> Counter[int]:
    statuses: Counter[int] = Counter()
    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    made = st.one_of(right, wrong) if operation.body or list(operation.iter_parameters()) else right

    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=made, there=st.booleans())
    def ask(case: Case, there: bool) -> None:  # noqa: FBT001
        answer = send(doors, aimed(case, known, at_what_is_there=there))
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=HELD)

    ask()
    return statuses
