from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from tensorguard.tgsp.errors import PackageMalformedError
from tensorguard.tgsp.tensors import adapter_digest, build_header, parse

TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.float32([1.5]),
    "scalar": np.array(7, dtype=np.int64),
    "none": np.zeros((0, 4), dtype=np.float32),
}


def image_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_what_the_library_wrote_is_read() -> None:
    image = save(TENSORS, {"key": "value"})
    slices, metadata = parse(image)
    assert metadata == {"key": "value"}
    for name, tensor in TENSORS.items():
        assert slices[name].shape == tensor.shape
        assert image[slices[name].start : slices[name].end] == tensor.tobytes()


def test_what_is_written_the_library_reads() -> None:
    image = save(TENSORS)
    slices, _ = parse(image)
    header = build_header(slices, {"format": "pt"})
    rebuilt = header + b"".join(image[slices[name].start : slices[name].end] for name in sorted(slices))
    assert len(header) % 8 == 0
    for name, tensor in load(rebuilt).items():
        np.testing.assert_array_equal(tensor, TENSORS[name])


def test_the_digest_depends_on_names_types_shapes_and_values_and_not_on_the_order() -> None:
    def digest(tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]) -> bytes:
        image = save(tensors)
        return adapter_digest(image, parse(image)[0])

    base = {"a": np.float32([1, 2]), "b": np.float32([3])}
    variants = [
        {"a": np.float32([1, 2]), "c": np.float32([3])},
        {"a": np.float32([[1, 2]]), "b": np.float32([3])},
        {"a": np.float32([1, 2.5]), "b": np.float32([3])},
        {"a": np.float32([1, 2]).view(np.int32), "b": np.float32([3])},
    ]
    assert digest(dict(reversed(base.items()))) == digest(base)
    assert len({digest(variant) for variant in [base, *variants]}) == 5


F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x01", id="cut in the length"),
        pytest.param((1 << 62).to_bytes(8, "little"), id="a header longer than the file"),
        pytest.param(image_of(b"nonsense"), id="no JSON"),
        pytest.param(image_of([]), id="no object"),
        pytest.param(image_of({"a": []}), id="a tensor that is none"),
        pytest.param(image_of({"a": F32 | {"dtype": "F31"}}, bytes(4)), id="an unknown type"),
        pytest.param(image_of({"a": F32 | {"shape": [2]}}, bytes(4)), id="a shape that does not fit"),
        pytest.param(image_of({"a": F32 | {"shape": [-1]}}, bytes(4)), id="a negative size"),
        pytest.param(image_of({"a": F32 | {"shape": [1.0]}}, bytes(4)), id="a size that is no integer"),
        pytest.param(image_of({"a": F32 | {"data_offsets": [4, 8]}}, bytes(8)), id="a gap before"),
        pytest.param(image_of({"a": F32, "b": F32}, bytes(4)), id="two tensors on the same bytes"),
        pytest.param(image_of({"a": F32}, bytes(3)), id="data cut"),
        pytest.param(image_of({"a": F32}, bytes(5)), id="data left over"),
        pytest.param(image_of({"a": F32, "__metadata__": [1]}, bytes(4)), id="metadata that is none"),
    ],
)
def test_a_file_in_another_form_is_refused(image: bytes) -> None:
    with pytest.raises(PackageMalformedError):
        parse(image)


@given(st.binary(max_size=200))
def test_any_bytes_give_tensors_or_one_error(data: bytes) -> None:
    with suppress(PackageMalformedError):
        parse(len(data).to_bytes(8, "little") + data)
