"""A broker in a container, of the image that ``deploy/compose.yaml`` names: where Docker is and Java is not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from docker.errors import APIError, DockerException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.support.kafka import READY, SMALL, Broker
from tests.support.shared import Running

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from docker.models.containers import Container

ROOT = Path(__file__).parents[2]
_CONTROLLER = "127.0.0.1:9093"
# Its own reaper is one more image, and ends what a worker process began when that is done, though others go on with it.
testcontainers_config.ryuk_disabled = True


class ContainerBroker(Broker):
    """Its data outlast a ``stop``, and it goes with the test run, however that ends.

    Raises:
        RuntimeError: there is no Docker, or no such image.
    """

    def __init__(self, settings: Sequence[str] = ()) -> None:
        service = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["kafka"]
        self._box = _box(service["image"])
        super().__init__(settings)
        self._box.with_envs(**{**service["environment"], **self._own()})
        self._box.ports[str(self.port)] = ("127.0.0.1", self.port)

    def start(self) -> None:
        """Start it, or start it again on what it has stored."""
        since = time.time()
        if self._box._container is None:
            self._box.start()
            self._watch()
        else:
            self._container.start()
        if not any(READY in line.decode(errors="replace") for line in self._said(since)):
            raise RuntimeError(f"The broker ended: {self._container.logs(tail=20).decode(errors='replace')}")

    def signal(self, number: signal.Signals) -> None:
        """Pause it, let it go on, or kill it; a pause has begun when this returns."""
        does = {
            signal.SIGSTOP: self._container.pause,
            signal.SIGCONT: self._go_on,
            signal.SIGKILL: self._container.kill,
        }
        does[number]()

    def stop(self) -> None:
        """End it and wait until it is gone; its data stay."""
        if self._box._container is None:
            return
        self._go_on()
        with suppress(APIError):  # it does not run
            self._container.kill()
        self._container.wait()

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        self._box.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> Running:
        """It as other processes know it."""
        return Running(None, str(self.folder), self.servers)

    @property
    def _container(self) -> Container:
        return self._box.get_wrapped_container()

    def _go_on(self) -> None:
        with suppress(APIError):  # as a process: one that is not paused just goes on
            self._container.unpause()

    def _own(self) -> dict[str, str]:
        """What is different from the deployment's: found on this machine, small, and with the settings given."""
        listens = {
            "KAFKA_LISTENERS": f"PLAINTEXT://:{self.port},CONTROLLER://{_CONTROLLER}",
            "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://{self.servers}",
            "KAFKA_CONTROLLER_QUORUM_VOTERS": f"1@{_CONTROLLER}",
            "KAFKA_HEAP_OPTS": "-Xms96m -Xmx256m",
            "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        }
        return {**listens, **dict(_variable(setting) for setting in (*SMALL, *self.settings))}

    def _said(self, since: float) -> Iterable[Any]:
        """Line by line until it ends."""
        return self._container.logs(stream=True, follow=True, since=since)

    def _watch(self) -> None:
        owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
        words = (self._box.get_container_id(), self.folder, owner)
        command = [sys.executable, "-m", "tests.support.reaper", *map(str, words)]
        subprocess.Popen(command, cwd=ROOT, start_new_session=True)


def _box(image: str) -> DockerContainer:
    try:
        box = DockerContainer(image)
        images = box.get_docker_client().client.images
        if not images.list(image):
            images.pull(image)
    except DockerException as error:
        raise RuntimeError(f"{image} cannot be had from Docker: {error}") from error
    return box


def _variable(setting: str) -> tuple[str, str]:
    """As the image reads settings: https://github.com/apache/kafka/blob/trunk/docker/examples/README.md."""
    name, _, value = setting.partition("=")
    signs = {".": "_", "_": "__", "-": "___"}
    return "KAFKA_" + re.sub(r"[._-]", lambda found: signs[found[0]], name).upper(), value
