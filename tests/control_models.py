"""Models with subgraphs that are called, and with variables: small enough to see through."""

from __future__ import annotations

import numpy as np
from flatbuffers import flexbuffers

from edgeq.graph import Graph, Op, Quantization, Signature, SubGraph, Tensor
from edgeq.tflite.schema import table

f32 = np.float32
FLOATS = (2, 3)


def constant(name: str, values: object, dtype: str = "float32") -> Tensor:
    """A constant."""
    data = np.asarray(values, dtype)
    return Tensor(name, data.shape, dtype, data)


def add(a: int, b: int, y: int) -> Op:
    """y = a + b."""
    return Op("ADD", (a, b), (y,), table("AddOptions"))


def mul(a: int, b: int, y: int) -> Op:
    """y = a · b."""
    return Op("MUL", (a, b), (y,), table("MulOptions"))


def floats(name: str) -> Tensor:
    """A computed tensor."""
    return Tensor(name, FLOATS, "float32")


def conditional() -> Graph:
    """y = Σ(x) > 0 ? x · 2 + 1 : x · x, and what was chosen's double."""
    main = SubGraph(
        (
            floats("x"), constant("axes", [0, 1], "int32"), Tensor("sum", (), "float32"), constant("zero", 0.0),
            Tensor("positive", (), "bool"), floats("chosen"), floats("y"),
        ),
        (
            Op("SUM", (0, 1), (2,), table("ReducerOptions", keep_dims=False)),
            Op("GREATER", (2, 3), (4,), table("GreaterOptions")),
            Op("IF", (4, 0), (5,), table("IfOptions", then_subgraph_index=1, else_subgraph_index=2)), add(5, 5, 6),
        ),
        (0,), (5, 6), "main",
    )  # fmt: skip
    then = SubGraph(
        (floats("x"), constant("two", 2.0), floats("t"), constant("one", 1.0), floats("y")),
        (mul(0, 1, 2), add(2, 3, 4)),
        (0,),
        (4,),
        "then",
    )
    other = SubGraph((floats("x"), floats("y")), (mul(0, 0, 1),), (0,), (1,), "else")
    return Graph((main, then, other), "a choice")


def loop() -> Graph:
    """Fibonacci's pair (a, b) → (b, a + b), n times; what goes round changes places. n is an input."""
    main = SubGraph(
        (
            Tensor("n", (1,), "int32"), floats("a"), floats("b"), constant("start", [0], "int32"), Tensor("count", (1,), "int32"),
            floats("a'"), floats("b'"), Tensor("n'", (1,), "int32"), floats("y"),
        ),
        (
            Op("WHILE", (3, 1, 2, 0), (4, 5, 6, 7), table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2)),
            add(5, 6, 8),
        ),
        (0, 1, 2), (4, 5, 6, 8), "main",
    )  # fmt: skip
    count = [Tensor("i", (1,), "int32"), floats("a"), floats("b"), Tensor("n", (1,), "int32")]
    condition = SubGraph(
        (*count, Tensor("less", (1,), "bool")),
        (Op("LESS", (0, 3), (4,), table("LessOptions")),),
        (0, 1, 2, 3),
        (4,),
        "cond",
    )
    body = SubGraph(
        (*count, constant("one", [1], "int32"), Tensor("next", (1,), "int32"), floats("sum")),
        (add(0, 4, 5), add(1, 2, 6)), (0, 1, 2, 3), (5, 2, 6, 3), "body",
    )  # fmt: skip
    return Graph((main, condition, body), "a loop")


def endless() -> Graph:
    """A loop whose condition only the first input can end, and its body does not change it."""
    main = SubGraph(
        (Tensor("go", (1,), "bool"), Tensor("y", (1,), "bool")),
        (Op("WHILE", (0,), (1,), table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2)),), (0,), (1,), "main",
    )  # fmt: skip
    same = SubGraph((Tensor("go", (1,), "bool"),), (), (0,), (0,), "same")
    return Graph((main, same, same), "an endless loop")


def counter(dtype: str = "float32") -> Graph:
    """A variable that starts at 10 and grows by x at every run; y is its value behind."""
    q = Quantization(np.array([0.5], f32), np.array([3], np.int64)) if dtype == "int8" else None
    shape = (3,)
    main = SubGraph(
        (
            Tensor("x", shape, dtype, quantization=q), Tensor("handle", (), "resource"),
            Tensor("old", shape, dtype, quantization=q),
            Tensor("y", shape, dtype, quantization=q),
        ),
        (
            Op("CALL_ONCE", (), (), table("CallOnceOptions", init_subgraph_index=1)),
            Op("VAR_HANDLE", (), (1,), table("VarHandleOptions", container="", shared_name="count")),
            Op("READ_VARIABLE", (1,), (2,), table("ReadVariableOptions")), add(2, 0, 3),
            Op("ASSIGN_VARIABLE", (1, 3), (), table("AssignVariableOptions")),
        ),
        (0,), (3,), "main",
    )  # fmt: skip
    start = Tensor("ten", shape, dtype, np.full(shape, 10, dtype), q)
    init = SubGraph(
        (Tensor("handle", (), "resource"), start),
        (
            Op("VAR_HANDLE", (), (0,), table("VarHandleOptions", container="", shared_name="count")),
            Op("ASSIGN_VARIABLE", (0, 1), (), table("AssignVariableOptions")),
        ),
        (), (), "init",
    )  # fmt: skip
    signature = Signature("serving_default", 0, (("x", 0),), (("y", 3),))
    return Graph((main, init), "a counter", (signature,))


