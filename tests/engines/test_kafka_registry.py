"""Schemas in a registry: a real one for what it does, a scripted server for what it may answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from tensorguard.ledger import format as fmt

from api.doctor.findings import FAILED, ok
from api.doctor.kafka import schemas_in
from producers.engines.errors import EngineError
from producers.engines.kafka.framing import Framer
from producers.engines.kafka.registry import (
    RegistryDeniedError,
    RegistryUnavailableError,
    SchemaRefusedError,
    SchemaRegistry,
)
from schemas.codec import EVENTS, event_schema
from tests.support.http_server import serving
from tests.support.registry import registry
from tests.support.server import free_port

EPOCH_OPENED = event_schema("EpochOpened").text


@pytest.fixture(scope="module")
def registry_url() -> str:
    return registry().url


def _text(event: str, *fields: str, default: str | None = None) -> str:
    """A record schema with text fields in its body; the last one has a default, if that is given."""
    given = [{"name": name, "type": "string"} for name in fields]
    if default is not None:
        given[-1]["default"] = default
    return fmt.record_schema_text({"type": "record", "name": f"tensorguard.event.{event}", "fields": given})


def test_every_record_schema_of_this_build_is_found_by_the_id_in_its_frame(registry_url: str) -> None:
    framer = Framer(SchemaRegistry(registry_url))
    framer.prepare()
    client = SchemaRegistryClient({"url": registry_url})
    for name in EVENTS:
        schema = event_schema(name)
        number = int.from_bytes(framer._heads[schema.digest][1:], "big")
        assert client.get_schema(number).schema_str == schema.text
        subject = f"tensorguard.record.{name}"
        assert client.lookup_schema(subject, Schema(schema.text, "AVRO")).schema_id == number
        assert client.get_compatibility(subject) == "BACKWARD"


def test_an_id_stays_the_same_for_every_writer_that_comes_later(registry_url: str) -> None:
    first, second = SchemaRegistry(registry_url), SchemaRegistry(registry_url)
    assert first.ids_of([EPOCH_OPENED]) == second.ids_of([EPOCH_OPENED])


def test_a_schema_that_reads_the_one_before_it_gets_an_id_of_its_own(registry_url: str) -> None:
    before, after = _text("Grown", "a"), _text("Grown", "a", "b", default="")
    first, second = SchemaRegistry(registry_url).ids_of([before, after])
    assert first != second
    assert SchemaRegistry(registry_url).ids_of([before, after]) == [first, second]


def test_a_schema_that_cannot_read_the_one_before_it_is_refused(registry_url: str) -> None:
    registry = SchemaRegistry(registry_url)
    registry.ids_of([_text("Broken", "a")])
    with pytest.raises(SchemaRefusedError, match=r"tensorguard\.record\.Broken") as refused:
        registry.ids_of([_text("Broken", "a", "b")])
    assert refused.value.next_step
    assert SchemaRegistryClient({"url": registry_url}).get_versions("tensorguard.record.Broken") == [1]


def test_one_can_ask_what_a_writer_would_register_without_registering_it(registry_url: str) -> None:
    registry = SchemaRegistry(registry_url)
    known, newer, breaking = _text("Asked", "a"), _text("Asked", "a", "b", default=""), _text("Asked", "a", "b")
    assert registry.unregistered([known]) == registry.unregistered([known]) == ["tensorguard.record.Asked"]
    registry.ids_of([known])
    assert registry.unregistered([known]) == []
    assert registry.unregistered([known, newer]) == ["tensorguard.record.Asked"]
    with pytest.raises(SchemaRefusedError):
        registry.unregistered([breaking])


def test_the_doctor_says_what_a_registry_has(registry_url: str) -> None:
    Framer(SchemaRegistry(registry_url)).prepare()
    assert schemas_in(registry_url) == ok("registry", "It has the schemas of all records that this build writes.")
    elsewhere = schemas_in(f"{registry_url}/none")
    assert (elsewhere.state, elsewhere.next_step) == (FAILED, RegistryUnavailableError.next_step)


@pytest.mark.parametrize(("level", "then"), [("NONE", "BACKWARD"), ("FORWARD", "BACKWARD"), ("FULL", "FULL")])
def test_a_subject_keeps_a_stricter_compatibility_and_no_weaker_one(registry_url: str, level: str, then: str) -> None:
    subject = f"tensorguard.record.Kept{level}"
    client = SchemaRegistryClient({"url": registry_url})
    client.register_schema(subject, Schema(_text(f"Kept{level}", "a"), "AVRO"))
    client.set_compatibility(subject, level)
    SchemaRegistry(registry_url).ids_of([_text(f"Kept{level}", "a")])
    assert client.get_compatibility(subject) == then


ANSWERS: dict[str, tuple[int, bytes, type[EngineError]]] = {
    "it fails": (500, b'{"error_code":50001,"message":"store"}', RegistryUnavailableError),
    "it is another server": (200, b"<html>hello</html>", RegistryUnavailableError),
    "it is another path": (404, b'{"error_code":404,"message":"HTTP 404 Not Found"}', RegistryUnavailableError),
    "it sends elsewhere": (302, b"", RegistryUnavailableError),
    "it gives no id": (200, b'{"compatibilityLevel":"BACKWARD"}', RegistryUnavailableError),
    "its id is a text": (200, b'{"compatibilityLevel":"BACKWARD","id":"7"}', RegistryUnavailableError),
    "its id is 0": (200, b'{"compatibilityLevel":"BACKWARD","id":0}', RegistryUnavailableError),
    "its id has 32 bits": (200, b'{"compatibilityLevel":"BACKWARD","id":2147483648}', RegistryUnavailableError),
    "it wants a password": (401, b"", RegistryDeniedError),
    "it forbids": (403, b'{"error_code":40301,"message":"no"}', RegistryDeniedError),
    "it is no Avro schema": (422, b'{"error_code":42201,"message":"Invalid"}', SchemaRefusedError),
    "it is not compatible": (409, b'{"error_code":409,"message":"Incompatible"}', SchemaRefusedError),
}


@contextmanager
def _server(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything alike; the ``Authorization`` headers it has seen."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if self.raw_requestline and self.parse_request():
                seen.append(self.headers.get("Authorization", ""))
                self.send_response_only(status)
                self.end_headers()
                self.wfile.write(body)

    with serving(Handler) as url:
        yield url.removeprefix("http://"), seen


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_answer_of_a_registry_is_a_clear_error(name: str) -> None:
    status, body, error = ANSWERS[name]
    with _server(status, body) as (place, _), pytest.raises(error) as refused:
        SchemaRegistry(f"http://{place}").ids_of([EPOCH_OPENED])
    assert refused.value.next_step


def test_a_schema_that_another_writer_registers_in_the_same_moment_is_no_fault() -> None:
    answers = {
        "GET /config": [(404, {"error_code": 40408}), (200, {"compatibilityLevel": "BACKWARD"})],
        "PUT /config": [(409, {"error_code": 409})],
        "POST /subjects": [(404, {"error_code": 40403}), (409, {"error_code": 409}), (200, {"id": 7})],
    }

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if self.raw_requestline and self.parse_request():
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                name = next(name for name in answers if f"{self.command} {self.path}".startswith(name))
                status, body = answers[name].pop(0)
                self.send_response_only(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

    with serving(Handler) as url:
        assert SchemaRegistry(url).ids_of([EPOCH_OPENED]) == [7]


def test_a_registry_that_is_away_stops_a_writer_before_it_writes() -> None:
    framer = Framer(SchemaRegistry(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(RegistryUnavailableError, match="does not answer"):
        framer.prepare()


def test_a_password_goes_to_the_registry_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    with _server(401, b"") as (place, seen), pytest.raises(RegistryDeniedError) as refused:
        SchemaRegistry(f"http://writer:s3%40cret@{place}").ids_of([EPOCH_OPENED])
    assert seen == ["Basic d3JpdGVyOnMzQGNyZXQ="]
    assert "cret" not in f"{refused.value} {refused.value.__cause__!r} {caplog.text}"


@pytest.mark.parametrize("url", ["", "registry:8081", "ftp://registry", "http://", "http://h:port"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RegistryUnavailableError):
        SchemaRegistry(url)
