"""A model hub on the loopback address: the endpoints that huggingface_hub asks for information and files."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tests.support.http_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = (".safetensors",)
"""What a hub keeps by SHA-256 and not in git."""


@dataclass
class Hub:
    """Repositories by id: the files of one commit, which its branch ``main`` names. ``asked`` has every path."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tampered: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def publish(self, repository: str, folder: Path, **more: bytes) -> str:
        """Take a folder's files as a new commit; its hash."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()} | more
        self.repositories[repository] = files
        content = json.dumps({name: sha256(data).hexdigest() for name, data in sorted(files.items())})
        self.commits[repository] = sha1(content.encode(), usedforsecurity=False).hexdigest()
        return self.commits[repository]

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        self.asked.append(path)
        for repository, files in self.repositories.items():
            api, resolve = f"/api/models/{repository}", f"/{repository}/resolve/"
            if path == api or path.startswith(f"{api}/"):
                kind, _, revision = path.removeprefix(api).strip("/").partition("/")
                return self._described(repository, kind, revision or "main")
            if path.startswith(resolve):
                _, _, name = path.removeprefix(resolve).partition("/")
                return self._file(repository, name, files)
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def _described(self, repository: str, kind: str, revision: str) -> tuple[int, dict[str, str], bytes]:
        if revision not in {"main", self.commits[repository]}:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        value = self._tree(repository) if kind == "tree" else self._info(repository)
        return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

    def _file(self, repository: str, name: str, files: dict[str, bytes]) -> tuple[int, dict[str, str], bytes]:
        if name not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        headers = {"X-Repo-Commit": self.commits[repository], "ETag": f'"{_etag(name, files[name])}"'}
        return 200, headers, self.tampered.get(name, files[name])

    def _info(self, repository: str) -> dict[str, Any]:
        files = self.repositories[repository]
        siblings = [{"rfilename": name, **_blob(name, data)} for name, data in sorted(files.items())]
        return {"id": repository, "sha": self.commits[repository], "siblings": siblings}

    def _tree(self, repository: str) -> list[dict[str, Any]]:
        files = self.repositories[repository]
        return [_entry(name, data) for name, data in sorted(files.items())]


def _etag(name: str, data: bytes) -> str:
    blob = sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return sha256(data).hexdigest() if name.endswith(LARGE) else blob


def _blob(name: str, data: bytes) -> dict[str, Any]:
    large = {"lfs": {"sha256": sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
    return {"size": len(data), "blobId": _etag("", data), **(large if name.endswith(LARGE) else {})}


def _entry(name: str, data: bytes) -> dict[str, Any]:
    large = {"lfs": {"oid": sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}}
    found = {"type": "file", "path": name, "oid": _etag("", data), "size": len(data)}
    return {**found, **(large if name.endswith(LARGE) else {})}


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block is left."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            status, headers, body = hub.answer(unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = _answer  # noqa: N815 -- the names that the base class calls

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler) as hub.url:
        yield hub
