"""Constants in fewer bytes than elements: int4 weights and sparse ones, and sparsity that contradicts itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from naive.cases import generator, product
from naive.oracle import Oracle, missing

from edgeq.cli import main
from edgeq.engine import build
from edgeq.errors import CheckError
from edgeq.graph import Graph, Tensor
from edgeq.packed import dense, densified, nibbles
from edgeq.tflite import read, write
from edgeq.tflite.schema import table

f32 = np.float32


def halves(values: np.ndarray) -> np.ndarray:
    """int4 values as bytes, the low half first."""
    flat = values.reshape(-1).astype(np.uint8) & 15
    return (flat[0::2] | np.append(flat[1::2], [0] * (flat.size % 2)).astype(np.uint8) << 4).astype(np.uint8)


def test_nibbles() -> None:
    """Every int4 comes back, of an odd number too."""
    values = np.array([-8, -1, 0, 7, 3], np.int8)
    assert nibbles(halves(values), 5).tolist() == values.tolist()


@pytest.mark.parametrize("code", ["FULLY_CONNECTED", "CONV_2D"])
def test_int4_weights_equal_the_runtime(code: str) -> None:
    """A layer of int8 with int4 weights gives LiteRT's integers."""
    graph = product(f"{code} int8", code, "int8", per_channel=False).graph
    w = graph.tensors[1]
    values = generator(code).integers(-7, 8, w.shape).astype(np.int8)
    small = replace(w, dtype="int4", data=halves(values))
    packed = graph.with_main(tensors=(graph.tensors[0], small, *graph.tensors[2:]))
    wide = graph.with_main(tensors=(graph.tensors[0], replace(w, data=values), *graph.tensors[2:]))
    x = np.random.default_rng(0).integers(-128, 128, graph.tensors[0].shape).astype(np.int8)
    for rounding in ("tflite", "xnnpack"):
        with build(packed, rounding=rounding) as model, build(wide, rounding=rounding) as other:
            np.testing.assert_array_equal(model(x), other(x))
    if reason := missing("xnnpack"):
        pytest.skip(reason)
    with build(packed, rounding="tflite") as model:
        np.testing.assert_array_equal(model(x), Oracle(write(packed), "xnnpack", resolver="BUILTIN_REF")([x])[0])


def csr(values: np.ndarray, **changes: object) -> Tensor:
    """A matrix in rows of what is not 0."""
    rows, columns = np.nonzero(values)
    segments = np.searchsorted(rows, np.arange(len(values) + 1))
    levels = [
        table("DimensionMetadata", format=0, dense_size=values.shape[0]),
        table("DimensionMetadata", format=1, **{
            "array_segments": table("Int32Vector", values=tuple(map(int, segments))),
            "array_indices": table("Int32Vector", values=tuple(map(int, columns))),
            **changes,
        }),
    ]  # fmt: skip
    sparsity = table("SparsityParameters", traversal_order=(0, 1), dim_metadata=tuple(levels))
    data = values[rows, columns].astype(f32)
    return Tensor("w", values.shape, "float32", np.frombuffer(data.tobytes(), np.uint8), sparsity=sparsity, buffer=1)


VALUES = np.where(np.random.default_rng(1).random((5, 7)) < 0.4, np.arange(35).reshape(5, 7) + 1.0, 0.0)


def test_rows_of_what_is_not_zero() -> None:
    """A sparse matrix comes back, and its file is as it was."""
    np.testing.assert_array_equal(dense(csr(VALUES)), VALUES.astype(f32))
    graph = product("FULLY_CONNECTED float32", "FULLY_CONNECTED", "float32", per_channel=False).graph
    w = graph.tensors[1]
    thin = np.where(generator("thin").random(w.shape) < 0.2, np.asarray(w.data), 0).astype(f32)
    sparse = graph.with_main(tensors=(graph.tensors[0], csr(thin), *graph.tensors[2:]))
    content = write(sparse)
    assert write(read(content)) == content
    full = graph.with_main(tensors=(graph.tensors[0], replace(w, data=thin), *graph.tensors[2:]))
    x = np.random.default_rng(0).standard_normal(graph.tensors[0].shape).astype(f32)
    with build(read(content)) as model, build(full) as other:
        np.testing.assert_array_equal(model(x), other(x))


def test_commands_take_sparse_models(tmp_path: Path) -> None:
    """What runs a sparse model also judges, quantizes and seals it; quantizing makes its weights dense."""
    graph = product("FULLY_CONNECTED float32", "FULLY_CONNECTED", "float32", per_channel=False).graph
    thin = np.where(generator("thin").random(graph.tensors[1].shape) < 0.2, np.asarray(graph.tensors[1].data), 0)
    path, data = str(tmp_path / "m.tflite"), str(tmp_path / "x.npz")
    Path(path).write_bytes(write(graph.with_main(tensors=(graph.tensors[0], csr(thin), *graph.tensors[2:]))))
    np.savez(data, x=np.random.default_rng(0).standard_normal((16, *graph.tensors[0].shape)).astype(f32))
    assert main(["lint", path, "--target", "edgeq"]) == 0
    assert main(["quantize", path, "-d", data, "-o", str(tmp_path / "q.tflite")]) == 0
    assert all(t.sparsity is None for t in read((tmp_path / "q.tflite").read_bytes()).tensors)
    assert main(["keys", "new", "publisher", str(tmp_path / "p")]) == 0
    key = ["--key", str(tmp_path / "p.key"), "--model-id", "m", "--version", "1"]
    assert main(["seal", path, *key, "-o", str(tmp_path / "m.eqb")]) == 0


WRONG = {
    "an index outside": {"array_indices": table("Int32Vector", values=(99,) * 14)},
    "segments that fall": {"array_segments": table("Int32Vector", values=(0, 9, 3, 3, 3, 3))},
    "too few segments": {"array_segments": table("Int32Vector", values=(0, 1))},
    "no segments": {"array_segments": None},
    "more places than values": {
        "array_segments": table("Int32Vector", values=(0, 20, 40, 60, 80, 99)),
        "array_indices": table("Int32Vector", values=(0,) * 99),
    },
}


@pytest.mark.parametrize("name", WRONG)
def test_sparsity_that_contradicts_itself_is_refused(name: str) -> None:
    """Each fault is an error before anything is read or written where it should not be."""
    wrong = csr(VALUES, **WRONG[name])
    graph: Graph = product("FULLY_CONNECTED float32", "FULLY_CONNECTED", "float32", per_channel=False).graph
    with pytest.raises(CheckError, match="sparse tensor"):
        densified(graph.with_main(tensors=(graph.tensors[0], wrong, *graph.tensors[2:])))
