"""The kernels behind QuantMod give their NumPy twins' codes and counts, through the caches and past them."""

from __future__ import annotations

from math import floor

import numpy as np
import pytest

from edgeq import passes
from edgeq.errors import InputError
from edgeq.quantmod import QuantMod


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("source", [np.float32, np.float64])
def test_kernel_equals_numpy(monkeypatch, wrap, dtype, axis, source):
    """The compiled kernel and its NumPy twin agree bit for bit, per tensor and along every axis."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(7)
    x = (rng.normal(size=(5, 7, 3)) * 60).astype(source)
    x[0] = np.round(x[0]) + 0.5  # ties
    k = () if axis is None else (x.shape[axis],)
    q = QuantMod(rng.uniform(0.01, 3, k), rng.uniform(0, 200, k), 251, axis, dtype)
    monkeypatch.setattr(passes, "_REPAYS_CALL", 1)
    monkeypatch.setattr(passes, "_REPAYS_NUMBA", 1)
    fast = q.quantize(x, wrap=wrap)
    monkeypatch.setattr(passes, "_have_numba", lambda: False)
    slow = q.quantize(x, wrap=wrap)
    assert fast.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(fast, slow)
    assert len(np.unique(slow)) > 20


def both_ways(monkeypatch, call):
    """What the compiled kernels give, through the caches and past them alike, and what their NumPy twins give: arrays, or the
    error's text.
    """
    monkeypatch.setattr(passes, "_REPAYS_CALL", 1)
    monkeypatch.setattr(passes, "_REPAYS_NUMBA", 1)
    found = []
    for numba, streams in ((True, 1 << 62), (True, 0), (False, 0)):
        monkeypatch.setattr(passes, "_have_numba", lambda answer=numba: answer)
        monkeypatch.setattr(passes, "_STREAMS", streams)
        try:
            found.append(call())
        except InputError as error:
            found.append(str(error))
    fast, past, slow = found
    np.testing.assert_array_equal(fast, past)
    return fast, slow


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("behind", [0, 1, 7, 63])
@pytest.mark.parametrize(("shape", "axis"), [((3000,), None), ((3, 1000), 0), ((200, 15), 1)], ids=str)
def test_arrays_past_the_caches(monkeypatch, wrap, behind, shape, axis):
    """Wherever the output begins and rows end, the elements are the twin's, and not one byte beside them is touched."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(behind)
    x = rng.normal(0, 60, shape).astype(np.float32)
    k = () if axis is None else (shape[axis],)
    q = QuantMod(rng.uniform(0.5, 3, k), rng.uniform(50, 200, k), 251, axis, "int8")
    around = np.full(3000 + 128, 99, np.int8)
    start = -around.ctypes.data % 64 + behind
    out = around[start : start + 3000].reshape(shape)
    fast, slow = both_ways(monkeypatch, lambda: (q.quantize(x, wrap=wrap, out=out).copy(), q.wraps(x)))
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (around[:start] == 99).all()
    assert (around[start + 3000 :] == 99).all()


def test_arrays_out_of_alignment():
    """Input and output that begin at any byte are taken."""
    pytest.importorskip("numba")
    q, raw = QuantMod(12.8, 2.5, 65536, None, "int16"), np.zeros(4 * 9000 + 1, np.uint8)
    x, out = raw[1:].view(np.float32), np.zeros(2 * 9000 + 1, np.uint8)[1:].view(np.int16)
    x[:] = np.linspace(-9, 9, 9000)
    np.testing.assert_array_equal(q.quantize(x, out=out), q.quantize(x.copy()))


def near_integers(rng, c, d, p, size):
    """float32 numbers whose C·x + d lies within a few float32 steps of an integer in [−p, 2p]."""
    x = ((rng.integers(-p, 2 * p, size) - d) / c).astype(np.float32)
    return (x.view(np.int32) + rng.integers(-3, 4, size).astype(np.int32)).view(np.float32)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("shape", [(6000,), (4, 1500), (1500, 4), (3, 700, 3)], ids=str)
