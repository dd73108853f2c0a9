"""Bodies go out compressed where that helps: large, to another machine, to a server that takes them."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from tg_tinker import ServiceClient, TrainingConfig
from tg_tinker.compression import LEAST_BYTES, Compression

from tests.sdk import simulator as simulation
from tests.sdk.simulator import Simulator

TAKES = {"accept-encoding": "gzip, zstd"}
LARGE = b"1," * LEAST_BYTES
HEADERS = {"Content-Type": "application/json"}


def applied(url: str = "https://tensorguard.example", body: bytes | None = LARGE, **answer: Any) -> dict[str, str]:
    compression = Compression(url)
    compression.learn(answer.get("headers", TAKES))
    headers, sent = compression.apply(HEADERS, body)
    assert (gzip.decompress(sent or b"") if "Content-Encoding" in headers else sent) == body
    return headers


def test_a_large_body_to_another_machine_is_compressed() -> None:
    assert applied() == {**HEADERS, "Content-Encoding": "gzip"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]:8000", "http://127.8.9.1"])
def test_nothing_is_compressed_for_this_machine(url: str) -> None:
    assert applied(url) == HEADERS


@pytest.mark.parametrize("body", [None, b"", b"x" * (LEAST_BYTES - 1)])
def test_small_bodies_are_left_alone(body: bytes | None) -> None:
    assert applied(body=body) == HEADERS


@pytest.mark.parametrize("codings", ["", "zstd", "br;q=1.0", "gzipped"])
def test_a_server_that_does_not_take_gzip_gets_none(codings: str) -> None:
    assert applied(headers={"accept-encoding": codings}) == HEADERS
    assert applied(headers={}) == HEADERS


def test_one_body_compresses_to_the_same_bytes_each_time() -> None:
    compression = Compression("https://tensorguard.example")
    compression.learn(TAKES)
    assert compression.apply(HEADERS, LARGE) == compression.apply(HEADERS, LARGE)


def test_a_client_compresses_once_it_has_seen_that_the_server_takes_it(simulator: Simulator) -> None:
    here = simulator.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104 -- this machine by a name that is no loopback
    large = {name: [[1] * 2000] for name in ("input_ids", "attention_mask", "labels")}
    with ServiceClient(here, simulation.API_KEY) as client:
        training = client.create_training_client(TrainingConfig(model_ref="small"))
        assert training.forward_backward(large).result(timeout=5).loss == 2.5
    asked, sent = simulator.seen[0], simulator.seen[1]
    assert "content-encoding" not in asked.headers
    assert sent.headers["content-encoding"] == "gzip"
    assert sent.body["batch"] == large
