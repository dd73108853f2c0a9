"""Files from a path or an address. What is fetched is ciphertext and proofs; it is checked after, not trusted."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

import httpx
from tensorguard.errors import UsageError

from edge.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SMALL_BYTES = 1 << 20
MAX_PACKAGE_BYTES = 1 << 40
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Opens paths and http(s) addresses; the API key goes to one origin only."""

    api_key: str | None = None
    origin: str | None = None

    @contextmanager
    def opened(self, place: str, limit: int = MAX_PACKAGE_BYTES) -> Iterator[BinaryIO]:
        """A file to seek in, for as long as the block lasts.

        Raises:
            UsageError: there is no such file.
            FetchError: the server does not give it, or gives more than ``limit`` bytes.
        """
        if not is_address(place):
            with _local(place) as file:
                yield file
            return
        with tempfile.TemporaryFile() as file:
            self._download(place, file, limit)
            file.seek(0)
            yield cast("BinaryIO", file)

    def small(self, place: str) -> bytes:
        """A whole small file. Raises what :meth:`opened` raises."""
        with self.opened(place, MAX_SMALL_BYTES) as file:
            return file.read(MAX_SMALL_BYTES + 1)

    def headers(self, address: str) -> dict[str, str]:
        """What a request carries beside its address."""
        known = self.api_key and origin_of(address) == self.origin
        return {"Authorization": f"Bearer {self.api_key}"} if known else {}

    def _download(self, address: str, out: IO[bytes], limit: int) -> None:
        size = 0
        try:
            with httpx.stream("GET", address, headers=self.headers(address), timeout=_TIMEOUT) as response:
                if response.status_code != httpx.codes.OK:
                    raise FetchError(f"The server answered {response.status_code}.")
                for block in response.iter_bytes():
                    size += len(block)
                    if size > limit:
                        raise FetchError(f"The server sends more than {limit} bytes.")
                    out.write(block)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise FetchError(f"The file could not be fetched ({type(error).__name__}).") from error


def is_address(place: str) -> bool:
    """Whether a place is an http(s) address rather than a path."""
    return place.startswith(("http://", "https://"))


def origin_of(address: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


@contextmanager
def _local(place: str) -> Iterator[BinaryIO]:
    try:
        file = open(place, "rb")  # noqa: PTH123, SIM115 (a path or an address; closed just below)
    except OSError as error:
        raise UsageError(f"{place} cannot be read ({error.strerror}).") from error
    with file:
        yield file