@pytest.mark.parametrize("p", [2, 16, 251, 256, 1000, 2400, 65536])
def test_float32_arithmetic_gives_float64s_codes(monkeypatch, wrap, shape, p):
    """Next to integers, where float32 errs, the kernels give what float64 gives: a whole tensor, rows, and last axes."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(p)
    axis = None if len(shape) == 1 else 1 if shape[1] < 10 or len(shape) == 3 else 0
    k = () if axis is None else (shape[axis],)
    spread = [1] * len(shape)
    if axis is not None:
        spread[axis] = shape[axis]
    c, d = rng.uniform(0.001, 9, k), rng.uniform(0, p, k)
    x = np.where(
        rng.random(shape) < 0.02,
        near_integers(rng, np.reshape(c, spread), np.reshape(d, spread), p, shape),
        ((rng.uniform(0, p, shape) - np.reshape(d, spread)) / np.reshape(c, spread)).astype(np.float32),
    )
    x.flat[:2] = np.inf if not wrap else 1e10, -3e4
    q = QuantMod(c, d, p, axis, "int8" if p <= 256 else "int16")
    fast, slow = both_ways(monkeypatch, lambda: q.quantize(x, wrap=wrap))
    np.testing.assert_array_equal(fast, slow)
    fast, slow = both_ways(monkeypatch, lambda: q.wraps(x[np.isfinite(x)] if axis is None else np.minimum(x, 1e9)))
    np.testing.assert_array_equal(fast, slow)


DISTANCES = [0.0, *(sign * 2.0**-k for sign in (1, -1) for k in (12, 17, 18, 19, 20, 21, 24, 30, 36, 44))]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("dtype", "p"), [("int8", 251), ("int8", 256), ("int16", 65521), ("int16", 65536)])
def test_next_to_integers(monkeypatch, dtype, p, axis, wrap):
    """Where C·x + d is so near to an integer that float32 cannot tell on which side, float64's codes come out."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(p + axis)
    for distance in DISTANCES:
        c = rng.uniform(0.5, 1.5, 20) * 10.0 ** rng.integers(-3, 4, 20)
        x = (rng.uniform(0, p, (20, 64)) / c[:, None]).astype(np.float32)
        d = np.floor(rng.uniform(-0.2 * p, 1.2 * p, 20)) + distance - c * x[:, 5]  # C·x + d but for its roundings
        x[:, 40], x[:, 63] = x[:, 5], np.nextafter(x[:, 5], np.float32(9e9))
        q, given = QuantMod(c, d, p, axis, dtype), x if axis == 0 else np.ascontiguousarray(x.T)
        fast, slow = both_ways(monkeypatch, lambda q=q, given=given: q.quantize(given, wrap=wrap))
        np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("p", [1000, 65521, 65536])
def test_as_far_as_codes_are_decided_in_float32(monkeypatch, p):
    """Numbers that go round often, up to where float32 gives up and beyond, wrap as in float64."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(p)
    t = np.concatenate([sign * 2.0**k + rng.integers(-9, 9, 512) + 0.25 for k in range(8, 50) for sign in (1, -1)])
    q = QuantMod(0.75, 0.3 * p + 0.1, p, None, "int16")
    fast, slow = both_ways(monkeypatch, lambda: q.quantize((t / 0.75).astype(np.float32), wrap=True))
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((9000,), None), ((64, 100), 0), ((100, 64), 1), ((10, 10, 60), 1)], ids=str
)
@pytest.mark.parametrize(("dtype", "p"), [("int8", 251), ("int8", 256), ("int16", 65521), ("int16", 65536)])
def test_most_codes_are_decided_in_float32(dtype, p, shape, axis, wrap):
    """Of ordinary numbers the loops in float64 see a few blocks at most, even where some are out of range."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(5)
    x = rng.normal(0, 2.5, shape).astype(np.float32)
    k = () if axis is None else (shape[axis],)
    q = QuantMod(rng.uniform(0.9, 1.1, k) * p / 12, rng.uniform(0.4, 0.6, k) * p, p, axis, dtype)
    out = np.empty(shape, dtype)
    kept = q._passes(x, wrap)
    kind, *rest = kept._for_codes(x, out.itemsize)
    kept._ahead["codes"] = (kind._replace(c=kind.c * 0), *rest)  # where float64 decides, all elements are alike
    kept._compiled(x, out)
    assert np.mean(out == q.quantize(x.astype(np.float64), wrap=wrap)) > 0.8


