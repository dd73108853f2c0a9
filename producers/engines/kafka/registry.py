"""A schema registry, by the three calls of Confluent's REST interface that a writer makes.

Subjects are the full names of the records (``tensorguard.record.<Event>``), each with a compatibility that includes
BACKWARD: whoever reads with the newest schema reads all records. Small enough to stand here: Confluent's own client
would bring four more packages into the server for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from producers.engines.errors import EngineError
from producers.engines.kafka.framing import MAX_ID

BACKWARD = "BACKWARD"
_AT_LEAST_BACKWARD = frozenset({BACKWARD, "BACKWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"})
_ABSENT = frozenset({40401, 40402, 40403, 40408})
"""What a registry says of a subject, a version, a schema and a compatibility that it does not have."""
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_HEADERS = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
_SAID = 300


class RegistryUnavailableError(EngineError):
    """The schema registry does not answer as one."""

    code = "registry_unavailable"
    next_step = (
        "Start the schema registry or correct TG_KAFKA_REGISTRY, then start the writer again: nothing was written, and "
        "reading the ledger needs no registry."
    )


class RegistryDeniedError(EngineError):
    """The schema registry does not let this writer in."""

    code = "registry_denied"
    next_step = "Give TG_KAFKA_REGISTRY a user and password that may register schemas: https://USER:PASSWORD@HOST/…"


class SchemaRefusedError(EngineError):
    """The schema registry refuses a schema: who reads with it could not read what its subject's last one wrote."""

    code = "schema_refused"
    next_step = (
        "Start the build that wrote before, or newer; or use a registry of this ledger's own. Nothing was written."
    )


class SchemaRegistry:
    """The registry at a URL, such as ``https://user:password@host``; its path is kept, credentials are never shown.

    Raises:
        RegistryUnavailableError: the text is no URL of a registry.
    """

    def __init__(self, url: str) -> None:
        try:
            given = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise RegistryUnavailableError("The schema registry's address is no URL.") from error
        if given.scheme not in {"http", "https"} or not given.host:
            raise RegistryUnavailableError("The schema registry's address is no http:// or https:// URL.")
        self._url = given.copy_with(username=None, password=None, query=None, fragment=None)
        self._auth = (given.username, given.password) if given.username else None

    def ids_of(self, texts: Sequence[str]) -> list[int]:
        """The ids of record schemas; what is not registered yet is from now on.

        Raises:
            RegistryUnavailableError: no answer, or not that of a registry.
            RegistryDeniedError: credentials are missing, or do not suffice.
            SchemaRefusedError: a schema is not compatible with the one before it.
        """
        with self._client() as client:
            return [_Subject(client, json.loads(text)["name"]).id_of(text) for text in texts]

    def unregistered(self, texts: Sequence[str]) -> list[str]:
        """The names of those records whose schemas a writer would register: nothing is changed.

        Raises:
            RegistryUnavailableError: no answer, or not that of a registry.
            RegistryDeniedError: credentials are missing, or do not suffice.
            SchemaRefusedError: a schema would be refused.
        """
        with self._client() as client:
            subjects = [(_Subject(client, json.loads(text)["name"]), text) for text in texts]
            return [subject.name for subject, text in subjects if subject.would_register(text)]

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self._url, auth=self._auth, timeout=_TIMEOUT, headers=_HEADERS)


class _Subject:
    """One subject of a registry."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self._client = client
        self.name = name
        self._path = quote(name, safe="")

    def id_of(self, text: str) -> int:
        """Find a schema's id, or register it; a compatibility without BACKWARD is set right before that."""
        if not self._is_backward():
            self._make_backward()
        schema = {"schema": text}
        found = self._ask("POST", f"/subjects/{self._path}", schema)
        registered = found or self._register(schema)
        number = registered.get("id") if registered else None
        if not isinstance(number, int) or not 0 < number <= MAX_ID:
            raise RegistryUnavailableError(f"The schema registry gave no id for {self.name}.")
        return number

    def _is_backward(self) -> bool:
        level = self._ask("GET", f"/config/{self._path}")
        return level is not None and level.get("compatibilityLevel") in _AT_LEAST_BACKWARD

    def _make_backward(self) -> None:
        try:
            self._ask("PUT", f"/config/{self._path}", {"compatibility": BACKWARD})
        except SchemaRefusedError:
            # As below: set by another sequencer in this moment, it may be refused to the second.
            if not self._is_backward():
                raise

    def _register(self, schema: dict[str, str]) -> dict[str, Any] | None:
        try:
            return self._ask("POST", f"/subjects/{self._path}/versions", schema)
        except SchemaRefusedError:
            # A sequencer of another partition may have registered it in this moment: a registry may refuse the second.
            found = self._ask("POST", f"/subjects/{self._path}", schema)
            if found is None:
                raise
            return found

    def would_register(self, text: str) -> bool:
        """Whether a schema is not there yet, but may come."""
        schema = {"schema": text}
        if self._ask("POST", f"/subjects/{self._path}", schema):
            return False
        verdict = self._ask("POST", f"/compatibility/subjects/{self._path}/versions/latest", schema)
        if verdict and not verdict.get("is_compatible"):
            raise SchemaRefusedError(f"The schema registry would refuse {self.name}.")
        return True

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any] | None:
        """The answer to one call; None if the registry does not have what is asked for."""
        try:
            response = self._client.request(method, path, json=body)
        except httpx.RequestError as error:
            raise RegistryUnavailableError(
                f"The schema registry at {self._client.base_url.host} does not answer."
            ) from error
        answer = _object(response)
        if response.is_success and answer is not None:
            return answer
        if response.status_code == httpx.codes.NOT_FOUND and answer and answer.get("error_code") in _ABSENT:
            return None
        raise self._refusal(response.status_code, answer or {})

    def _refusal(self, status: int, answer: dict[str, Any]) -> EngineError:
        said = str(answer.get("message", ""))[:_SAID]
        if status in {httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY}:
            return SchemaRefusedError(f"The schema registry refuses {self.name}: {said}")
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return RegistryDeniedError(f"The schema registry answers {status} about {self.name}.")
        return RegistryUnavailableError(f"The schema registry answers {status} about {self.name}: {said}")


def _object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
