"""The files of a deployment: sound by their own linters, and each command line of theirs one that runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tg_tinker import ServiceClient

from producers.settings.about import ELSEWHERE, SERVER
from producers.settings.fields import ABOUT, variable
from tests.support.certificates import Authority
from tests.support.fleet import PATIENCE, RUN, send_steps
from tests.support.kafka import broker
from tests.support.registry import registry
from tests.support.server import BIN, free_port
from tests.support.tiny_model import build_tiny_model

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PACKAGES = {"tensorguard", "tg_tinker", "schemas", "producers", "processors", "projections", "api", "edge"}
OURS = {name: each for name, each in SERVICES.items() if each["image"].startswith("tensorguardflow:")}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=120)


def test_the_compose_file_is_one_by_the_compose_specification() -> None:
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_has_nothing_that_its_linter_minds() -> None:
    done = run(BIN / "hadolint", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert len(bases) == 2
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z-]+", base) for base in bases), "a base that may change is none"
    final = lines[max(number for number, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 10001:10001" in final
    assert not [line for line in final if re.search(r"\b(pip|uv|apt-get|gcc)\b", line)], "no build tools in it"
    copied = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    kept = kept_by_a_build()
    assert {name for name in copied if name != "constraints.txt"} <= kept
    assert all((ROOT / name).exists() for name in kept)


def test_no_secret_of_a_deployment_can_be_committed_or_comes_into_an_image() -> None:
    assert {str(Path(each["file"]).parent) for each in COMPOSE["secrets"].values()} == {"secrets"}
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "deploy" not in kept_by_a_build()


def kept_by_a_build() -> set[str]:
    """The folders and files of a checkout that a build is given."""
    return {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}


def test_what_is_installed_in_the_image_is_whole_without_the_sources(tmp_path: Path) -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    source, target = tmp_path / "source", tmp_path / "target"
    for words in (line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line):
        for name in words:
            _copy(ROOT / name, source / name)
    _need_no_others(source / "pyproject.toml", '["tensorguard"]')
    _need_no_others(source / "sdk" / "pyproject.toml", "[]")
    [line] = [line for line in lines if line.startswith("RUN uv pip install ") and line.endswith(" ./sdk .")]
    words = [sys.executable if word == "/opt/tensorguard" else word for word in line.split()[2:]]
    here = ("--directory", source, "--target", target, "--no-build-isolation", "--offline")
    done = run(BIN / "uv", *words, *here)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    for folder in (ROOT / name if (ROOT / name).exists() else ROOT / "sdk" / name for name in PACKAGES):
        files = [path.relative_to(folder.parent) for path in folder.rglob("*.*") if "__pycache__" not in path.parts]
        assert files
        assert not [path for path in files if not (target / path).exists()]


def test_images_are_pinned_to_the_versions_that_are_tested() -> None:
    assert all(re.search(r":\d+\.\d+\.\d+", each["image"]) for each in SERVICES.values())
    for service, folder in (("kafka", "kafka"), ("registry", "registry")):
        version = SERVICES[service]["image"].rpartition(":")[2]
        assert f"<version>{version}</version>" in (DEPLOY / folder / "pom.xml").read_text()


def test_containers_may_do_little_and_come_back() -> None:
    for name, each in SERVICES.items():
        assert each["restart"] == "always", name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert each["healthcheck"]["test"][0] == "CMD", name
        assert bool(each.get("read_only")) is (name != "kafka"), name
    for name, each in OURS.items():
        assert each["user"] == "10001:10001", name
        assert each["volumes"] == ["data:/data"], name
        assert bool(each.get("ports")) is name.startswith("api"), "nothing but the API is published"
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", ())), name
    assert all(each["file"].startswith("./secrets/") for each in COMPOSE["secrets"].values())


def test_every_variable_is_a_setting_and_no_secret_stands_in_the_file() -> None:
    known = {variable(name): about for name, about in ABOUT.items()}
    for name, each in OURS.items():
        for key in each["environment"]:
            assert key in known or key in ELSEWHERE, f"{name}: {key}"
        secrets = {key for key in each["environment"] if key in known and known[key].secret}
        assert secrets <= {"TG_KAFKA_REGISTRY"}, name
        assert "@" not in each["environment"].get("TG_KAFKA_REGISTRY", "")


def test_a_container_is_given_the_secrets_that_its_process_reads_and_no_other() -> None:
    files = re.findall(r"^#   (.+) > deploy/secrets/(\w+\.toml)", (DEPLOY / "compose.yaml").read_text(), re.MULTILINE)
    holds = {file: set(re.findall(r'echo "(\w+) = ', words)) for words, file in files}
    holds["settings.toml"] |= holds["keys.toml"]
    sources = {name: Path(each["file"]).name for name, each in COMPOSE["secrets"].items()}
    for name, each in OURS.items():
        role = {"api": SERVER}.get(each["command"][2], each["command"][2])
        given = {sources[secret["source"]]: secret["target"] for secret in each.get("secrets", ())}
        held = set().union(*(holds.get(file, set()) for file in given))
        needed = {secret for secret in ("secret_key", "key_master") if role in ABOUT[secret].readers}
        assert held == needed, name
        config = each["environment"].get("TG_CONFIG")
        assert bool(needed) is (config in {f"/run/secrets/{target}" for target in given.values()}), name


def _need_no_others(project: Path, dependencies: str) -> None:
    """Packages of other people cannot be had without a network, and are not what is looked at."""
    text, count = re.subn(r"(?ms)^dependencies = \[.*?^\]", f"dependencies = {dependencies}", project.read_text())
    assert count == 1
    project.write_text(text)


def _copy(path: Path, to: Path) -> None:
    """As a build does, which is not given what the checkout's ignore file names."""
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copyfile(path, to)


