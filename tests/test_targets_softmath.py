"""What 32-bit ARM objects bring along in place of a run-time library, compiled for this machine and held against NumPy."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from edgeq.targets import softmath

F32, F64, I64 = ctypes.c_float, ctypes.c_double, ctypes.c_int64
LARGE = np.array(
    [0, 1, -1, 2, 7, 2**31, -(2**31), 2**32, 2**52 + 1, 2**53 + 1, -(2**53) - 3, 2**62 + 513, -(2**63) + 1, 2**63 - 1]
)


@pytest.fixture(scope="module")
def engine() -> Any:
    """The functions in machine code of this processor."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    # Their own names would find the C library's.
    text = softmath.TEXT
    for name in ("rint", "floor", "ceil", "trunc"):
        text = text.replace(f"@{name}f(", f"@edgeq_{name}f(").replace(f"@{name}(", f"@edgeq_{name}(")
    for name in ("__ashldi3", "__ashrdi3", "__lshrdi3"):
        text = text.replace(f"@{name}(", f"@edgeq{name}(")
    for name in ("__fixdfdi", "__fixsfdi", "__floatdidf", "__floatdisf", "__floatundisf"):
        text = text.replace(f"@{name}(", f"@edgeq{name}(")
    built = llvm.create_mcjit_compiler(llvm.parse_assembly(text.replace("define hidden", "define")), machine)
    built.finalize_object()
    return built


def function(engine: Any, name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.CFUNCTYPE(result, *arguments)(engine.get_function_address(name))


def integers() -> np.ndarray:
    """int64 of every length, and the corners."""
    rng = np.random.default_rng(3)
    return np.concatenate([LARGE, rng.integers(-(2**63), 2**63 - 1, 3000) >> rng.integers(0, 63, 3000)])


@pytest.mark.parametrize("name", ["rint", "floor", "ceil", "trunc"])
@pytest.mark.parametrize(("end", "kind", "dtype"), [("", F64, np.float64), ("f", F32, np.float32)])
def test_rounding_is_numpys(engine: Any, name: str, end: str, kind: Any, dtype: type) -> None:
    """To whole numbers, ties, signed zeros, infinities and NaN included."""
    rng = np.random.default_rng(1)
    x = np.concatenate([
        np.array([0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e30, np.inf, -np.inf, np.nan, 2**23 + 1, 2**52 - 0.5]),
        rng.normal(size=2000) * 10.0 ** rng.integers(-3, 18, 2000),
    ]).astype(dtype)  # fmt: skip
    f = function(engine, f"edgeq_{name}{end}", kind, kind)
    found = np.array([f(v) for v in x], dtype)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found, getattr(np, name)(x))
    assert (np.signbit(found) == np.signbit(getattr(np, name)(x)))[~np.isnan(x)].all()


def test_integers_become_floats_rounded_once(engine: Any) -> None:
    """int64 to float64 and float32, to nearest, ties to even."""
    for name, kind, dtype in (("edgeq__floatdidf", F64, np.float64), ("edgeq__floatdisf", F32, np.float32)):
        f = function(engine, name, kind, I64)
        np.testing.assert_array_equal(np.array([f(int(v)) for v in integers()], dtype), integers().astype(dtype))


def test_unsigned_integers_become_floats_rounded_once(engine: Any) -> None:
    """uint64 to float32, to nearest, ties to even, above the range of int64 too."""
    f = function(engine, "edgeq__floatundisf", F32, ctypes.c_uint64)
    x = integers().astype(np.uint64)
    np.testing.assert_array_equal(np.array([f(int(v)) for v in x], np.float32), x.astype(np.float32))


def test_floats_become_integers(engine: Any) -> None:
    """float64 and float32 to int64, towards zero."""
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [[0.0, -0.0, 0.99, -0.99, 2.0**62, -(2.0**62)], rng.normal(size=2000) * 10.0 ** rng.integers(0, 17, 2000)]
    )
    for name, kind, dtype in (("edgeq__fixdfdi", F64, np.float64), ("edgeq__fixsfdi", F32, np.float32)):
        f = function(engine, name, I64, kind)
        np.testing.assert_array_equal([f(v) for v in x.astype(dtype)], x.astype(dtype).astype(np.int64))


def test_shifts_reach_every_bit(engine: Any) -> None:
    """int64 by 0 to 63 bits, to the left and to the right, with and without its sign."""
    x = integers()[:400]
    for name, shift in (("__ashldi3", np.left_shift), ("__ashrdi3", np.right_shift), ("__lshrdi3", None)):
        f = function(engine, f"edgeq{name}", I64, I64, ctypes.c_int32)
        for n in range(64):
            expected = (x.view(np.uint64) >> np.uint64(n)).view(np.int64) if shift is None else shift(x, n)
            np.testing.assert_array_equal([f(int(v), n) for v in x], expected)


def test_division_is_cs(engine: Any) -> None:
    """Quotient towards zero and remainder with the dividend's sign, signed and unsigned, 64 bits."""
    n, d = integers(), np.random.default_rng(4).permutation(integers())
    d[d == 0] = 3
    quotient = [abs(int(a)) // abs(int(b)) * (1 if (a < 0) == (b < 0) else -1) for a, b in zip(n, d, strict=True)]
    div, rem = function(engine, "numba_sdiv", I64, I64, I64), function(engine, "numba_srem", I64, I64, I64)
    assert [div(int(a), int(b)) for a, b in zip(n, d, strict=True)] == quotient
    assert [rem(int(a), int(b)) for a, b in zip(n, d, strict=True)] == [
        int(a) - q * int(b) for a, b, q in zip(n, d, quotient, strict=True)
    ]
    wide = ctypes.c_uint64
    udiv, urem = function(engine, "numba_udiv", wide, wide, wide), function(engine, "numba_urem", wide, wide, wide)
    for a, b in zip(n.astype(np.uint64), d.astype(np.uint64), strict=True):
        assert (udiv(int(a), int(b)), urem(int(a), int(b))) == divmod(int(a), int(b))
