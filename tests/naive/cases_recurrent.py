"""Models of one layer that remembers: LSTMs, plain recurrent cells, SVDF, in floats, with quantized weights, and in integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.graph import Graph, Op, SubGraph, Tensor
from edgeq.tflite.schema import table

from .cases import Case, generator, tensor

f32 = np.float32


def variable(
    name: str, shape: tuple[int, ...], dtype: str = "float32", scale: Any = None, zero_point: int = 0
) -> Tensor:
    """A tensor that keeps its values."""
    return replace(tensor(name, shape, dtype, scale, zero_point), is_variable=True)


def layer(
    code: str, slots: list[Tensor | None], outputs: list[Tensor], options: str, intermediates: list[Tensor] | None = None,
    **values: Any,
) -> Graph:  # fmt: skip
    """A model of one operation whose inputs may be left out; the first is the model's."""
    tensors = [t for t in slots if t is not None]
    places = iter(range(len(tensors)))
    inputs = tuple(-1 if t is None else next(places) for t in slots)
    ends = tuple(range(len(tensors), len(tensors) + len(outputs)))
    inner = intermediates or []
    between = tuple(range(ends[-1] + 1, ends[-1] + 1 + len(inner)))
    op = Op(code, inputs, ends, table(options, **values), intermediates=between)
    return Graph((SubGraph((*tensors, *outputs, *inner), (op,), (0,), ends, "main"),), "one layer")


def normal(rng: np.random.Generator, name: str, shape: tuple[int, ...], size: float = 0.4) -> Tensor:
    """Constant floats."""
    return tensor(name, shape, "float32", data=(rng.standard_normal(shape) * size).astype(f32))


def bytes_of(rng: np.random.Generator, name: str, shape: tuple[int, ...], scale: float = 0.008) -> Tensor:
    """Constant int8 weights."""
    return tensor(name, shape, "int8", scale, 0, data=rng.integers(-127, 128, shape).astype(np.int8))


def float_lstm(name: str, *, hybrid: bool = False, coupled: bool = False, peephole: bool = False, norm: bool = False,
               projection: bool = False, time_major: bool = False, clip: float = 0.0) -> Case:  # fmt: skip
    """UNIDIRECTIONAL_SEQUENCE_LSTM on float32."""
    rng, (steps, batch, features, cells) = generator(name), (5, 2, 6, 9)
    out = 4 if projection else cells
    make = bytes_of if hybrid else normal
    x = tensor("x", (steps, batch, features) if time_major else (batch, steps, features), "float32")

    def gate(k: int, t: Tensor) -> Tensor | None:
        return None if coupled and k == 0 else t

    slots: list[Tensor | None] = [x]
    slots += [gate(k, make(rng, f"w{k}", (cells, features))) for k in range(4)]
    slots += [gate(k, make(rng, f"r{k}", (cells, out))) for k in range(4)]
    slots += [gate(k, normal(rng, f"p{k}", (cells,))) if peephole else None for k in range(3)]
    slots += [gate(k, normal(rng, f"b{k}", (cells,))) for k in range(4)]
    slots += [make(rng, "project", (out, cells)) if projection else None]
    slots += [normal(rng, "project bias", (out,)) if projection else None]
    slots += [variable("h", (batch, out)), variable("c", (batch, cells))]
    slots += [gate(k, normal(rng, f"n{k}", (cells,), 1.0)) for k in range(4)] if norm else [None] * 4
    y = tensor("y", (*x.shape[:2], out), "float32")
    graph = layer(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", slots, [y], "UnidirectionalSequenceLSTMOptions", fused_activation_function=4,
        time_major=time_major, cell_clip=clip, proj_clip=clip,
    )  # fmt: skip
    return Case(name, graph)