@dataclass
class Containers:
    """What compose would start, as processes of this machine: names of services and paths are mapped, nothing else."""

    root: Path
    api: int

    def environment(self, service: str) -> dict[str, str]:
        """A service's variables, by the addresses and paths of here."""
        given = {name: self._here(str(value)) for name, value in OURS[service]["environment"].items()}
        return {**os.environ, **given, "TG_KAFKA_PREFIX": self.root.name, "OMP_NUM_THREADS": "2"}

    def command(self, service: str) -> list[str]:
        words = [self._here(word) for word in OURS[service]["command"]]
        return [str(BIN / "tensorguard"), *("127.0.0.1" if word == "0.0.0.0" else word for word in words)]  # noqa: S104 -- compared with

    def health(self, service: str) -> list[str]:
        words = [self._here(word) for word in OURS[service]["healthcheck"]["test"][1:]]
        return [sys.executable if word == "python" else word for word in words]

    @property
    def data(self) -> Path:
        return self.root / "data"

    def _here(self, word: str) -> str:
        found = {
            "kafka://kafka:9092": f"kafka://{broker().servers}",
            "http://registry:8080/apis/ccompat/v7": registry().url,
            "/data": str(self.data),
            "8000": str(self.api),
        }
        return found.get(word, word.replace("/run/secrets", str(self.root / "secrets")))

    @contextmanager
    def started(self, service: str) -> Iterator[None]:
        log = (self.root / f"{service}.log").open("ab")
        process = subprocess.Popen(self.command(service), env=self.environment(service), stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            ended = process.wait(40)
            log.close()
        assert ended == 0, (self.root / f"{service}.log").read_text()[-2000:]

    def wait_ready(self) -> None:
        """As whoever balances the load does; then everything is healthy as well, by the health check of the file."""
        trusted, pause = ssl.create_default_context(cafile=self.root / "ca.pem"), threading.Event()
        for _ in range(int(PATIENCE)):
            with suppress(httpx.TransportError):
                if httpx.get(f"https://127.0.0.1:{self.api}/readyz", verify=trusted, timeout=10).is_success:
                    break
            pause.wait(1.0)
        done = run(*self.health("api-1"))
        assert done.returncode == 0, done.stderr


@pytest.fixture
def containers(tmp_path_factory: pytest.TempPathFactory) -> Containers:
    root = tmp_path_factory.mktemp("compose")
    secrets = root / "secrets"
    secrets.mkdir()
    master, signing = (f'{name} = "{byte * 32}"\n' for name, byte in (("key_master", "4a"), ("secret_key", "5e")))
    for name, words in (("keys.toml", master), ("settings.toml", master + signing)):
        (secrets / name).touch(mode=0o600)
        (secrets / name).write_text(words)
    certified = Authority(root).certify("api")
    certified.cert.rename(secrets / "tls.crt")
    certified.key.rename(secrets / "tls.key")
    return Containers(root, free_port())


@pytest.mark.timeout(600)
def test_the_roles_of_the_compose_file_train_together(containers: Containers) -> None:
    with ExitStack() as stack:
        for service in OURS:
            if service != "api-2":  # it is api-1 with another port
                stack.enter_context(containers.started(service))
        containers.wait_ready()
        environment = containers.environment("api-1")
        key = _json(environment, "keys", "issue", "--data-dir", containers.data, "--tenant", "acme")["api_key"]
        model = build_tiny_model(containers.root / "model")
        _json(environment, "models", "add", "tiny", model, "--data-dir", containers.data)
        url, ca = f"https://127.0.0.1:{containers.api}", containers.root / "ca.pem"
        with ServiceClient(base_url=url, api_key=key, ca=ca) as client:
            steps = [each.result(timeout=PATIENCE).step for each in send_steps(client.create_training_client(RUN), 2)]
        assert steps == [1, 2]


def _json(environment: Mapping[str, str], *words: str | Path) -> Any:
    done = subprocess.run(
        [str(BIN / "tensorguard"), *map(str, words), "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
