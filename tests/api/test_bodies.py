"""Compressed request bodies: taken piece by piece, never inflated further than a body may go."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from api.bodies import MAX_RATIO, RATIO_FROM, RequestBody
from api.errors import ApiError
from tests.support.doors import Doors, batch

LIMIT = 8 << 20
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
    "": bytes,
}


def body(encoding: str, limit: int = LIMIT) -> RequestBody:
    return RequestBody([(b"content-encoding", encoding.encode())] if encoding else [], limit)


def taken(encoding: str, data: bytes, size: int = 1 << 16, limit: int = LIMIT) -> bytes:
    """The whole body, sent in pieces of a size."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    into = body(encoding, limit)
    return b"".join(into.take(piece, last=number == len(pieces) - 1) for number, piece in enumerate(pieces))


def refusal(encoding: str, data: bytes, **given: int) -> str:
    with pytest.raises(ApiError) as refused:
        taken(encoding, data, **given)
    return refused.value.code


@given(data=st.binary(max_size=5000), encoding=st.sampled_from(sorted(COMPRESS)), size=st.integers(1, 700))
def test_a_body_comes_out_as_it_went_in_however_it_is_cut(data: bytes, encoding: str, size: int) -> None:
    assert taken(encoding, COMPRESS[encoding](data), size) == data


@given(data=st.binary(min_size=1, max_size=300), encoding=st.sampled_from(["gzip", "zstd"]), cut=st.integers(1, 20))
def test_a_stream_that_breaks_off_is_refused(data: bytes, encoding: str, cut: int) -> None:
    whole = COMPRESS[encoding](data)
    assert refusal(encoding, whole[: max(1, len(whole) - cut)]) == "malformed_encoding"


@given(data=st.binary(min_size=1, max_size=300), encoding=st.sampled_from(["gzip", "zstd"]))
def test_what_is_no_such_stream_is_refused_and_nothing_else_happens(data: bytes, encoding: str) -> None:
    try:
        taken(encoding, data)
    except ApiError as error:
        assert error.code == "malformed_encoding"  # noqa: PT017 -- random bytes may be a stream


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("more", [b"x", b"second"], ids=["garbage", "another stream"])
def test_bytes_behind_the_end_are_refused(encoding: str, more: bytes) -> None:
    tail = COMPRESS[encoding](more) if more != b"x" else more
    whole = COMPRESS[encoding](b"first") + tail
    assert refusal(encoding, whole) == "malformed_encoding"
    assert refusal(encoding, whole, size=len(whole) - len(tail)) == "malformed_encoding"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "gzip, zstd", "nonsense", "*"])
def test_an_encoding_that_is_not_taken_is_named_as_such(encoding: str) -> None:
    assert refusal(encoding, b"{}") == "unsupported_encoding"


@cache
def bombs() -> list[tuple[str, bytes]]:
    return list(_bombs())


def _bombs() -> Iterator[tuple[str, bytes]]:
    yield "gzip", gzip.compress(bytes(256 << 20), compresslevel=9)
    yield "zstd", zstandard.ZstdCompressor(level=19).compress(bytes(256 << 20))
    yield "zstd", zstandard.ZstdCompressor(level=1, write_content_size=False).compress(bytes(256 << 20))
    half = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield "gzip", half.compress(bytes(64 << 20))  # and no end


@pytest.mark.parametrize("size", [7, 1 << 16, 1 << 30])
def test_a_bomb_is_refused_before_it_goes_off(size: int) -> None:
    for encoding, data in bombs():
        tracemalloc.start()
        assert refusal(encoding, data, size=size) == "body_too_large"
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
        tracemalloc.stop()


def test_the_limit_holds_for_what_comes_in_and_for_what_comes_out() -> None:
    noise = bytes(range(256)) * 8
    assert refusal("", noise, limit=len(noise) - 1) == "body_too_large"
    for encoding in ("gzip", "zstd"):
        packed = COMPRESS[encoding](noise)
        assert taken(encoding, packed, limit=len(noise)) == noise
        assert refusal(encoding, packed, limit=len(noise) - 1) == "body_too_large"


def test_a_large_body_that_shrank_beyond_belief_is_refused_below_the_limit() -> None:
    data = bytes(RATIO_FROM + 1)
    assert len(gzip.compress(data)) * MAX_RATIO < len(data)
    assert refusal("gzip", gzip.compress(data)) == "body_too_large"
    assert taken("gzip", gzip.compress(data[:-1])) == data[:-1]


def test_a_window_that_costs_more_memory_than_a_body_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    huge = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = huge.compress(b"x" * 100) + huge.flush()
    assert refusal("zstd", packed) == "malformed_encoding"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_the_doors_take_compressed_batches_and_know_a_repeat_sent_plain(doors: Doors, encoding: str) -> None:
    run = doors.create()
    plain = json.dumps({"batch": batch()}).encode()
    path, headers = f"/v1/training_clients/{run}/forward_backward", {"Content-Type": "application/json"}
    headers["Idempotency-Key"] = "once"
    packed = {**headers, "Content-Encoding": encoding}
    first = doors.call("POST", path, headers=packed, content=COMPRESS[encoding](plain))
    again = doors.call("POST", path, headers=headers, content=plain)
    assert first.status_code == again.status_code == 202
    assert first.json()["future_id"] == again.json()["future_id"]


WRONG = {
    "another encoding": ("br", b"{}", 415, "unsupported_encoding"),
    "a broken stream": ("gzip", gzip.compress(b"{}")[:-1], 400, "malformed_encoding"),
    "no stream at all": ("zstd", b"{}", 400, "malformed_encoding"),
    "a bomb": ("gzip", gzip.compress(bytes(64 << 20)), 413, "body_too_large"),
}


@pytest.mark.parametrize(("encoding", "data", "status", "code"), WRONG.values(), ids=WRONG)
def test_a_body_that_cannot_be_taken_is_answered_by_its_problem(
    doors: Doors, encoding: str, data: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    answer = doors.call("POST", "/v1/training_clients", headers=headers, content=data)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["accept-encoding"] == "gzip, zstd"
    stranger = doors.client.post("/v1/training_clients", headers=headers, content=data)
    assert stranger.status_code == 401
