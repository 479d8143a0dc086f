"""QuantMod keeps its formula, its inverse and its TFLite reading."""

from __future__ import annotations

import pickle
import subprocess
import sys
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import InputError
from edgeq.quantmod import QuantMod, transform

finite = st.floats(-1e6, 1e6, width=32)


def formula(x: float, c: float, d: float, p: int) -> int:
    """The definition, one number at a time, the sum rounded to float64 as the module says."""
    return floor(float(x) * c + d) % p


@pytest.mark.parametrize(
    ("x", "c", "d", "p", "expected"),
    [
        (0.0, 1.0, 0.0, 256, 0),
        (0.75, 1.0, 0.0, 256, 0),  # f = 0 truncates
        (0.75, 1.0, 0.5, 256, 1),  # f = ½ rounds
        (-0.25, 1.0, 0.0, 256, 255),  # below the range goes round
        (256.0, 1.0, 0.0, 256, 0),
        (1000.0, 0.5, 7.0, 251, 5),  # a modulus that is no power of two
        (1.0, 65535.0, 0.5, 65536, 65535),
    ],
)
def test_the_formula_wraps(x, c, d, p, expected):
    """Wrapping gives floor(C·x + d) mod p."""
    assert QuantMod(c, d, p).quantize(x, wrap=True) == expected == formula(x, c, d, p)


@given(finite, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(2, 65536))
def test_wrapping_is_the_definition(x, c, d, p):
    """Every value wraps to what Python's own floor and % say, and the wrap count is the quotient."""
    q = QuantMod(c, d, p)
    t = floor(float(x) * c + d)
    assert int(q.quantize(np.float32(x), wrap=True)) == t % p
    assert int(q.wraps(np.float32(x))) == t // p


@given(finite, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3), st.integers(2, 65536))
def test_saturating_is_clamping(x, c, d, p):
    """Without wrap, values beyond the codes stop at 0 and p − 1."""
    assert int(QuantMod(c, d, p).quantize(np.float32(x))) == min(max(floor(float(x) * c + d), 0), p - 1)


def test_what_is_worked_out_once_stays_behind():
    """A transform that has been used can be pickled, and equals the one that comes back."""
    q = QuantMod([0.5, 2.0], [3.0, 4.0], 256, 1, "int8")
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    codes = q.quantize(x)
    q.dequantize(codes)
    back = pickle.loads(pickle.dumps(q))
    assert back == q
    np.testing.assert_array_equal(back.quantize(x), codes)


