"""What writing keeps, and that TFLite takes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tflite_compare import difference
from tflite_models import SHARED_MODELS, SMALL_MODELS, exotic, float_mlp, int8_cnn, q, real_models, shared_weights
from tflite_sites import sites

from edgeq.errors import CheckError, UnsupportedError
from edgeq.graph import Graph, Metadata, Op, Quantization, SubGraph, Table, Tensor
from edgeq.tflite import limits, read, write
from edgeq.tflite.buffers import assign
from edgeq.tflite.schema import layout, table
from edgeq.tflite.versions import BY_DTYPE, minimal_version

REAL = real_models() or [pytest.param(None, marks=pytest.mark.skip(reason="no real models beside this checkout"))]


def _id(path):
    return str(path.relative_to(SHARED_MODELS)) if path else "none"


@pytest.mark.parametrize("path", REAL, ids=_id)
def test_real_models_survive(path):
    """read → write → read is the identity on every real model, and writing is deterministic."""
    graph = read(path.read_bytes())
    written = write(graph)
    assert difference(graph, read(written)) is None
    assert write(graph) == written


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_small_models_survive(name):
    """A graph that was never in a file comes back from one as it was, every part that edgeq only carries included."""
    graph = SMALL_MODELS[name]()
    again = read(write(graph))
    assert difference(graph, again) is None
    assert write(again) == write(graph)


def test_every_table_survives():
    """Options of every type of the schema, each field with a value of its own, come back as they were."""
    from edgeq.tflite.schema import UNION_MEMBERS

    names = [*UNION_MEMBERS["BuiltinOptions"][1:], *UNION_MEMBERS["BuiltinOptions2"][1:]]
    ops = tuple(Op("CUSTOM", (0,), (0,), _filled(n), custom_code="c") for n in names)
    graph = Graph((SubGraph((Tensor("x", (1,), "float32"),), ops, (0,), (0,)),))
    assert difference(graph, read(write(graph))) is None


def _filled(name: str) -> Table:
    """A table whose fields all differ from their defaults."""
    values: dict[str, object] = {}
    for k, f in enumerate(layout(name).fields, start=2):
        if f.kind == "str":
            values[f.name] = f"text {k}"
        elif f.kind == "vector":
            assert f.items == "scalar"
            values[f.name] = {"B": bytes([k, 0, 255]), "?": (True, False), "f": (0.5, -k * 1.0)}.get(f.letter, (k, 0))
        else:
            values[f.name] = {"?": not f.default, "f": k + 0.25}.get(f.letter, k)
    return Table(name, values)


def _outputs(runtime, data: bytes, seed: int) -> list[np.ndarray]:
    interpreter = runtime.Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(seed)
    for d in interpreter.get_input_details():
        draw = rng.integers(-100, 100, d["shape"]) if d["dtype"] != np.float32 else rng.standard_normal(d["shape"])
        interpreter.set_tensor(d["index"], draw.astype(d["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


@pytest.mark.parametrize("package", ["tflite_runtime", "ai_edge_litert"])
@pytest.mark.parametrize("name", ["float mlp", "int8 cnn", "uint8 residual", "shared weights"])
def test_runtimes_take_small_models(package, name):
    """What edgeq writes loads and runs, and gives the same after another turn of reading and writing."""
    runtime = pytest.importorskip(f"{package}.interpreter")
    data = write(SMALL_MODELS[name]())
    first, second = _outputs(runtime, data, 5), _outputs(runtime, write(read(data)), 5)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(len(np.unique(a)) > 1 for a in first)


@pytest.mark.parametrize(
    "name",
    ["mlperf_tiny/kws_dscnn_int8", "mlperf_tiny/ic_resnet8_float", "imagenet/mobilenet_v1_0.25_128_quant",
     "int16/ds_cnn_small_int16", "ops_float/two_inputs_concatenation"],
)  # fmt: skip
def test_runtimes_agree_on_real_models(name):
    """A real model gives the same outputs from its own bytes and from ours."""
    runtime = pytest.importorskip("tflite_runtime.interpreter")
    path = SHARED_MODELS / f"{name}.tflite"
    if not path.exists():
        pytest.skip("no real models beside this checkout")
    original = path.read_bytes()
    for a, b in zip(_outputs(runtime, original, 7), _outputs(runtime, write(read(original)), 7), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", SMALL_MODELS)
def test_layout_rules(name):
    """Constants start at multiples of 16, buffer 0 is empty, and each operator code says both of its codes."""
    data = write(SMALL_MODELS[name]())
    assert data[4:8] == b"TFL3"
    found = sites(data)
    constants = [s for s in found if s.kind == "data" and s.path.startswith("Model.buffers")]
    assert len(constants) >= 1
    assert all(s.pos % 16 == 0 and s.size for s in constants)
    assert not any(s.path.startswith("Model.buffers[0].data") for s in found)
    values = {s.path: int.from_bytes(data[s.pos : s.pos + s.size], "little") for s in found if s.kind == "scalar"}
    for path, code in values.items():
        if path.endswith(".builtin_code"):
            assert values[path.replace("builtin_code", "deprecated_builtin_code")] == min(code, 127)


def test_small_cnn_states_its_versions():
    """A graph that leaves every version at 1 is written with the versions that its types need."""
    graph = int8_cnn()
    graph = graph.with_main(ops=tuple(replace(op, version=1) for op in graph.ops))
    assert [op.version for op in read(write(graph)).ops] == [3, 2, 1, 4, 2]


def test_shared_buffer_is_written_once():
    """Tensors of one buffer share it in the file; where one of them changes, the other keeps its bytes."""
    graph = shared_weights()
    once = len(write(graph))
    second = graph.subgraphs[1]
    changed = replace(second.tensors[1], data=second.tensors[1].data + np.float32(1))
    tensors = (second.tensors[0], changed, second.tensors[2])
    other = replace(graph, subgraphs=(graph.subgraphs[0], replace(second, tensors=tensors)))
    again = read(write(other))
    assert len(write(other)) >= once + 48
    np.testing.assert_array_equal(again.subgraphs[0].tensors[1].data, graph.tensors[1].data)
    np.testing.assert_array_equal(again.subgraphs[1].tensors[1].data, graph.tensors[1].data + 1)
    assert again.subgraphs[1].tensors[1].buffer == 2


def _bytes(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


ASSIGNMENTS = {
    "nothing": ([], [], [b""]),
    "kept": ([(1, b"a"), (2, b"b")], [1, 2], [b"", b"a", b"b"]),
    "gap": ([(3, b"a")], [3], [b"", b"", b"", b"a"]),
    "new goes behind": ([(0, b"n"), (2, b"a")], [3, 2], [b"", b"", b"a", b"n"]),
    "same bytes share": ([(1, b"a"), (1, b"a")], [1, 1], [b"", b"a"]),
    "other bytes move": ([(1, b"a"), (1, b"b")], [1, 2], [b"", b"a", b"b"]),
    "no data keeps its empty buffer": ([(2, b""), (1, b"a")], [2, 1], [b"", b"a", b""]),
    "no data leaves a full buffer": ([(1, b""), (1, b"a")], [0, 1], [b"", b"a"]),
    "new ones do not share": ([(0, b"a"), (0, b"a")], [1, 2], [b"", b"a", b"a"]),
}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_buffer_assignment(name):
    """Each owner gets the buffer that it wishes for, unless other bytes are there."""
    requests, given, buffers = ASSIGNMENTS[name]
    indices, arrays = assign([(wish, np.frombuffer(raw, np.uint8)) for wish, raw in requests])
    assert indices == given
    assert [a.tobytes() for a in arrays] == buffers


FLOAT = (1, 4, 4, 2)


def _op_graph(
    code: str, dtype: str, inputs: int = 1, options: Table | None = None, shape=FLOAT, **more: Tensor
) -> Graph:
    """One operation on tensors of one dtype and shape, some of them replaced by position ("t1=...")."""
    tensors = [Tensor(f"t{k}", shape, dtype, quantization=q(0.5)) for k in range(inputs + 1)]
    for name, t in more.items():
        tensors[int(name[1:])] = t
    op = Op(code, tuple(range(inputs)), (inputs,), options)
    return Graph((SubGraph(tuple(tensors), (op,), (0,), (inputs,)),))


W8 = Tensor("w", (2, 3, 3, 2), "int8", quantization=q([0.5, 0.25]))
W8_TENSOR = Tensor("w", (2, 3, 3, 2), "int8", quantization=q(0.5))
GROUPED = Tensor("w", (2, 3, 3, 1), "float32")
W4 = Tensor("w", (2, 3, 3, 2), "int4", quantization=q(0.5))
CONV, DEPTHWISE, FC = table("Conv2DOptions"), table("DepthwiseConv2DOptions"), table("FullyConnectedOptions")
FC_KEEPING = table("FullyConnectedOptions", keep_num_dims=True)
HALF_PIXELS = table("ResizeBilinearOptions", half_pixel_centers=True)
SMALL, SMALLER = (Tensor("y", FLOAT, "int8", quantization=q(scale)) for scale in (0.3, 0.25))
VERSIONS = {
    "float conv": (_op_graph("CONV_2D", "float32", 3, CONV), 1),
    "uint8 conv": (_op_graph("CONV_2D", "uint8", 3, CONV), 1),
    "int8 conv": (_op_graph("CONV_2D", "int8", 3, CONV), 3),
    "int8 conv per channel": (_op_graph("CONV_2D", "int8", 3, CONV, t1=W8), 3),
    "int16x8 conv": (_op_graph("CONV_2D", "int16", 3, CONV, t1=W8), 4),
    "hybrid conv": (_op_graph("CONV_2D", "float32", 3, CONV, t1=W8_TENSOR), 2),
    "hybrid conv per channel": (_op_graph("CONV_2D", "float32", 3, CONV, t1=W8), 5),
    "grouped conv": (_op_graph("CONV_2D", "float32", 3, CONV, t1=GROUPED), 6),
    "int4 conv": (_op_graph("CONV_2D", "int8", 3, CONV, t1=W4), 7),
    "conv with int32 bias on int16": (_op_graph("CONV_2D", "int16", 3, table("Conv2DOptions", quantized_bias_type=2), t1=W8), 8),
    "float depthwise": (_op_graph("DEPTHWISE_CONV_2D", "float32", 3, DEPTHWISE), 1),
    "dilated depthwise": (_op_graph("DEPTHWISE_CONV_2D", "float32", 3, table("DepthwiseConv2DOptions", dilation_h_factor=2)), 2),
    "int8 depthwise": (_op_graph("DEPTHWISE_CONV_2D", "int8", 3, DEPTHWISE), 3),
    "int16x8 depthwise": (_op_graph("DEPTHWISE_CONV_2D", "int16", 3, DEPTHWISE, t1=W8), 5),
    "float fully connected": (_op_graph("FULLY_CONNECTED", "float32", 3, FC), 1),
    "hybrid fully connected": (_op_graph("FULLY_CONNECTED", "float32", 3, FC, t1=W8_TENSOR), 3),
    "int8 fully connected": (_op_graph("FULLY_CONNECTED", "int8", 3, FC), 4),
    "int8 fully connected, scale per row": (_op_graph("FULLY_CONNECTED", "int8", 3, FC, t1=W8), 4),
    "fully connected keeping dims": (_op_graph("FULLY_CONNECTED", "int8", 3, FC_KEEPING), 5),
    "fully connected, two inputs": (_op_graph("FULLY_CONNECTED", "int8", 2, FC), 6),
    "int16x8 fully connected": (_op_graph("FULLY_CONNECTED", "int16", 3, FC, t1=W8), 7),
    "int8 add": (_op_graph("ADD", "int8", 2, table("AddOptions")), 2),
    "int16 add": (_op_graph("ADD", "int16", 2, table("AddOptions")), 3),
    "int8 mul": (_op_graph("MUL", "int8", 2, table("MulOptions"), t2=SMALL), 2),
    "int8 mul that scales up": (_op_graph("MUL", "int8", 2, table("MulOptions"), t2=SMALLER), 3),
    "int8 pad of 5 dims": (_op_graph("PAD", "int8", 2, shape=(1, 2, 2, 2, 2)), 4),
    "int16 softmax": (_op_graph("SOFTMAX", "int16", 1, table("SoftmaxOptions")), 3),
    "int8 resize": (_op_graph("RESIZE_BILINEAR", "int8", 2, table("ResizeBilinearOptions")), 2),
    "resize to half pixels": (_op_graph("RESIZE_BILINEAR", "int8", 2, HALF_PIXELS), 3),
    "int8 transpose conv with bias": (_op_graph("TRANSPOSE_CONV", "int8", 4, table("TransposeConvOptions")), 3),
    "quantize to int16": (_op_graph("QUANTIZE", "float32", 1, t1=Tensor("y", FLOAT, "int16", quantization=q(0.5))), 2),
    "dequantize per channel": (_op_graph("DEQUANTIZE", "int8", 1, t0=Tensor("x", (2, 1), "int8", quantization=q([1, 2]))), 5),
    "no rule": (_op_graph("HARD_SWISH", "int8"), 1),
    "no input": (Graph((SubGraph((Tensor("y", (), "int32"),), (Op("ADD", (), (0,)),), (), (0,)),)), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", VERSIONS)
def test_minimal_versions(name):
    """Each use of an operation asks for the version that brought it."""
    graph, version = VERSIONS[name]
    assert minimal_version(graph.ops[0], graph.main) == version


def test_versions_of_files_are_kept():
    """A version from a file stays, too high or too low, until a change of types needs a higher one."""
    high = int8_cnn()
    high = high.with_main(ops=(replace(high.ops[0], version=5), *high.ops[1:]))
    assert read(write(high)).ops[0].version == 5

    float_model = float_mlp()
    low = read(write(float_model))  # as a converter of old would: an int8 FULLY_CONNECTED that says version 1
    understated = replace(low.ops[0], version=1, extra=Table("Operator", {"version_needed": 4}))
    as_int8 = tuple(replace(t, dtype="int8", data=None) for t in low.tensors)
    kept = low.with_main(ops=(understated, *low.ops[1:]), tensors=as_int8)
    assert read(write(kept)).ops[0].version == 1
    assert difference(read(write(kept)), read(write(read(write(kept))))) is None
    as_int16 = tuple(replace(t, dtype="int16") for t in as_int8)
    assert read(write(kept.with_main(tensors=as_int16))).ops[0].version == 7


@pytest.mark.parametrize("package", ["tflite_runtime", "ai_edge_litert"])
def test_runtimes_register_our_versions(package):
    """No version that our rules give is above what the runtime has registered for the operation."""
    runtime = pytest.importorskip(f"{package}.interpreter")
    resolver = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    cases = [(f"{code} {dtype}", _op_graph(code, dtype, 3)) for code, rules in BY_DTYPE.items() for dtype in rules]
    cases += [(name, g) for name, (g, v) in VERSIONS.items() if package != "tflite_runtime" or v != 8]  # 8: after 2.14
    refused = []
    for name, graph in cases:
        try:
            runtime.Interpreter(model_content=write(graph), experimental_op_resolver_type=resolver)
        except ValueError as e:
            if "Didn't find op" in str(e):
                refused.append((name, str(e)))
    # DEQUANTIZE of int4 is newer than tflite-runtime 2.14.
    allowed = {"DEQUANTIZE int4"} if package == "tflite_runtime" else set()
    assert {name for name, _ in refused} <= allowed


def _with_tensor(**fields: object) -> Graph:
    graph = float_mlp()
    return graph.with_main(tensors=(graph.tensors[0], replace(graph.tensors[1], **fields), *graph.tensors[2:]))


def _with_op(**fields: object) -> Graph:
    graph = float_mlp()
    return graph.with_main(ops=(replace(graph.ops[0], **fields), *graph.ops[1:]))


REFUSED = {
    "data of another dtype": (_with_tensor(dtype="int32"), CheckError, "data is float32 of shape"),
    "data of another shape": (_with_tensor(shape=(8, 5)), CheckError, r"expected float32 of shape \[8, 5\]"),
    "packed data as numbers": (_with_tensor(dtype="int4"), CheckError, r"expected uint8 of shape \[bytes\]"),
    "no such dtype": (_with_tensor(dtype="int7", data=None), CheckError, "dtype 'int7' is not one of"),
    "shape beyond int32": (_with_tensor(shape=(2**31,), data=None), CheckError, "Tensor.shape"),
    "shape of text": (_with_tensor(shape=("a",), data=None), CheckError, "Tensor.shape"),
    "lone surrogate in a name": (_with_tensor(name="\ud800"), CheckError, "Tensor.name"),
    "negative buffer": (_with_tensor(buffer=-1), CheckError, "buffer -1"),
    "buffer number too high": (_with_tensor(buffer=2**31), CheckError, "buffer 2147483648"),
    "scale of text": (_with_tensor(quantization=Quantization(np.array(["x"]), np.zeros(1, np.int64))), CheckError, "scale"),
    "zero point of fractions": (
        _with_tensor(quantization=Quantization(np.ones(1, np.float32), np.array([0.5]))), CheckError, "zero_point"),
    "no such operation": (_with_op(code="CONV_4D"), UnsupportedError, "CONV_4D is not an operation"),
    "no such option": (_with_op(options=Table("AddOptions", {"alpha": 1})), CheckError, "no field 'alpha'"),
    "option out of range": (_with_op(options=table("Conv2DOptions", stride_w=2**40)), CheckError, "Conv2DOptions.stride_w"),
    "options that are none": (_with_op(options=Table("Model")), CheckError, "Model is not a member"),
    "metadata name": (replace(float_mlp(), metadata=(Metadata("\udfff", b""),)), CheckError, "Metadata.name"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_to_write(name):
    """A graph that no file can hold is refused with what was found and expected."""
    graph, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        write(graph)


def test_two_gigabytes_are_too_many(monkeypatch):
    """Constants beyond what offsets reach are refused before anything is copied."""
    huge = np.broadcast_to(np.uint8(0), (2**31,))
    with pytest.raises(UnsupportedError, match=r"takes 2147483648 bytes or more, but a .tflite file holds 2147483647"):
        write(_with_tensor(dtype="uint8", shape=(2**31,), data=huge))
    monkeypatch.setattr(limits, "MAX_FILE_BYTES", 500)
    with pytest.raises(UnsupportedError, match="holds 500"):
        write(float_mlp())


def test_writing_leaves_the_graph_alone():
    """Writing changes nothing in the graph, and strided or byte-swapped constants are written as their values."""
    graph = exotic()
    before = exotic()
    write(graph)
    assert difference(graph, before) is None
    turned = np.asfortranarray(float_mlp().tensors[1].data)
    assert not turned.flags.c_contiguous
    np.testing.assert_array_equal(read(write(_with_tensor(data=turned))).tensors[1].data, turned)
