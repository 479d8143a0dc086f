"""`edgeq transform` against the formula."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.cli import main

X = np.array([[-2.0, -0.5, 0.0], [0.25, 1.0, 7.5]], np.float32)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command on an array; the result, or None when it is refused."""
    monkeypatch.chdir(tmp_path)

    def call(array, *options: str):
        np.save("in.npy", array)
        status = main(["transform", "in.npy", "-o", "out.npy", *options])
        return np.load("out.npy") if status == 0 else None

    return call


@pytest.mark.parametrize("p", [2, 10, 255, 256, 1000, 65536])
def test_wraps_by_default(run, p) -> None:
    """Without more options the result is floor(C·x + d) mod p, unsigned."""
    found = run(X, "--scale", "3", "--bias", "1.5", "--modulus", str(p))
    np.testing.assert_array_equal(found, np.mod(np.floor(3.0 * X + 1.5), p))
    assert found.dtype == (np.uint8 if p <= 256 else np.uint16)


def test_saturates_on_request(run, capsys) -> None:
    """--saturate stops at 0 and p − 1; how many values that concerns is said on stderr, infinity included."""
    x = np.array([-np.inf, -1.0, 0.0, 1.0, 1e30], np.float32)
    assert run(x, "--scale", "100", "--modulus", "64", "--saturate").tolist() == [0, 0, 0, 63, 63]
    assert "4 of 5 values lie outside the range and were cut off" in capsys.readouterr().err


def test_signed_and_back(run) -> None:
    """--dtype int8 stores Q − 128; --inverse gives the middles back."""
    options = ("--scale", "127.5", "--bias", "128", "--modulus", "256", "--dtype", "int8")
    codes = run(np.linspace(-1, 0.99, 50), *options)
    assert codes.dtype == np.int8
    back = run(codes, *options, "--inverse")
    np.testing.assert_allclose(back, np.linspace(-1, 0.99, 50), atol=0.5 / 127.5 + 1e-6)


@pytest.mark.parametrize("form", ["list", "file"])
def test_per_axis(run, form) -> None:
    """A list or a file gives each channel its own C; a single d serves all."""
    np.save("c.npy", np.array([1.0, 2.0, 3.0]))
    found = run(X, "--scale", "1,2,3" if form == "list" else "c.npy", "--bias", "4", "--modulus", "256", "--axis", "1")
    np.testing.assert_array_equal(found, np.mod(np.floor(np.array([1, 2, 3]) * X + 4), 256))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--scale", "0", "--modulus", "256"), "C must be finite and > 0, got 0.0"),
        (("--scale", "1", "--modulus", "1"), "an integer in 2 … 65536, got 1"),
        (("--scale", "1,2", "--modulus", "4"), "need --axis"),
        (("--scale", "1,2", "--modulus", "4", "--axis", "1"), "expected 2 channels along axis 1, got shape (2, 3)"),
        (("--scale", "1", "--modulus", "4", "--axis", "2"), "--axis 2: the array has shape (2, 3)"),
        (("--scale", "one", "--modulus", "4"), "expected a number, a comma list or a .npy file, found 'one'"),
        (("--scale", "1", "--modulus", "4", "--dtype", "int9"), "found 'int9'"),
        (("--scale", "1", "--modulus", "400", "--dtype", "int8"), "int8 holds 256 codes"),
    ],
)
def test_refuses(run, capsys, options, said) -> None:
    """What makes no sense is refused in one line."""
    assert run(X, *options) is None
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_nan_has_no_code(run, capsys) -> None:
    """NaN is refused whichever way out-of-range values go."""
    for way in ("--wrap", "--saturate"):
        assert run(np.array([np.nan, 1.0]), "--scale", "1", "--modulus", "4", way) is None
        assert "1 of 2 values have no code" in capsys.readouterr().err
