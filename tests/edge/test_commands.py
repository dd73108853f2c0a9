"""The device's command line as its user runs it, against files and against a server."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.ledger.envelope import SignedCommand

from edge.errors import FetchError
from edge.fetch import Fetcher
from schemas.commands import RevokeProducer
from schemas.events import PackageOpened
from tests.edge.device import PROMPT, Device
from tests.support import http_server
from tests.support.packages import TENANT
from tests.support.server import BIN, tensorguard

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "tg-key-0123456789abcdef-secret"


class Server:
    """The doors a device knocks at, in front of the shop's real ledger."""

    def __init__(self, device: Device) -> None:
        self.keys_seen: list[str | None] = []
        shop, seen = device.shop, self.keys_seen
        files = {"/content": device.package.read_bytes(), "/receipt": device.receipt.read_bytes()}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.headers.get("Authorization"))
                self.answer(200 if self.path in files else 404, files.get(self.path, b""))

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                envelope = SignedCommand.from_bytes(data).envelope()
                reply = shop.ledger.submitter.submit_signed(data, envelope)
                body = {"outcome": reply.outcome, "code": reply.code, "first_seq": reply.first_seq}
                self.answer(200, json.dumps(body).encode())

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.handler = Handler
        self.url = ""


@contextmanager
def serving(device: Device) -> Iterator[Server]:
    server = Server(device)
    with http_server.serving(server.handler) as server.url:
        yield server


def agent(device: Device, identity: Path, **options: str) -> subprocess.CompletedProcess[str]:
    given = {
        "package": str(device.package),
        "receipt": str(device.receipt),
        "identity": str(identity),
        "trust-root": str(device.shop.trust_root),
        "model": str(device.model_folder),
        "prompt": PROMPT,
        "max-tokens": "12",
        **{name.replace("_", "-"): value for name, value in options.items()},
    }
    arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
    command = [str(BIN / "tensorguard"), "agent", "--once", "--json", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_keygen_prints_what_an_enrolment_needs_and_nothing_secret(tmp_path: Path) -> None:
    printed = tensorguard("device", "keygen", "--identity", tmp_path / "device", "--json").stdout
    value = json.loads(printed)
    assert {name: len(shown) for name, shown in value.items()} == {
        "key_id": 64,
        "public_key": 64,
        "hpke_public_key": 2432,
    }
    for path in (tmp_path / "device").iterdir():
        assert path.read_bytes().hex() not in printed
    assert json.loads(tensorguard("device", "show", "--identity", tmp_path / "device", "--json").stdout) == value
    assert tensorguard("device", "keygen", "--identity", tmp_path / "device", check=False).returncode == 2


def test_the_agent_fetches_opens_reports_and_leaves_no_plaintext(device: Device) -> None:
    identity = device.identity_folder("online")
    with serving(device) as server:
        done = agent(
            device,
            identity,
            package=f"{server.url}/content",
            receipt=f"{server.url}/receipt",
            report=server.url,
            api_key=KEY,
        )
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["sample"]["completion"] == device.expected()
    assert value["report"]["outcome"] == "accepted"
    assert server.keys_seen == [f"Bearer {KEY}"] * 2
    opened = [r.event for r in device.shop.ledger.events(TENANT) if isinstance(r.event, PackageOpened)]
    assert [event.package_id for event in opened] == [device.package_id]
    assert opened[0].device == device.shop.device.key_id
    device.shop.ledger.verify()
    weights = [tensor.tobytes()[:64] for tensor in device.tensors.values()]
    files = [path for path in device.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if any(piece in path.read_bytes() for piece in weights)]


def test_the_api_key_goes_to_one_origin_alone(device: Device) -> None:
    with serving(device) as server, serving(device) as stranger:
        outcome = device.run(
            device.identity_folder("two-servers"),
            Fetcher(KEY, server.url),
            package=f"{stranger.url}/content",
            receipt=f"{server.url}/receipt",
            report_to=server.url,
        )
    assert outcome.complete
    assert stranger.keys_seen == [None]
    assert server.keys_seen == [f"Bearer {KEY}"]


def test_a_report_that_gets_no_answer_is_an_error_after_the_sample(device: Device) -> None:
    with serving(device) as server:
        pass
    outcome = device.run(device.identity_folder("no-answer"), report_to=server.url)
    assert outcome.completion.completion == device.expected()
    assert not outcome.complete
    assert outcome.problem
    assert outcome.problem.code == "report_failed"


def test_a_report_by_a_revoked_device_is_not_accepted(device: Device, tmp_path: Path) -> None:
    """The device still holds the key of an old package, and says so; the ledger does not take its word any more."""
    device = Device(device.model_folder, tmp_path)
    device.shop.ask(RevokeProducer(device.shop.device.key_id), by=device.shop.ledger.authority)
    with serving(device) as server:
        outcome = device.run(device.identity_folder("revoked"), report_to=server.url)
    assert not outcome.complete
    assert outcome.reply
    assert outcome.reply["outcome"] in {"rejected", "refused"}
    device.shop.close()


@pytest.mark.parametrize("place", ["/absent", "//", "?x"])
def test_what_a_server_does_not_give_is_named(device: Device, place: str) -> None:
    with serving(device) as server, pytest.raises(FetchError) as caught:
        device.run(device.shop.device_folder, package=server.url + place)
    assert caught.value.code == "fetch_failed"


def test_a_server_that_sends_too_much_is_cut_off(device: Device) -> None:
    with serving(device) as server, pytest.raises(FetchError), Fetcher().opened(f"{server.url}/content", 100):
        pass


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        pytest.param({"package": "/nowhere.tgsp"}, 2, "usage", id="no package"),
        pytest.param({"trust_root": "/nowhere.json"}, 2, "usage", id="no trust root"),
        pytest.param({"identity": "/nowhere"}, 1, "identity", id="no identity"),
        pytest.param({"package": sys.executable}, 1, "package_malformed", id="a file that is no package"),
    ],
)
def test_a_wrong_call_is_named(device: Device, options: dict[str, str], status: int, code: str) -> None:
    identity = Path(options.pop("identity", str(device.shop.device_folder)))
    done = agent(device, identity, **options)
    assert done.returncode == status, done.stderr
    assert json.loads(done.stderr)["code"] == code
    assert "Traceback" not in done.stderr


