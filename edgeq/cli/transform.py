"""`edgeq transform`: the central formula on an array file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgeq.cli import show
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.quantmod import QuantMod
    from edgeq.samples import Array


@click.command()
@click.argument("source", metavar="IN.npy")
@click.option("-o", "--output", required=True, metavar="OUT.npy", help="Where the result goes.")
@click.option("--scale", required=True, metavar="C", help="C > 0: a number, a comma list or a .npy file.")
@click.option("--bias", default="0.5", show_default=True, metavar="d", help="d: likewise.")
@click.option("--modulus", required=True, type=int, metavar="p", help="p: how many codes there are, 2 to 65536.")
@click.option("--axis", type=int, help="The axis along which C and d have one value per channel.")
@click.option("--dtype", help="int8, uint8, int16 or uint16 [default: the smallest unsigned one]")
@click.option("--wrap/--saturate", default=True, help="Out of range: go round mod p [default], or stop at the ends.")
@click.option("--inverse", is_flag=True, help="From codes back to real numbers.")
def transform(
    source: str,
    output: str,
    scale: str,
    bias: str,
    modulus: int,
    axis: int | None,
    dtype: str | None,
    wrap: bool,
    inverse: bool,
) -> None:
    """Apply Q(x) = floor(C·x + d) mod p to an array, or its inverse.

    A signed --dtype stores Q − p//2. With lists or files for C or d, --axis says which axis they belong to. What went
    round, or was cut off, is counted on stderr: it says how far the data lie outside the range.
    """
    import numpy as np

    from edgeq.quantmod import QuantMod
    from edgeq.samples import read_npy, write_npy

    x = read_npy(source)
    c, d = _values("--scale", scale), _values("--bias", bias)
    if axis is None and (c.ndim or d.ndim):
        raise InputError(f"C and d of shapes {c.shape} and {d.shape} need --axis")
    if axis is not None and not (c.ndim or d.ndim):
        c = np.full(_length(x, axis), c)
    try:
        kind = None if dtype is None else np.dtype(dtype)
    except TypeError:
        raise InputError(f"--dtype: expected int8, uint8, int16 or uint16, found {dtype!r}") from None
    q = QuantMod(c, d, modulus, axis, kind)  # type: ignore[arg-type]  # None is the documented default
    if inverse:
        write_npy(output, q.inverse(x))
        return
    codes = q.quantize(x, wrap=wrap)
    outside = int((q.wraps(_near(q, x)) != 0).sum())
    write_npy(output, codes)
    if outside:
        show.note(f"{outside} of {x.size} values lie outside the range and {'went round' if wrap else 'were cut off'}")


def _values(option: str, text: str) -> Array:
    """A number () or several (k,), float64, from the text of an option."""
    import numpy as np

    from edgeq.samples import read_npy

    if text.endswith(".npy"):
        return read_npy(text).astype(np.float64)
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: expected a number, a comma list or a .npy file, found {text!r}") from None
    return np.array(values[0] if len(values) == 1 else values)


def _near(q: QuantMod, x: Array) -> Array:
    """`x` with what lies more than a whole range outside drawn in to there: still outside, but countable."""
    import numpy as np

    low, high = (np.asarray(limit) for limit in q.limits)
    if q.axis is not None:
        along = [-1 if i == q.axis % x.ndim else 1 for i in range(x.ndim)]
        low, high = low.reshape(along), high.reshape(along)
    return np.clip(x, 2 * low - high, 2 * high - low)


def _length(x: Array, axis: int) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise InputError(f"--axis {axis}: the array has shape {x.shape}")
    return int(x.shape[axis])
