"""Models of one operation that computes with plain numbers, or with pairs of quantized ones."""

from __future__ import annotations

from collections.abc import Iterator

from .cases import Case, constant, generator, scale_for, single, tensor, zero_for

OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions", "FLOOR_DIV": "FloorDivOptions", "FLOOR_MOD": "FloorModOptions", "POW": "PowOptions",
    "SQUARED_DIFFERENCE": "SquaredDifferenceOptions", "EQUAL": "EqualOptions", "NOT_EQUAL": "NotEqualOptions",
    "LESS": "LessOptions", "LESS_EQUAL": "LessEqualOptions", "GREATER": "GreaterOptions", "GREATER_EQUAL": "GreaterEqualOptions",
    "LOGICAL_AND": "LogicalAndOptions", "LOGICAL_OR": "LogicalOrOptions", "LOGICAL_NOT": "LogicalNotOptions",
    "BITWISE_XOR": "BitwiseXorOptions", "RIGHT_SHIFT": "RightShiftOptions", "ATAN2": "ATan2Options",
}  # fmt: skip

BINARY: dict[str, tuple[str, ...]] = {
    "ADD": ("int32", "int64"),
    "SUB": ("int32", "int64"),
    "MUL": ("int32", "int64", "uint32"),
    "DIV": ("float32", "int32"),
    "MAXIMUM": ("float32", "int8", "uint8", "int16", "int32", "int64"),
    "MINIMUM": ("float32", "int8", "uint8", "int16", "int32", "int64"),
    "FLOOR_DIV": ("float32", "int32", "int8", "int16"),
    "FLOOR_MOD": ("float32", "int32", "int64", "int8", "int16"),
    "POW": ("float32", "int32"),
    "SQUARED_DIFFERENCE": ("float32", "int32"),
    "BITWISE_XOR": ("int8", "uint8", "int16", "uint16", "int32", "uint32"),
    "RIGHT_SHIFT": ("int8", "uint8", "int16", "uint16", "int32", "uint32"),
    "LOGICAL_AND": ("bool",),
    "LOGICAL_OR": ("bool",),
    "ATAN2": ("float32",),
    "PRELU": ("float32",),
}
RANGES: dict[str, dict[int, tuple[float, float]]] = {
    "DIV": {1: (1, 50)}, "FLOOR_DIV": {1: (1, 50)}, "FLOOR_MOD": {1: (1, 50)}, "POW": {0: (0.1, 7), 1: (0, 9)},
    "RIGHT_SHIFT": {1: (-1, 40)},
    "SQUARED_DIFFERENCE": {0: (-9000, 9000), 1: (-9000, 9000)},
}  # fmt: skip
COMPARISONS = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
SHAPES = (("", (2, 3, 5), (2, 3, 5)), (" with a row", (2, 3, 5), (5,)), (" both ways", (2, 1, 5), (3, 1)))


def binaries() -> Iterator[Case]:
    """Two inputs of one type without scales."""
    for code, types in BINARY.items():
        for dtype in types:
            for text, a, b in SHAPES if code != "PRELU" else (("", (2, 3, 4, 5), (1, 1, 5)), (" of one", (2, 7), (7,))):
                out = {"": a, " with a row": a, " of one": a}.get(text, (2, 3, 5))
                ins = [tensor("a", a, dtype), tensor("b", b, dtype)]
                unlike = ("tflite", "xnnpack") if code == "ATAN2" and text else ()  # they do not broadcast it
                graph = single(code, ins, tensor("y", out, dtype), OPTIONS.get(code))
                yield Case(f"{code} {dtype}{text}", graph, RANGES.get(code, {}), unlike)
    for code in COMPARISONS:
        for dtype in ("float32", "int32", "int64", "int16", "int8", "uint8", "bool"):
            for text, a, b in SHAPES:
                rng = generator(f"{code} {dtype}{text}")
                scaled = dtype in ("int8", "uint8")
                ins = [
                    tensor(
                        n, s, dtype, scale_for(dtype, rng) if scaled else None, zero_for(dtype, rng) if scaled else 0
                    )
                    for n, s in (("a", a), ("b", b))
                ]
                out = (2, 3, 5)
                few = {0: (0, 4), 1: (0, 4)} if not scaled and dtype != "bool" else {}
                unlike = (
                    ("xnnpack",) if (code, dtype) == ("NOT_EQUAL", "int16") else ()
                )  # LiteRT 2.3 gives something else
                yield Case(
                    f"{code} {dtype}{text}", single(code, ins, tensor("y", out, "bool"), OPTIONS[code]), few, unlike
                )


