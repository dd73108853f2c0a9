from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tensorguard.ledger import trust
from tensorguard.ledger.proof import verify_receipt
from tensorguard.ledger.record import outcome_id

from producers.identities import Producer
from schemas import commands as c
from tests.support.doors import TENANT, Doors, enrol_device, opening

AVRO = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def device(doors: Doors) -> Producer:
    return enrol_device(doors.worker, "till", secrets.token_bytes(32))


@pytest.fixture
def package(doors: Doors, device: Producer) -> Any:
    run = doors.create()
    doors.worker.take(run)
    artifact = doors.worker.saved(run, through=0, step=0).hex()
    asked = {"artifact_id": artifact, "recipients": [device.key_id.hex()], "expires_at": "2100-01-01T00:00:00+01:00"}
    return doors.post("/v1/packages", asked)


def sign(doors: Doors, package: Any) -> bytes:
    content = b"a package"
    path = doors.platform.installation.data_dir / "packages" / TENANT / f"{package['package_id']}.tgsp"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    digest = sha256(content).digest()
    identity = bytes.fromhex(package["package_id"])
    doors.worker.say("packager", c.RecordPackageSigned(identity, digest, digest, len(content), bytes(32)))
    return content


def opened_by(device: Producer, package: Any, digest: bytes, doors: Doors) -> bytes:
    return opening(device, bytes.fromhex(package["package_id"]), digest, doors.platform.installation.clock())


def test_a_package_is_pending_until_the_packager_signed_it(doors: Doors, package: Any) -> None:
    path = f"/v1/packages/{package['package_id']}"
    assert package["status"] == "pending"
    assert package["expires_at"] == "2099-12-31T23:00:00.000000Z"
    answer = doors.call("GET", f"{path}/content")
    assert (answer.status_code, answer.json()["code"]) == (409, "package_not_signed")
    waited: list[Any] = []
    waiter = threading.Thread(target=lambda: waited.append(doors.get(f"{path}?wait=20")))
    waiter.start()
    content = sign(doors, package)
    waiter.join(10)
    assert waited[0]["status"] == "signed"
    assert doors.call("GET", f"{path}/content").content == content
    assert [each["package_id"] for each in doors.get("/v1/packages")["items"]] == [package["package_id"]]


def test_the_receipt_of_a_package_verifies_offline(doors: Doors, package: Any) -> None:
    sign(doors, package)
    data_dir = doors.platform.installation.data_dir
    subprocess.run([sys.executable, "-m", "producers.signer", "--data-dir", str(data_dir), "--once"], check=True)
    path = f"/v1/packages/{package['package_id']}"
    receipt, record = (doors.call("GET", f"{path}/{part}").content for part in ("receipt", "record"))
    root = trust.parse(doors.client.get("/.well-known/tensorguard/trust-root.json").content)
    proven = verify_receipt(receipt, root, record)
    assert proven.decoded is not None
    assert proven.decoded.event == "PackageSigned"
    assert doors.call("GET", "/v1/ledger/acme/checkpoint").content.startswith(f"{root.origin}/acme\n".encode())


def test_a_device_reports_by_its_own_signature_without_an_api_key(doors: Doors, package: Any, device: Producer) -> None:
    digest = sha256(sign(doors, package)).digest()
    command = opened_by(device, package, digest, doors)
    answer = doors.client.post("/v1/commands", content=command, headers=AVRO)
    assert (answer.status_code, answer.json()["outcome"]) == (200, "accepted")
    again = doors.client.post("/v1/commands", content=command, headers=AVRO)
    assert again.json() == answer.json()
    opened = doors.get(f"/v1/packages/{package['package_id']}")["opened"]
    assert [each["device"] for each in opened] == [device.key_id.hex()]


def test_a_rejected_command_is_a_decision_and_an_unsigned_one_is_none(
    doors: Doors, package: Any, device: Producer
) -> None:
    sign(doors, package)
    answer = doors.client.post("/v1/commands", content=opened_by(device, package, bytes(32), doors), headers=AVRO)
    assert (answer.status_code, answer.json()["outcome"], answer.json()["code"]) == (200, "rejected", "invalid_value")
    stranger = Producer("device", secrets.token_bytes(32))
    size = doors.platform.engine.size(TENANT)
    answer = doors.client.post("/v1/commands", content=opened_by(stranger, package, bytes(32), doors), headers=AVRO)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert doors.platform.engine.size(TENANT) == size


def test_a_device_cannot_take_the_command_id_of_an_outcome_to_come(
    doors: Doors, package: Any, device: Producer
) -> None:
    identity, now = bytes.fromhex(package["package_id"]), doors.platform.installation.clock()
    requested = doors.get("/v1/audit_logs?event=PackageRequested")["items"][0]
    foretold = outcome_id(bytes.fromhex(requested["event_id"]), "signed")
    taking = opening(device, identity, bytes(32), now, foretold)
    answer = doors.client.post("/v1/commands", content=taking, headers=AVRO)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert doors.platform.engine.reply(foretold) is None


def test_a_package_that_failed_says_why(doors: Doors, package: Any) -> None:
    doors.worker.say("packager", c.FailPackage(bytes.fromhex(package["package_id"]), "checkpoint_damaged"))
    info = doors.get(f"/v1/packages/{package['package_id']}?wait=5")
    assert (info["status"], info["error"]["code"]) == ("failed", "checkpoint_damaged")


def test_a_package_for_nobody_that_is_enrolled_is_refused(doors: Doors, package: Any) -> None:
    answer = doors.call("POST", "/v1/packages", json={"artifact_id": package["artifact_id"], "recipients": ["0" * 64]})
    assert (answer.status_code, answer.json()["code"]) == (409, "recipient_unknown")


def test_an_expiry_beyond_the_last_day_is_refused_and_hurts_no_list(
    doors: Doors, package: Any, device: Producer
) -> None:
    asked = {"artifact_id": package["artifact_id"], "recipients": [device.key_id.hex()]}
    for moment in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
        answer = doors.call("POST", "/v1/packages", json={**asked, "expires_at": moment})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert [each["package_id"] for each in doors.get("/v1/packages")["items"]] == [package["package_id"]]


def test_devices_are_listed_with_their_keys(doors: Doors, device: Producer) -> None:
    (listed,) = doors.get("/v1/devices")["items"]
    assert (listed["name"], listed["key_id"]) == ("till", device.key_id.hex())
    assert len(bytes.fromhex(listed["hpke_public_key"])) == 1216


def test_the_trust_root_is_the_file_byte_for_byte(doors: Doors) -> None:
    path: Path = doors.platform.installation.trust_root_path
    assert doors.client.get("/.well-known/tensorguard/trust-root.json").content == path.read_bytes()