def test_a_refusal_loads_no_tensor_library(device: Device, tmp_path: Path) -> None:
    (tmp_path / "broken.tgsp").write_bytes(device.package.read_bytes()[:-1])
    code = (
        "import sys; from tensorguard.cli.main import run; status = run(sys.argv[1:]);"
        "print(status, [name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    arguments = [
        *("agent", "--once", "--package", tmp_path / "broken.tgsp", "--receipt", device.receipt, "--prompt", "x"),
        *("--identity", device.shop.device_folder, "--trust-root", device.shop.trust_root, "--model", tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "1 []"


def test_a_package_is_inspected_and_verified_from_the_command_line(device: Device, tmp_path: Path) -> None:
    root = device.shop.trust_root
    shown = json.loads(tensorguard("pkg", "inspect", device.package, "--json").stdout)
    assert shown["verified"] is False
    assert shown["manifest"]["line"] == "run-1"
    arguments = ("--trust-root", root, "--receipt", device.receipt)
    verified = json.loads(tensorguard("pkg", "verify", device.package, *arguments, "--json").stdout)
    assert verified["verified"] is True
    assert verified["receipt"]["chain"] == TENANT
    assert "verified; on chain acme" in tensorguard("pkg", "verify", device.package, *arguments).stdout
    broken = tmp_path / "broken.tgsp"
    broken.write_bytes(device.package.read_bytes().replace(b"LlamaForCausalLM", b"LlamaForCausalLn"))
    done = tensorguard("pkg", "verify", broken, *arguments, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert tensorguard("pkg", "verify", broken, "--trust-root", tmp_path / "no", check=False).returncode == 2