def quantized_pairs() -> Iterator[Case]:
    """All pairs of 8 bits: SQUARED_DIFFERENCE, PRELU, DIV, MAXIMUM, MINIMUM."""
    for k in range(3):
        for code, types in (("SQUARED_DIFFERENCE", ("int8",)), ("PRELU", ("int8", "uint8")), ("DIV", ("uint8", "int8")),
                            ("MAXIMUM", ("int8", "uint8", "int16")), ("MINIMUM", ("int8", "uint8", "int16"))):  # fmt: skip
            for dtype in types:
                name = f"{code} {dtype} quantized {k}"
                rng = generator(name)
                s, z = [scale_for(dtype, rng) for _ in range(3)], [zero_for(dtype, rng) for _ in range(3)]
                if code in ("MAXIMUM", "MINIMUM"):
                    s, z = s[:1] * 3, z[:1] * 3
                elif code == "SQUARED_DIFFERENCE":
                    s[2] = max(s[0], s[1]) * float(rng.uniform(1, 3))
                elif code == "DIV":
                    low = 0 if dtype == "uint8" else -128
                    s[2], z[0], z[1] = s[0] / s[1] * float(rng.uniform(0.005, 0.05)), low + 255 * (k % 2), low
                a, b = tensor("a", (16, 300), dtype, s[0], z[0]), tensor("b", (16, 300), dtype, s[1], z[1])
                if code == "PRELU":
                    b = tensor("b", (1, 300), dtype, s[1], z[1])
                # Divisors other than 0, and dividends of 16 or more: for smaller ones the runtimes shift by 32 bits or more.
                low = 0 if dtype == "uint8" else -128
                few = (
                    {0: (low, low + 240) if k % 2 else (low + 16, low + 256), 1: (low + 1, low + 256)}
                    if code == "DIV"
                    else {}
                )
                graph = single(code, [a, b], tensor("y", (16, 300), dtype, s[2], z[2]), OPTIONS.get(code))
                yield Case(name, graph, few)


FLOATS = {
    "ABS": ("AbsOptions", None), "NEG": ("NegOptions", None), "SQRT": (None, (0, 50)), "RSQRT": (None, (0.01, 50)),
    "EXP": ("ExpOptions", None), "SQUARE": ("SquareOptions", None), "FLOOR": (None, None), "CEIL": (None, None),
    "ROUND": (None, (-9, 9)), "LOG": (None, (0.001, 90)),
    "SIN": (None, (-60, 60)), "COS": ("CosOptions", (-60, 60)), "ELU": (None, None), "SIGN": ("SignOptions", None),
}  # fmt: skip


