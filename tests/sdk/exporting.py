"""A server that exports one artifact over real sockets, and cuts its answers where a test says."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from tensorguard.model_manifest import FileDigest, manifest_digest

from tests.support.http_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ARTIFACT = "0a" * 16
NOW = "2026-01-02T03:04:05.000006Z"


@dataclass
class Exports:
    """What is exported. ``cuts`` says after how many bytes each next file's answer breaks off; None: not at all.

    ``told`` are digests of files that are said in the place of the right ones.
    """

    files: dict[str, bytes]
    url: str = ""
    cuts: deque[int | None] = field(default_factory=deque)
    ranges: list[str | None] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    forged: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    pending: int = 0
    failure: str | None = None
    asked: int = 0

    def described(self, export_id: str) -> dict[str, Any]:
        """The export as it stands."""
        waiting, self.pending = self.pending > 0, max(0, self.pending - 1)
        status = "pending" if waiting else "failed" if self.failure else "ready"
        digests = {name: sha256(data).hexdigest() for name, data in self.files.items()} | self.told
        listed = [FileDigest(name, digests[name], len(data)) for name, data in self.files.items()]
        files = [{"name": f.path, "sha256": f.sha256, "size_bytes": f.size_bytes} for f in listed]
        return {
            "export_id": export_id,
            "artifact_id": ARTIFACT,
            "format": "peft",
            "status": status,
            "files": files if status == "ready" else None,
            "files_digest": manifest_digest(listed).hex() if status == "ready" else None,
            "error": {"code": self.failure, "detail": "No."} if status == "failed" else None,
        }


@contextlib.contextmanager
def exporting(files: dict[str, bytes]) -> Iterator[Exports]:
    """The server, until the block is left."""
    exports = Exports(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            exports.asked += 1
            self._json(202, exports.described(f"export-{exports.asked}"))

        def do_DELETE(self) -> None:
            exports.deleted.append(self.path.rpartition("/")[2])
            self._send(204, {}, b"")

        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].split("/")
            if "files" not in parts:
                return self._json(200, exports.described(parts[-1]))
            return self._file(parts[-1])

        def _file(self, name: str) -> None:
            whole = exports.forged.get(name, exports.files[name])
            wanted = self.headers.get("Range")
            exports.ranges.append(wanted)
            fits = wanted and self.headers.get("If-Range") == f'"{sha256(exports.files[name]).hexdigest()}"'
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fits else 0
            cut = exports.cuts.popleft() if exports.cuts else None
            self._send(206 if fits else 200, {}, whole[start:], cut)

        def _json(self, status: int, value: Any) -> None:
            self._send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

        def _send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[:cut])
            self.close_connection = cut is not None

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serving(Handler) as exports.url:
        yield exports