def integer_lstm(name: str, *, coupled: bool = False, peephole: bool = False, norm: bool = False,
                 projection: bool = False) -> Case:  # fmt: skip
    """UNIDIRECTIONAL_SEQUENCE_LSTM on int8 with an int16 cell."""
    rng, (steps, batch, features, cells) = generator(name), (6, 2, 7, 8)
    out = 5 if projection else cells
    x = tensor("x", (batch, steps, features), "int8", 0.04, 3)
    s_h, z_h, down = 0.0079, 2, 2.0**-11

    def gate(k: int, t: Tensor) -> Tensor | None:
        return None if coupled and k == 0 else t

    def small(name: str, shape: tuple[int, ...], dtype: str, scale: float, reach: int) -> Tensor:
        return tensor(name, shape, dtype, scale, 0, data=rng.integers(-reach, reach + 1, shape).astype(dtype))

    slots: list[Tensor | None] = [x]
    slots += [gate(k, bytes_of(rng, f"w{k}", (cells, features), 0.006)) for k in range(4)]
    slots += [gate(k, bytes_of(rng, f"r{k}", (cells, out), 0.006)) for k in range(4)]
    slots += [gate(k, small(f"p{k}", (cells,), "int16", 1e-4, 9000)) if peephole else None for k in range(3)]
    slots += [gate(k, small(f"b{k}", (cells,), "int32", 0.04 * 0.006, 3000)) for k in range(4)]
    hidden, zero = (0.006, 40) if projection else (s_h, z_h)
    slots += [bytes_of(rng, "project", (out, cells), 0.005) if projection else None]
    slots += [small("project bias", (out,), "int32", 0.005 * hidden, 300) if projection else None]
    slots += [variable("h", (batch, out), "int8", s_h, z_h), variable("c", (batch, cells), "int16", down)]
    slots += [gate(k, small(f"n{k}", (cells,), "int16", 1e-4, 15000)) for k in range(4)] if norm else [None] * 4
    inner = [tensor(f"i{k}", (), "int16", 0.002, 0) for k in range(4)] + [tensor("hidden", (), "int8", hidden, zero)]
    y = tensor("y", (batch, steps, out), "int8", s_h, z_h)
    graph = layer(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", slots, [y], "UnidirectionalSequenceLSTMOptions", inner, fused_activation_function=4,
        time_major=False, cell_clip=10.0, proj_clip=0.5 if projection else 0.0,
    )  # fmt: skip
    return Case(name, graph)


def both_ways(name: str, merge: bool, time_major: bool = False) -> Case:
    """BIDIRECTIONAL_SEQUENCE_LSTM on float32."""
    rng, (steps, batch, features, cells) = generator(name), (5, 2, 6, 7)
    lead = (steps, batch) if time_major else (batch, steps)
    slots: list[Tensor | None] = [tensor("x", (*lead, features), "float32")]
    for side in "fb":
        slots += [normal(rng, f"{side}w{k}", (cells, features)) for k in range(4)]
        slots += [normal(rng, f"{side}r{k}", (cells, cells)) for k in range(4)]
        slots += [None] * 3 + [normal(rng, f"{side}b{k}", (cells,)) for k in range(4)] + [None] * 2
    slots += [variable(f"{side}{n}", (batch, cells)) for side in "fb" for n in "hc"] + [None] * 9
    widths = [2 * cells] if merge else [cells, cells]
    outputs = [tensor(f"y{k}", (*lead, w), "float32") for k, w in enumerate(widths)]
    graph = layer(
        "BIDIRECTIONAL_SEQUENCE_LSTM", slots, outputs, "BidirectionalSequenceLSTMOptions", fused_activation_function=4,
        merge_outputs=merge, time_major=time_major, cell_clip=0.0, proj_clip=0.0,
    )  # fmt: skip
    return Case(name, graph)


def plain(name: str, *, hybrid: bool = False, activation: int = 4) -> Case:
    """UNIDIRECTIONAL_SEQUENCE_RNN."""
    rng, (steps, batch, features, units) = generator(name), (5, 2, 6, 7)
    make = bytes_of if hybrid else normal
    slots: list[Tensor | None] = [
        tensor("x", (batch, steps, features), "float32"), make(rng, "w", (units, features)), make(rng, "r", (units, units)),
        normal(rng, "b", (units,)), variable("h", (batch, units)),
    ]  # fmt: skip
    y = tensor("y", (batch, steps, units), "float32")
    options = {"fused_activation_function": activation, "time_major": False}
    return Case(name, layer("UNIDIRECTIONAL_SEQUENCE_RNN", slots, [y], "SequenceRNNOptions", **options))


def plain_both_ways(name: str, merge: bool) -> Case:
    """BIDIRECTIONAL_SEQUENCE_RNN."""
    rng, (steps, batch, features, units) = generator(name), (5, 2, 6, 7)
    slots: list[Tensor | None] = [tensor("x", (batch, steps, features), "float32")]
    for side in "fb":
        slots += [normal(rng, f"{side}w", (units, features)), normal(rng, f"{side}r", (units, units))]
        slots += [normal(rng, f"{side}b", (units,)), variable(f"{side}h", (batch, units))]
    outputs = [
        tensor(f"y{k}", (batch, steps, w), "float32") for k, w in enumerate([2 * units] if merge else [units] * 2)
    ]
    options = {"fused_activation_function": 4, "time_major": False, "merge_outputs": merge}
    graph = layer(
        "BIDIRECTIONAL_SEQUENCE_RNN", [*slots, None, None, None], outputs, "BidirectionalSequenceRNNOptions", **options
    )
    return Case(name, graph)