def test_wrap_counts_into_an_array_of_the_callers():
    """`out` is filled and returned; one that does not fit is refused."""
    q, x = QuantMod(1.0, 0.0, 10), np.arange(-20, 40, dtype=np.float32)
    out = np.empty(60, np.int64)
    assert q.wraps(x, out=out) is out
    assert out.tolist() == [v // 10 for v in range(-20, 40)]
    with pytest.raises(InputError, match=r"out is int32\[60\], a contiguous int64\[60\] is expected"):
        q.wraps(x, out=np.empty(60, np.int32))


def test_codes_into_an_array_of_the_callers(monkeypatch):
    """`out` is filled and returned; one that does not fit is refused."""
    q, x = QuantMod.from_tflite(0.5, 0, "int8"), np.arange(6, dtype=np.float32).reshape(2, 3)
    out = np.empty((2, 3), np.int8)
    assert q.quantize(x, out=out) is out
    np.testing.assert_array_equal(out, q.quantize(x))
    for wrong in (np.empty((3, 2), np.int8), np.empty((2, 3), np.uint8), np.empty((2, 6), np.int8)[:, ::2]):
        with pytest.raises(InputError, match=r"a contiguous int8\[2, 3\] is expected"):
            q.quantize(x, out=wrong)


@pytest.mark.parametrize(
    ("dtype", "p", "low", "high"),
    [
        ("int8", 256, -128, 127),
        ("int8", 255, -127, 127),
        ("int8", 16, -8, 7),
        ("uint8", 256, 0, 255),
        ("int16", 65536, -32768, 32767),
        ("int16", 65535, -32767, 32767),
        ("uint16", 65536, 0, 65535),
    ],
)
def test_codes_of_a_dtype(dtype, p, low, high):
    """The codes of a signed dtype lie around zero, those of an unsigned one start at it."""
    q = QuantMod.from_tflite(1.0, 0, dtype, p=p)
    assert q.quantize([-1e9, 1e9]).tolist() == [low, high]
    assert q.limits == (low, high)


TFLITE = [
    (0.00392156885936856, -128, "int8"),
    (0.5847029, 83, "int8"),
    (1.0, 0, "uint8"),
    (3.1e-5, 0, "int16"),
    (1e-30, 127, "int8"),
    (0.0078125, 128, "uint8"),
]


@pytest.mark.parametrize(("scale", "zero_point", "dtype"), TFLITE)
@pytest.mark.parametrize("f", [0.0, 0.5, 0.9375])
def test_tflite_round_trip(scale, zero_point, dtype, f):
    """(scale, zero_point) come back bit for bit, whatever the rounding offset."""
    q = QuantMod.from_tflite(scale, zero_point, dtype, f)
    assert q.to_tflite() == (float(np.float32(scale)), zero_point)
    assert QuantMod.from_tflite(*q.to_tflite(), dtype, f) == q
    assert hash(QuantMod.from_tflite(*q.to_tflite(), dtype, f)) == hash(q)


def test_tflite_round_trip_of_every_float32_exponent():
    """1/C rounds back to the very float32 scale it came from."""
    rng = np.random.default_rng(3)
    s = np.ldexp(rng.uniform(1, 2, 20000), rng.integers(-120, 100, 20000)).astype(np.float32)
    q = QuantMod.from_tflite(s, np.zeros(20000, int), "int8", axis=0)
    np.testing.assert_array_equal(q.scale, s)


@pytest.mark.parametrize(("scale", "zero_point", "dtype"), TFLITE)
def test_dequantize_is_tflite(scale, zero_point, dtype):
    """Codes become float32(scale · (q − zero_point)), and quantize back to themselves."""
    q = QuantMod.from_tflite(scale, zero_point, dtype)
    codes = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    real = q.dequantize(codes)
    assert real.dtype == np.float32
    np.testing.assert_array_equal(real, np.float32(scale) * (codes.astype(np.int64) - zero_point).astype(np.float32))
    np.testing.assert_array_equal(q.quantize(real), codes)
    assert q.dequantize(np.array([zero_point], dtype)) == 0.0


@given(st.floats(0.01, 100), st.floats(-100, 400), st.integers(2, 65536), st.data())
def test_inverse_quantizes_back(c, d, p, data):
    """Q(inverse(q)) = q for every code, whatever the rounding offset."""
    q = QuantMod(c, d, p)
    codes = np.array(data.draw(st.lists(st.integers(0, p - 1), min_size=1, max_size=5)), q.dtype)
    np.testing.assert_array_equal(q.quantize(q.inverse(codes), wrap=True), codes)


def tflite_quantize(x: np.ndarray, scale: np.float32, zero_point: int) -> np.ndarray:
    """TFLite's QUANTIZE to int8: float32 division, half away from zero, saturation."""
    r = (x / scale).astype(np.float32).astype(np.float64)
    return np.clip(np.trunc(r + np.copysign(0.5, r)) + zero_point, -128, 127)


def test_where_it_equals_tflites_rounding():
    """Only within 2⁻²⁴·|x/s| of a half do the two roundings differ, and then by one step."""
    rng = np.random.default_rng(11)
    differing = 0
    for _ in range(50):
        s, z = np.float32(10 ** rng.uniform(-4, 1)), int(rng.integers(-128, 128))
        k = rng.integers(-260, 260, 4000) + rng.choice([0.5, 0.25, 0.49999997, 0.3], 4000)
        x = k.astype(np.float32) * s
        ours, theirs = QuantMod.from_tflite(s, z, "int8").quantize(x), tflite_quantize(x, s, z)
        exact = np.array([Fraction(float(v)) / Fraction(float(s)) for v in x])
        to_half = np.abs(exact - np.floor(exact) - Fraction(1, 2)).astype(float)
        near = to_half <= np.abs(exact).astype(float) * 2.0**-24 + 2.0**-44
        np.testing.assert_array_equal(ours[~near], theirs[~near])
        assert np.abs(ours - theirs).max() <= 1
        differing += int((ours != theirs).sum())
    assert differing > 0  # the exception is real


@pytest.mark.parametrize(
    ("name", "a", "b", "options", "scale", "zero_point"),
    [
        ("unit", 0.0, 1.0, {}, np.float32(1 / 255), -128),
        ("bytes", 0.0, 255.0, {"dtype": "uint8"}, 1.0, 0),
        ("both sides", -1.0, 1.0, {}, np.nextafter(np.float32(2 / 255), np.float32(1)), -1),
        ("widened to hold zero, above", 3.0, 255.0, {}, 1.0, -128),
        ("widened to hold zero, below", -255.0, -3.0, {}, 1.0, 127),
        ("only zero", 0.0, 0.0, {}, 1.0, -128),
        ("a tie rounds down", -2.5, 252.5, {}, 1.0, -126),
        ("symmetric", -2.0, 1.0, {"symmetric": True, "narrow": True}, np.float32(2 / 127), 0),
        ("int16", -1.0, 0.5, {"bits": 16, "symmetric": True, "narrow": True}, np.float32(1 / 32767), 0),
        ("four bits", 0.0, 15.0, {"bits": 4, "dtype": "int8"}, 1.0, -8),
    ],
)
def test_from_range(name, a, b, options, scale, zero_point):
    """A range gives the least float32 scale that covers it, and zero a code of its own."""
    q = QuantMod.from_range(a, b, **options)
    assert q.scale == pytest.approx(float(scale), rel=2.0**-23)
    assert q.zero_point == zero_point
    assert q.dequantize(q.quantize(0.0)) == 0.0
    assert q.covers(min(a, 0), max(b, 0))


@settings(max_examples=300)
@given(finite, finite, st.integers(2, 16), st.booleans())
def test_mod_is_the_identity_on_the_range(a, b, bits, narrow):
    """0 ≤ d' and C' + d' < p on normalised x: nothing within the range goes round, at f = ½."""
    a, b = min(a, b, 0.0), max(a, b, 0.0)
    q = QuantMod.from_range(a, b, bits, narrow=narrow, f=0.5)
    x = np.array([a, b, 0.0, (a + b) / 2])
    assert q.covers(a, b)
    assert not q.wraps(x).any()
    np.testing.assert_array_equal(q.quantize(x), q.quantize(x, wrap=True))
    if b - a > 1e-30:
        u = q.normalised(a, b)
        assert u.d >= 0
        assert u.C + u.d < q.p
        assert u.covers(0.0, 1.0)


def test_normalised_form_is_the_same_transform():
    """Q on x and Q' on u = (x − a)/(b − a) give the same codes; C' is p − 1."""
    q = QuantMod.from_range(-1.5, 4.0)
    u = q.normalised(-1.5, 4.0)
    x = np.linspace(-1.5, 4.0, 1001)
    np.testing.assert_array_equal(u.quantize((x + 1.5) / 5.5), q.quantize(x))
    np.testing.assert_allclose(u.C, 255, rtol=1e-6)
    assert 0 <= u.d < 1


def test_the_trap_of_c_equal_p():
    """C = p maps u = 1 to code 0, C = p − 1 maps it to the last code."""
    trap, right = QuantMod(256.0, 0.5, 256), QuantMod(255.0, 0.5, 256)
    assert not trap.covers(0.0, 1.0)
    assert trap.quantize(1.0, wrap=True) == 0
    assert trap.wraps(1.0) == 1
    assert right.covers(0.0, 1.0)
    assert right.quantize(1.0, wrap=True) == 255
    assert right.wraps(1.0) == 0


def test_stochastic_rounding_is_unbiased():
    """With a generator, the mean of many roundings is the value, and the seed decides them."""
    q = QuantMod.from_tflite(1.0, 0, "int8")
    x = np.full(200_000, 3.3)
    codes = q.quantize(x, rng=np.random.default_rng(5))
    assert set(np.unique(codes)) == {3, 4}
    assert codes.mean() == pytest.approx(3.3, abs=5e-3)
    np.testing.assert_array_equal(codes, q.quantize(x, rng=np.random.default_rng(5)))


def test_per_axis_is_per_channel():
    """Each channel along the axis goes through its own scalar transform."""
    rng = np.random.default_rng(2)
    scale, zero = np.array([0.1, 0.02, 1.5], np.float32), np.array([0, -5, 100])
    q = QuantMod.from_tflite(scale, zero, "int8", axis=1)
    x = rng.normal(size=(4, 3, 6)).astype(np.float32)
    codes, real = q.quantize(x), q.dequantize(q.quantize(x))
    for i in range(3):
        one = QuantMod.from_tflite(scale[i], zero[i], "int8")
        np.testing.assert_array_equal(codes[:, i], one.quantize(x[:, i]))
        np.testing.assert_array_equal(real[:, i], one.dequantize(codes[:, i]))
        np.testing.assert_array_equal(q.inverse(codes)[:, i], one.inverse(codes[:, i]))
        np.testing.assert_array_equal(q.wraps(x * 99)[:, i], one.wraps(x[:, i] * 99))
    np.testing.assert_array_equal(q.to_tflite()[0], scale)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (2, 3)])