@pytest.mark.parametrize("wrap", [False, True])
def test_numbers_on_the_grid(monkeypatch, wrap):
    """Input whose every C·x + d is an integer is never what float32 can decide, and comes out right."""
    pytest.importorskip("numba")
    x = np.tile(np.arange(-300, 700, dtype=np.float32), 40)
    fast, slow = both_ways(monkeypatch, lambda: QuantMod(1.0, 3.0, 251, None, "int8").quantize(x, wrap=wrap))
    np.testing.assert_array_equal(fast, slow)
    assert slow[303] == 3 + 3 - 125


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_values_without_a_code_are_counted(monkeypatch, wrap, dtype):
    """NaN of either sign, and infinities where they cannot go round, are counted alike by kernel and twin."""
    pytest.importorskip("numba")
    x = np.zeros(5000, np.float32)
    x[[7, 4000]], x[8], x[300:303] = np.nan, -np.float32(np.nan), np.inf
    q = QuantMod(1.5, 0.5, 251, None, dtype)
    expected = "6 of 5000" if wrap else "3 of 5000"
    for message in both_ways(monkeypatch, lambda: q.quantize(x, wrap=wrap)):
        assert message.startswith(expected)
    for message in both_ways(monkeypatch, lambda: q.wraps(x)):
        assert message == "6 of 5000 values are NaN or beyond counting"


def test_wrap_counts_to_the_limit(monkeypatch):
    """Just below 2⁵³ and on the way there the counts are exact."""
    pytest.importorskip("numba")
    x = np.concatenate(
        [2.0 ** np.arange(20, 53), -(2.0 ** np.arange(20, 53)), np.nextafter(2.0**53, 0) - np.arange(300.0)]
    )
    expected = [floor(v) // 251 for v in x]
    for counts in both_ways(monkeypatch, lambda: QuantMod(1.0, 0.0, 251).wraps(x)):
        assert counts.tolist() == expected


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("c", "d"),
    [
        pytest.param(1e-300, 3.5, id="tiny C"),
        pytest.param(1e300, 3.5, id="huge C"),
        pytest.param(1e-30, 1e12, id="far zero"),
        pytest.param(2.5, 2.0**50 + 0.5, id="d beside the limit"),
        pytest.param(2.5, -(2.0**52), id="negative d"),
        pytest.param(0.3, -40.0, id="zero below the codes"),
    ],
)
def test_parameters_far_from_any_model(monkeypatch, wrap, source, c, d):
    """Transforms that no clamp in x's dtype can express give what the twin gives."""
    pytest.importorskip("numba")
    x = np.concatenate([np.linspace(-9, 9, 999), [0.0, 1e30, -1e30, 1e9]]).astype(source)
    q = QuantMod(c, d, 251, None, "int8")
    fast, slow = both_ways(monkeypatch, lambda: q.quantize(x, wrap=wrap))
    np.testing.assert_array_equal(fast, slow)
    fast, slow = both_ways(monkeypatch, lambda: q.wraps(x))
    np.testing.assert_array_equal(fast, slow)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_wrapping_is_exact_to_the_limit(dtype):
    """Just below 2⁵³ the modulus is still exact, for the twin and for the kernel."""
    x = np.nextafter(2.0**53, 0) - np.arange(300.0)
    q = QuantMod(1.0, 0.0, 251, None, dtype)
    expected = np.array([int(v) % 251 for v in x]) - q.offset
    np.testing.assert_array_equal(q.quantize(x, wrap=True), expected)
    if passes._have_numba():
        out = np.empty(x.shape, dtype)
        assert q._passes(x, True)._compiled(x, out) == 0
        np.testing.assert_array_equal(out, expected)