def stream(late: bool = False) -> Graph:
    """A window of three rows over what comes: y is their sum (batch matrix of ones), as streaming models have it.

    late: what was read is used once more behind the assignment, so that it has to be a copy.
    """
    row, three, window = (1, 1, 4), (1, 3, 4), (1, 4, 4)
    ints = [("first", [0, 1, 0]), ("behind", [1, 4, 4]), ("by", [1, 1, 1]), ("axes", [1])]
    main = SubGraph(
        (
            Tensor("x", row, "float32"), Tensor("handle", (), "resource"), Tensor("old", three, "float32"),
            Tensor("joined", window, "float32"), Tensor("new", three, "float32"),
            *(Tensor(n, (len(v),), "int32", np.array(v, np.int32)) for n, v in ints),
            Tensor("sum", (1, 4), "float32"), Tensor("y", three if late else (1, 4), "float32"),
        ),
        (
            Op("CALL_ONCE", (), (), table("CallOnceOptions", init_subgraph_index=1)),
            Op("VAR_HANDLE", (), (1,), table("VarHandleOptions", container="", shared_name="window")),
            Op("READ_VARIABLE", (1,), (2,), table("ReadVariableOptions")),
            Op("CONCATENATION", (2, 0), (3,), table("ConcatenationOptions", axis=1)),
            Op("STRIDED_SLICE", (3, 5, 6, 7), (4,), table("StridedSliceOptions")),
            Op("ASSIGN_VARIABLE", (1, 4), (), table("AssignVariableOptions")),
            Op("SUM", (3, 8), (9,), table("ReducerOptions", keep_dims=False)), add(2 if late else 9, 9, 10),
        ),
        (0,), (10,), "main",
    )  # fmt: skip
    init = SubGraph(
        (Tensor("handle", (), "resource"), constant("start", np.arange(12).reshape(three))),
        (
            Op("VAR_HANDLE", (), (0,), table("VarHandleOptions", container="", shared_name="window")),
            Op("ASSIGN_VARIABLE", (0, 1), (), table("AssignVariableOptions")),
        ),
        (), (), "init",
    )  # fmt: skip
    return Graph((main, init), "a stream")


def counter_of_three() -> Graph:
    """The counter under three signatures: "step" adds x, "clear" starts from 0 and gives what there was, "look" shows it."""
    first = counter()
    handle = Op("VAR_HANDLE", (), (0,), table("VarHandleOptions", container="", shared_name="count"))
    once = Op("CALL_ONCE", (), (), table("CallOnceOptions", init_subgraph_index=1))
    read = Op("READ_VARIABLE", (0,), (1,), table("ReadVariableOptions"))
    zeros = constant("zeros", np.zeros(3, f32))
    clear = SubGraph(
        (Tensor("handle", (), "resource"), Tensor("was", (3,), "float32"), zeros, Tensor("y", (3,), "float32")),
        (once, handle, read, add(1, 2, 3), Op("ASSIGN_VARIABLE", (0, 2), (), table("AssignVariableOptions"))),
        (), (3,), "clear",
    )  # fmt: skip
    look = SubGraph(
        (Tensor("handle", (), "resource"), Tensor("now", (3,), "float32"), zeros, Tensor("y", (3,), "float32")),
        (once, handle, read, add(1, 2, 3)), (), (3,), "look",
    )  # fmt: skip
    signatures = (Signature("step", 0, (("x", 0),), (("y", 3),)), Signature("clear", 2, (), (("y", 3),)),
                  Signature("look", 3, (), (("y", 3),)))  # fmt: skip
    return Graph((*first.subgraphs, clear, look), "a counter of three signatures", signatures)


def composite() -> Graph:
    """x · 2 + x under a name of its own, spelled out in a subgraph."""
    main = SubGraph(
        (floats("x"), floats("y")),
        (Op("STABLEHLO_COMPOSITE", (0,), (1,),
            table("StableHLOCompositeOptions", name="acme.triple", decomposition_subgraph_index=1, version=1,
                  composite_attributes=bytes(flexbuffers.Dumps({})))),),
        (0,), (1,), "main",
    )  # fmt: skip
    inner = SubGraph(
        (floats("x"), constant("two", 2.0), floats("t"), floats("y")),
        (mul(0, 1, 2), add(2, 0, 3)),
        (0,),
        (3,),
        "triple",
    )
    return Graph((main, inner), "a composite")