def test_shapes_are_kept(shape):
    """Scalars, empty arrays and any rank come back in their own shape."""
    q = QuantMod.from_tflite(0.5, 0, "int8")
    codes = q.quantize(np.zeros(shape, np.float32))
    assert codes.shape == q.dequantize(codes).shape == q.inverse(codes).shape == shape


def test_views_in_any_memory_order():
    """A transposed or strided view gives what its copy gives."""
    q = QuantMod.from_tflite([0.5, 0.25], [0, 1], "int8", axis=0)
    x = np.arange(24.0).reshape(4, 3, 2).T[:, ::2]
    np.testing.assert_array_equal(q.quantize(x), q.quantize(x.copy()))
    np.testing.assert_array_equal(q.dequantize(q.quantize(x).T.copy().T), q.dequantize(q.quantize(x)))


def test_transform_is_the_bare_formula():
    """The command's function wraps, or saturates when asked, and its inverse undoes it within the range."""
    x = np.array([-1.0, 0.0, 0.5, 300.0], np.float32)
    assert transform(x, 1.0, 0.5, 256).tolist() == [255, 0, 1, 44]
    assert transform(x, 1.0, 0.5, 256, saturate=True).tolist() == [0, 0, 1, 255]
    assert transform(x, 1.0, 0.5, 1000).dtype == np.uint16
    back = transform(transform(np.array([2.0, 9.0]), 4.0, 0.5, 256), 4.0, 0.5, 256, inverse=True)
    assert back.tolist() == [2.0, 9.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: QuantMod(0.0, 0.0, 256), "C must be finite and > 0, got 0.0"),
        (lambda: QuantMod(float("nan"), 0.0, 256), "C must be finite and > 0, got nan"),
        (lambda: QuantMod(1.0, float("inf"), 256), "d must be finite, got inf"),
        (lambda: QuantMod(1.0, 0.0, 1), "modulus p must be an integer in 2 … 65536, got 1"),
        (lambda: QuantMod(1.0, 0.0, 65537), "modulus p must be an integer in 2 … 65536, got 65537"),
        (lambda: QuantMod(1.0, 0.0, 2.5), "modulus p must be an integer"),
        (lambda: QuantMod(1.0, 0.0, 257, dtype="int8"), "int8 holds 256 codes, modulus 257 needs more"),
        (lambda: QuantMod(1.0, 0.0, 256, dtype="int32"), "dtype must be one of int8, uint8, int16, uint16, got int32"),
        (lambda: QuantMod([1.0, 2.0], 0.0, 256), "need an axis"),
        (lambda: QuantMod([1.0, 2.0], [0.0], 256, axis=0), "one shape"),
        (lambda: QuantMod.from_tflite(0.0, 0, "int8"), "scale must be finite and > 0, got 0.0"),
        (lambda: QuantMod.from_tflite(1.0, 200, "int8"), "zero_point must be in [-128, 127], got 200"),
        (lambda: QuantMod.from_tflite([1.0, 2.0], [0, 0], "int8"), "2 scales and 2 zero points need an axis"),
        (lambda: QuantMod.from_tflite(1.0, 0, "int8", f=1.0), "f must be in [0, 1), got 1.0"),
        (lambda: QuantMod.from_range(2.0, 1.0), "a range must be finite with a ≤ b, got [2.0, 1.0]"),
        (lambda: QuantMod.from_range(0.0, float("inf")), "a range must be finite"),
        (lambda: QuantMod.from_range(0.0, 1.0, 17), "bits must be in 2 … 16, got 17"),
        (lambda: QuantMod.from_range(0.0, 1.0, dtype="uint8", symmetric=True), "needs a signed dtype, got uint8"),
        (lambda: QuantMod(1.0, -3.0, 256).to_tflite(), "floor(d) is -3"),
        (lambda: QuantMod(1.0, 0.0, 256).normalised(1.0, 1.0), "a < b"),
        (lambda: QuantMod(1.0, 0.0, 256).quantize([1.0, float("nan")]), "1 of 2 values have no code: NaN"),
        (lambda: QuantMod(1.0, 0.0, 256).quantize([1e300], wrap=True), "2^53"),
        (lambda: QuantMod(1.0, 0.0, 256).quantize([float("inf")], wrap=True), "2^53"),
        (lambda: QuantMod(1.0, 0.0, 256).wraps([float("inf")]), "beyond counting"),
        (lambda: QuantMod(1.0, 0.0, 256).quantize(["a"]), "expected real numbers, got <U1"),
        (lambda: QuantMod(1.0, 0.0, 256).dequantize([0.5]), "expected integer codes, got float64"),
        (lambda: QuantMod(1.0, 0.0, 16).dequantize([16]), "codes must be in [0, 15], got [16, 16]"),
        (lambda: QuantMod([1.0], [0.0], 256, axis=0).quantize(np.zeros((2, 1))), "1 channels along axis 0"),
        (lambda: QuantMod([1.0], [0.0], 256, axis=3).quantize(np.zeros((2, 1))), "along axis 3, got shape (2, 1)"),
    ],
)
def test_refusals(make, message):
    """What cannot be is refused in one line that says what was found."""
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saturates_infinity():
    """Infinity is a value beyond the codes like any other."""
    assert QuantMod.from_tflite(1.0, 0, "int8").quantize([-np.inf, np.inf]).tolist() == [-128, 127]


def test_import_leaves_numba_alone():
    """Neither importing the module nor quantizing a small array imports Numba."""
    code = (
        "import sys, numpy as np; from edgeq.quantmod import QuantMod;"
        "QuantMod(1.0, 0.5, 256).quantize(np.zeros(1000, np.float32)); assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