def unaries() -> Iterator[Case]:
    """float32 functions, integers, casts."""
    for code, (options, limits) in FLOATS.items():
        yield Case(
            f"{code} float32",
            single(code, [tensor("x", (3, 1000), "float32")], tensor("y", (3, 1000), "float32"), options),
            {} if limits is None else {0: limits},
        )
    for approximate in (False, True):
        graph = single(
            "GELU",
            [tensor("x", (3, 500), "float32")],
            tensor("y", (3, 500), "float32"),
            "GeluOptions",
            approximate=approximate,
        )
        yield Case(f"GELU float32{' by tanh' if approximate else ''}", graph)
    for code, dtype in (
        ("ABS", "int32"),
        ("NEG", "int32"),
        ("NEG", "int64"),
        ("SIGN", "int32"),
        ("LOGICAL_NOT", "bool"),
    ):
        graph = single(
            code,
            [tensor("x", (2, 50), dtype)],
            tensor("y", (2, 50), dtype),
            OPTIONS.get(code, f"{code.capitalize()}Options"),
        )
        yield Case(f"{code} {dtype}", graph)
    types = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool", "uint16", "uint32")
    for source in types:
        for target in types:
            if source != target:
                graph = single("CAST", [tensor("x", (2, 50), source)], tensor("y", (2, 50), target), "CastOptions")
                ranges = {0: (0, 120)} if "float32" in (source, target) and source != "bool" else {}
                yield Case(f"CAST {source} → {target}", graph, ranges)


def choices() -> Iterator[Case]:
    """SELECT and SELECT_V2, ADD_N."""
    for dtype in ("float32", "int8", "uint8", "int16", "int32", "int64", "bool"):
        for code, text, c, a, b, out in (
            ("SELECT", "", (2, 3, 4), (2, 3, 4), (2, 3, 4), (2, 3, 4)),
            ("SELECT", " by rows", (2,), (2, 3, 4), (2, 3, 4), (2, 3, 4)),
            ("SELECT", " by one", (), (2, 3, 4), (2, 3, 4), (2, 3, 4)),
            ("SELECT_V2", "", (2, 3, 4), (2, 3, 4), (2, 3, 4), (2, 3, 4)),
            ("SELECT_V2", " broadcast", (2, 1, 4), (3, 1), (2, 1, 1), (2, 3, 4)),
        ):
            s, z = (0.05, 3) if dtype in ("int8", "uint8") else (0.001, 0) if dtype == "int16" else (None, 0)
            ins = [tensor("c", c, "bool"), tensor("a", a, dtype, s, z), tensor("b", b, dtype, s, z)]
            graph = single(
                code, ins, tensor("y", out, dtype, s, z), "SelectOptions" if code == "SELECT" else "SelectV2Options"
            )
            yield Case(f"{code} {dtype}{text}", graph)
    for dtype in ("float32", "int32"):
        ins = [tensor(n, (2, 30), dtype) for n in "abc"]
        yield Case(f"ADD_N {dtype}", single("ADD_N", ins, tensor("y", (2, 30), dtype), "AddNOptions"))


def reductions() -> Iterator[Case]:
    """SUM and its kind over several axes."""
    for code, types in (
        ("SUM", ("float32", "int32", "int64")),
        ("REDUCE_PROD", ("float32", "int32", "int64")),
        ("REDUCE_MAX", ("float32", "int32", "int64", "int8", "uint8", "int16")),
        ("REDUCE_MIN", ("float32", "int32", "int64", "int8", "uint8", "int16")),
        ("REDUCE_ANY", ("bool",)),
        ("REDUCE_ALL", ("bool",)),
    ):
        for dtype in types:
            for axes, keep, out in (
                ([1], False, (2, 4)),
                ([0, 2], True, (1, 3, 1)),
                ([2, 1], False, (2,)),
                ([0, 1, 2], False, ()),
            ):
                s, z = (0.05, 3) if dtype in ("int8", "uint8") else (0.001, 0) if dtype == "int16" else (None, 0)
                graph = single(
                    code,
                    [tensor("x", (2, 3, 4), dtype, s, z), constant("axes", axes)],
                    tensor("y", out, dtype, s, z),
                    "ReducerOptions",
                    keep_dims=keep,
                )
                yield Case(f"{code} {dtype} over {axes}", graph, {0: (-3, 4)} if code == "REDUCE_PROD" else {})


def cases() -> list[Case]:
    """All of them."""
    return [*binaries(), *quantized_pairs(), *unaries(), *choices(), *reductions()]
