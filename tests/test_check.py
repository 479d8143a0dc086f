"""Every way in which a graph can contradict itself is refused, by name; sound graphs pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tflite_models import (
    SHARED_MODELS,
    SMALL_MODELS,
    int8_cnn,
    q,
    real_models,
    shared_weights,
    uint8_residual,
)

from edgeq.check import check
from edgeq.errors import CheckError, UnsupportedError
from edgeq.graph import Graph, Op, Quantization, Signature, SubGraph, Table, Tensor
from edgeq.tflite import limits, read
from edgeq.tflite.ops import OP_FACTS
from edgeq.tflite.schema import OPERATORS, TABLE_NAMES, layout, table

REAL = real_models() or [pytest.param(None, marks=pytest.mark.skip(reason="no real models beside this checkout"))]


@pytest.mark.parametrize("path", REAL, ids=lambda p: str(p.relative_to(SHARED_MODELS)) if p else "none")
def test_real_models_pass(path):
    """Every real model is sound."""
    check(read(path.read_bytes()))


@pytest.mark.parametrize("name", [n for n in SMALL_MODELS if n != "exotic"])
def test_small_models_pass(name):
    """The models that the other tests break are sound to begin with."""
    check(SMALL_MODELS[name]())


def tensor(i: int, base: Callable[[], Graph] = int8_cnn, **fields: object) -> Graph:
    """A sound model with fields of one tensor changed."""
    graph = base()
    t = replace(graph.tensors[i], **fields)
    return graph.with_main(tensors=(*graph.tensors[:i], t, *graph.tensors[i + 1 :]))


def op(i: int, base: Callable[[], Graph] = int8_cnn, **fields: object) -> Graph:
    """A sound model with fields of one operation changed."""
    graph = base()
    return graph.with_main(ops=(*graph.ops[:i], replace(graph.ops[i], **fields), *graph.ops[i + 1 :]))


def option(i: int, base: Callable[[], Graph] = int8_cnn, **values: object) -> Graph:
    """A sound model with options of one operation changed."""
    options = base().ops[i].options
    assert options is not None
    return op(i, base, options=Table(options.type, {**options.values, **values}))


def main(base: Callable[[], Graph] = int8_cnn, **fields: object) -> Graph:
    """A sound model with fields of its main subgraph changed."""
    return base().with_main(**fields)


def scales(i: int, scale: object, zero_point: object = 0, axis: int = 0) -> Graph:
    """A sound model with one tensor quantized otherwise."""
    s = np.atleast_1d(np.asarray(scale, np.float32))
    z = np.broadcast_to(np.asarray(zero_point, np.int64), s.shape if np.ndim(zero_point) == 0 else np.shape(zero_point))
    return tensor(i, quantization=Quantization(s, z.copy(), axis))


def signed(**fields: object) -> Graph:
    """A sound model with one signature, some of its fields changed."""
    signature = Signature("s", 0, (("image", 0),), (("scores", 10),))
    return replace(int8_cnn(), signatures=(replace(signature, **fields),))


def one_op(
    code: str, inputs: int = 1, outputs: int = 1, options: Table | None = None, subgraphs: int = 1, **fields: object
) -> Graph:
    """Subgraphs of one operation each on float scalars."""
    count = inputs + outputs
    tensors = tuple(Tensor(f"t{k}", (), "float32") for k in range(count))
    o = Op(code, tuple(range(inputs)), tuple(range(inputs, count)), options, **fields)
    g = SubGraph(tensors, (o,), tuple(range(inputs)), tuple(range(inputs, count)) or tuple(range(inputs)))
    return Graph((g,) * subgraphs)


def _int4(nbytes: int, shape: tuple[int, ...] = (3, 3)) -> Graph:
    t = Tensor("nibbles", shape, "int4", np.zeros(nbytes, np.uint8))
    return Graph((SubGraph((Tensor("x", (1,), "float32"), t), (), (0,), (0,)),))


BLOCKWISE = table("BlockwiseQuantization", scales=99, zero_points=-1, block_size=4)
NO_SCALE = Quantization(np.empty(0, np.float32), np.empty(0, np.int64))
TWO_BOOLS = np.array([1, 2], np.uint8).view(np.bool_)
IF = table("IfOptions", then_subgraph_index=1, else_subgraph_index=1)

FAULTS = {
    # tensors
    "unknown dtype": (tensor(0, dtype="int7"), r"tensor 0 \('x'\): dtype 'int7'"),
    "too many dimensions": (tensor(3, shape=(1,) * 17), "17 dimensions, expected at most 16"),
    "negative dimension": (tensor(3, shape=(1, -8, 8, 4)), r"shape \[1, -8, 8, 4\], expected no negative"),
    "tensor too large": (tensor(3, shape=(2**16, 2**16, 1, 1)), "is 4294967296 bytes, expected at most 2147483647"),
    "strings too many": (tensor(3, shape=(2**31,), dtype="string", quantization=None), "expected at most 2147483647"),
    "signature of other rank": (tensor(0, shape_signature=(-1, 8)), r"shape signature \[-1, 8\], expected"),
    "signature of other length": (tensor(0, shape_signature=(-1, 8, 8, 3)), "shape signature"),
    "signature below -1": (tensor(0, shape_signature=(-2, 8, 8, 2)), "shape signature"),
    "long signature": (tensor(0, shape_signature=(1,) * 100), r"1\] and 85 more, expected"),
    "data of other dtype": (tensor(1, dtype="uint8", quantization=None), "data is int8 of shape .*, expected uint8"),
    "data of other shape": (tensor(8, shape=(4,)), r"data is int32 of shape \[3\], expected int32 of \[4\]"),
    "int4 data too short": (_int4(4), r"data of 4 bytes, but shape \[3, 3\] of int4 needs 5"),
    "int4 data too long": (_int4(6), "needs 5"),
    "packed data not bytes": (
        tensor(1, dtype="string", data=np.zeros(3, np.int32), quantization=None), "expected the raw bytes"),
    "bool that is 2": (tensor(5, dtype="bool", shape=(2,), data=TWO_BOOLS), "a byte of 2 in a bool constant"),
    # quantization
    "no scales": (tensor(3, quantization=NO_SCALE), "0 scales along axis 0"),
    "no scales along no length": (tensor(0, shape=(0, 1, 1, 1), quantization=NO_SCALE), "0 scales along axis 0"),
    "scale 0": (scales(3, 0.0), r"tensor 3 \('conv'\): scale 0.0, expected a finite number > 0"),
    "scale negative": (scales(1, [1, 1, -2, 1]), "scale -2.0"),
    "scale infinite": (scales(3, np.inf), "scale inf"),
    "scale NaN": (scales(1, [1, np.nan, 1, 1]), "scale nan"),
    "scale subnormal": (scales(3, 1e-39), "expected a finite number > 0"),
    "scale of doubles": (
        tensor(3, quantization=Quantization(np.ones(1), np.zeros(1, np.int64))), "are float64 and int64 of 1 and 1"),
    "scale of two dimensions": (
        tensor(3, quantization=Quantization(np.ones((1, 1), np.float32), np.zeros(1, np.int64))), "of 2 and 1 dimensions"),
    "scales not as long as the axis": (scales(1, [1, 1, 1]), r"3 scales along axis 0 of shape \[4, 3, 3, 2\]"),
    "scales along another axis": (scales(1, [1, 1, 1, 1], axis=3), "4 scales along axis 3"),
    "axis beyond the rank": (scales(1, [1, 1, 1, 1], axis=4), "quantized along axis 4 of 4, expected 0 to 3"),
    "axis negative": (scales(1, [1, 1, 1, 1], axis=-1), "axis -1"),
    "zero points too few": (scales(1, [1, 1, 1, 1], [0]), "1 zero points for 4 scales"),
    "zero points missing": (scales(3, 1, np.zeros(0, np.int64)), "0 zero points for 1 scales"),
    "zero point above int8": (scales(3, 1, 128), "zero point 128, expected -128 to 127 for int8"),
    "zero point below int8": (scales(3, 1, -129), "zero point -129"),
    "zero point below uint8": (tensor(0, uint8_residual, quantization=q(1, -1)), "zero point -1, expected 0 to 255"),
    "zero point beyond int32": (scales(2, 1, 2**31), "zero point 2147483648"),
    "block scales not there": (
        tensor(1, quantization=replace(NO_SCALE, details=BLOCKWISE)), "BlockwiseQuantization.scales is tensor 99"),
    # operations
    "unknown operation": (op(4, code="CONV_4D"), r"op 4 \(CONV_4D\): not an operation"),
    "custom without name": (op(4, code="CUSTOM"), "without a name"),
    "input not there": (op(0, inputs=(0, 1, 11)), "input 2 is tensor 11, expected 0 to 10"),
    "input below -1": (op(0, inputs=(0, 1, -2)), "input 2 is tensor -2"),
    "input omitted": (op(0, inputs=(0, -1, 2)), "input 1 is tensor -1"),
    "output not there": (op(0, outputs=(11,)), "outputs: tensor 11, expected 0 to 10"),
    "output omitted": (op(0, outputs=(-1,)), "outputs: tensor -1"),
    "intermediate not there": (op(0, intermediates=(-1, 50)), "intermediates: tensor 50"),
    "marks of other length": (op(0, mutating_variable_inputs=(True,)), "1 marks of mutated inputs for 3 inputs"),
    "too few inputs": (op(0, inputs=(0,)), "1 inputs, expected 2 to 3"),
    "too many inputs": (op(4, inputs=(9, 9)), "2 inputs, expected 1"),
    "no outputs": (op(4, outputs=()), "0 outputs, expected 1"),
    "too many outputs": (op(1, outputs=(4, 6)), "2 outputs, expected 1"),
    "nothing to concatenate": (one_op("CONCATENATION", 0), "0 inputs, expected 1 or more"),
    "options missing": (op(0, options=None), "options None, expected Conv2DOptions"),
    "options of another": (op(1, options=table("ReshapeOptions")), "options ReshapeOptions, expected Pool2DOptions"),
    "optional options of another": (op(2, options=table("Pool2DOptions")), "options Pool2DOptions, expected ReshapeOptions"),
    "options lack a field": (op(0, options=Table("Conv2DOptions", {"stride_w": 1})), "options without padding"),
    "stride 0": (option(0, stride_w=0), r"op 0 \(CONV_2D\): stride_w is 0, expected 1 to 65536"),
    "stride negative": (option(0, stride_h=-1), "stride_h is -1"),
    "dilation 0": (option(0, dilation_w_factor=0), "dilation_w_factor is 0"),
    "dilation huge": (option(0, dilation_h_factor=65537), "dilation_h_factor is 65537"),
    "filter 0": (option(1, filter_height=0), "filter_height is 0"),
    "padding unknown": (option(1, padding=2), r"padding is 2, expected 0 to 1 \(Padding\)"),
    "activation negative": (option(0, fused_activation_function=-1), "fused_activation_function is -1"),
    "beta infinite": (option(4, beta=float("inf")), "beta is inf, expected a finite number"),
    "splits 0": (one_op("SPLIT", 2, 1, table("SplitOptions")), "num_splits is 0"),
    "block size negative": (one_op("SPACE_TO_DEPTH", 1, 1, table("SpaceToDepthOptions", block_size=-2)), "block_size is -2"),
    # order
    "reads what comes later": (op(0, inputs=(4, 1, 2)), r"reads tensor 4 \('pool'\), which nothing before it has written"),
    "reads its own output": (op(0, inputs=(3, 1, 2)), "reads tensor 3"),
    "operations out of order": (main(ops=int8_cnn().ops[::-1]), r"op 0 \(SOFTMAX\): reads tensor 9"),
    "writes twice": (op(1, outputs=(3,)), r"op 1 \(AVERAGE_POOL_2D\): writes tensor 3 \('conv'\), which op 0"),
    "writes one output twice": (one_op("TOPK_V2", 2, 2).with_main(ops=(Op("TOPK_V2", (0, 1), (2, 2)),)), "op 0 has written"),
    "writes a constant": (op(0, outputs=(5,)), "which is a constant"),
    "writes an input": (op(0, outputs=(0,)), "which is an input"),
    "writes a variable": (tensor(3, is_variable=True), "which is a variable"),
    "input is a constant": (main(inputs=(0, 1)), r"input tensor 1 \('conv/w'\) is a constant"),
    "input twice": (main(inputs=(0, 0)), r"inputs \[0, 0\], expected each tensor once"),
    "input not a tensor": (main(inputs=(11,)), "inputs: tensor 11, expected 0 to 10"),
    "output not a tensor": (main(outputs=(10, -1)), "outputs: tensor -1"),
    "output of nothing": (main(ops=int8_cnn().ops[:-1]), r"output tensor 10 \('y'\) is computed by nothing"),
    # the model
    "no subgraph": (Graph(()), "no subgraph"),
    "no outputs of the model": (main(outputs=()), "no outputs, expected at least one"),
    "fault in the second subgraph": (
        replace(shared_weights(), subgraphs=(shared_weights().main, replace(shared_weights().main, inputs=(9,)))),
        "subgraph 1 inputs: tensor 9"),
    "calls what is not there": (one_op("IF", 1, 1, IF), "calls subgraph 1, but there are 1"),
    "calls itself": (one_op("WHILE", 1, 1, table("WhileOptions")), r"subgraphs \[0\] call each other in a circle"),
    "calls in a circle": (one_op("IF", 1, 1, IF, subgraphs=2), r"subgraphs \[1\] call|subgraphs \[0, 1\] call"),
    "branches to nowhere": (
        one_op("STABLEHLO_CASE", 1, 1, table("StablehloCaseOptions", branch_subgraph_indices=(0, 7))), "calls subgraph 7"),
    "signature of no subgraph": (signed(subgraph=1), "subgraph 1, but there are 1"),
    "signature names no input": (signed(inputs=(("image", 3),)), r"input 'image' is tensor 3, expected one of \[0\]"),
    "signature names no output": (signed(outputs=(("scores", 99),)), "output 'scores' is tensor 99"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_refuses(name):
    """A graph with one fault is a CheckError, one line, that names the place, what was found and what was expected."""
    graph, message = FAULTS[name]
    with pytest.raises(CheckError, match=message) as caught:
        check(graph)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


UNSUPPORTED = {
    "sparse": (tensor(1, sparsity=table("SparsityParameters")), "a sparse tensor"),
    "data in another file": (tensor(1, extra=Table("Tensor", {"external_buffer": 1})), "lies in another file"),
    "options that are newer": (op(4, code="RELU", options=Table("BuiltinOptions_250")), "BuiltinOptions_250"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_does_not_support(name):
    """A sound graph that keeps its data or options where edgeq does not read them says so."""
    graph, message = UNSUPPORTED[name]
    with pytest.raises(UnsupportedError, match=message):
        check(graph)


SOUND = {
    "bias omitted": op(3, inputs=(6, 7, -1)),
    "no bias": op(3, inputs=(6, 7)),
    "no reshape options": op(2, options=None),
    "no reshape shape": op(2, inputs=(4,)),
    "options that an operation does not read": op(4, code="TANH"),
    "one scale, axis of the channels": scales(1, 0.5, 0, 3),
    "zero-length tensor": tensor(5, shape=(0,), data=np.empty(0, np.int32)),
    "odd int4": _int4(5),
    "scalar int4": _int4(1, ()),
    "empty int4": _int4(0, (0, 3)),
    "variable read": one_op("ASSIGN_VARIABLE", 2, 0),
    "output is an input": main(outputs=(10, 0)),
    "output is a constant": main(outputs=(10, 5)),
    "output twice": main(outputs=(10, 10)),
    "custom takes anything": one_op("CUSTOM", 3, 2, custom_code="Mine"),
    "float tensor with scales": tensor(3, dtype="float32", quantization=q(0.5, 1000)),
    "calls another": replace(
        one_op("IF", 1, 1, IF), subgraphs=(one_op("IF", 1, 1, IF).main, one_op("ABS").main)),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_accepts(name):
    """What the format allows passes, however unusual."""
    check(SOUND[name])


def test_total_size_has_a_limit(monkeypatch):
    """All tensors of a subgraph together have a limit."""
    monkeypatch.setattr(limits, "MAX_GRAPH_BYTES", 800)
    with pytest.raises(CheckError, match="subgraph 0: tensors of 818 bytes together, expected at most 800"):
        check(int8_cnn())


def test_facts_name_what_the_schema_has():
    """Every operation with an arity is a builtin one, its options are a table with fields, and only those can be left out."""
    assert OP_FACTS.keys() <= set(OPERATORS)
    for code, facts in OP_FACTS.items():
        if facts.options is not None:
            assert facts.options in TABLE_NAMES, code
            assert layout(facts.options).fields, code
        assert facts.options_required <= (facts.options is not None)
        most = facts.inputs.most
        assert all(most is not None and k < most for k in facts.optional_inputs or ()), code
    left = {c for c in OPERATORS if c not in OP_FACTS and not c.startswith("STABLEHLO_")}
    assert left == {"CONCAT_EMBEDDINGS", "CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"}


def test_long_chain_of_calls_is_fast():
    """Looking for circles takes time in proportion to the model, not to its square."""
    count = 3000
    call = [table("CallOnceOptions", init_subgraph_index=k + 1) for k in range(count - 1)]
    tensors = (Tensor("x", (), "float32"),)
    chain = [SubGraph(tensors, (Op("CALL_ONCE", (), (), c),), (0,), (0,)) for c in call]
    check(Graph((*chain, SubGraph(tensors, (), (0,), (0,)))))