def full_cell(name: str) -> Case:
    """LSTM with its full kernel: one step."""
    rng, (batch, features, cells) = generator(name), (2, 6, 5)
    slots: list[Tensor | None] = [tensor("x", (batch, features), "float32")]
    slots += [normal(rng, f"w{k}", (cells, features)) for k in range(4)]
    slots += [normal(rng, f"r{k}", (cells, cells)) for k in range(4)]
    slots += [None] * 3 + [normal(rng, f"b{k}", (cells,)) for k in range(4)] + [None] * 2
    slots += [variable("h", (batch, cells)), variable("c", (batch, cells))] + [None] * 4
    y = tensor("y", (batch, cells), "float32")
    return Case(name, layer("LSTM", slots, [y], "LSTMOptions", fused_activation_function=4, kernel_type=0))


def one_step(name: str) -> Case:
    """RNN."""
    rng = generator(name)
    slots: list[Tensor | None] = [
        tensor("x", (3, 6), "float32"), normal(rng, "w", (7, 6)), normal(rng, "r", (7, 7)), normal(rng, "b", (7,)),
        variable("h", (3, 7)),
    ]  # fmt: skip
    y = tensor("y", (3, 7), "float32")
    return Case(name, layer("RNN", slots, [y], "RNNOptions", fused_activation_function=1))


def filters(name: str, kind: str, rank: int) -> Case:
    """SVDF: float32, hybrid or int8."""
    rng, (batch, features, units, memory) = generator(name), (2, 9, 4, 5)
    n, options = units * rank, {"rank": rank, "fused_activation_function": 1}
    if kind == "int8":
        x, y = tensor("x", (batch, features), "int8", 0.05, 4), tensor("y", (batch, units), "int8", 0.06, -5)
        w = bytes_of(rng, "w", (n, features), 0.006)
        t = tensor("t", (n, memory), "int16", 2e-5, 0, data=rng.integers(-32767, 32768, (n, memory)).astype(np.int16))
        b = tensor("b", (units,), "int32", 2e-5 * 8e-4, 0, data=rng.integers(-90000, 90000, units).astype(np.int32))
        state = variable("s", (batch, n * memory), "int16", 8e-4)
    else:
        x, y = tensor("x", (batch, features), "float32"), tensor("y", (batch, units), "float32")
        make = bytes_of if kind == "hybrid" else normal
        w, t, b = make(rng, "w", (n, features)), make(rng, "t", (n, memory)), normal(rng, "b", (units,))
        state = variable("s", (batch, n * memory))
    return Case(name, layer("SVDF", [x, w, t, b, state], [y], "SVDFOptions", **options))


def cases() -> Iterator[Case]:
    """All of them."""
    for kind in ("float32", "hybrid"):
        hybrid = kind == "hybrid"
        code = f"UNIDIRECTIONAL_SEQUENCE_LSTM {kind}"
        yield float_lstm(code, hybrid=hybrid)
        yield float_lstm(f"{code} coupled, time first", hybrid=hybrid, coupled=True, time_major=True)
        yield float_lstm(f"{code} projected, clipped", hybrid=hybrid, projection=True, clip=0.6)
        if not hybrid:
            yield float_lstm(f"{code} peephole", peephole=True)
        yield float_lstm(f"{code} normalized", hybrid=hybrid, norm=True, peephole=not hybrid, projection=True)
        yield plain(f"UNIDIRECTIONAL_SEQUENCE_RNN {kind}", hybrid=hybrid)
        yield filters(f"SVDF {kind}", kind, 2)
    yield integer_lstm("UNIDIRECTIONAL_SEQUENCE_LSTM int8")
    yield integer_lstm("UNIDIRECTIONAL_SEQUENCE_LSTM int8 projected", projection=True)
    yield integer_lstm("UNIDIRECTIONAL_SEQUENCE_LSTM int8 coupled", coupled=True)
    yield integer_lstm("UNIDIRECTIONAL_SEQUENCE_LSTM int8 peephole", peephole=True)
    yield integer_lstm("UNIDIRECTIONAL_SEQUENCE_LSTM int8 normalized", norm=True, projection=True)
    yield both_ways("BIDIRECTIONAL_SEQUENCE_LSTM float32 merged, time first", True, True)
    yield both_ways("BIDIRECTIONAL_SEQUENCE_LSTM float32", False)
    yield one_step("RNN float32")
    yield full_cell("LSTM float32, the full kernel")
    yield plain_both_ways("BIDIRECTIONAL_SEQUENCE_RNN float32", False)
    yield plain_both_ways("BIDIRECTIONAL_SEQUENCE_RNN float32 merged", True)
    yield plain("UNIDIRECTIONAL_SEQUENCE_RNN float32 relu", activation=1)
    yield filters("SVDF int8", "int8", 2)
    yield filters("SVDF int8 rank 1", "int8", 1)
