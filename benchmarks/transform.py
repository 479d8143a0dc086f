"""How near the transform Q(x) = floor(C·x + d) mod p comes to the speed of memory, and what NumPy takes for the same.

    python benchmarks/transform.py [--mib 64] [--rounds 15]

Input: `--mib` MiB of float32, normal around the middle of the codes. All cases take turns within a round, on one thread, into
arrays that exist; cases into new arrays, which the kernel first has to map and clear, are compared with memcpy into a new array.
Bandwidth counts bytes read and bytes written, once each: memcpy of n float32 moves 8·n bytes, float32 to int8 5·n, to int16 6·n,
and wrap counts (int64) 12·n. "of memcpy" is the median over rounds of (the case's bandwidth / memcpy's bandwidth) in one round;
"NumPy" is the time of np.floor(C * x + d) % p, in float32, over the case's time, likewise. Then what one call takes on 16
numbers: QuantMod's methods, microseconds, the least mean of fifty times 200 calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from timeit import repeat
from typing import Any

import numpy as np

from edgeq.quantmod import QuantMod

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Case:
    """One thing to time, and the bytes of input and output per element."""

    name: str
    run: Callable[[], object]
    moved: int
    fresh: bool = False


def cases(x: Array) -> list[Case]:
    """memcpy, NumPy's formula, then the transform: dtype, modulus and where C and d vary."""
    y, sd = np.empty_like(x), 2.5
    found = [Case("memcpy", lambda: np.copyto(y, x), 8), Case("memcpy into a new array", x.copy, 8, True)]
    c, d = np.float32(256 / (8 * sd)), np.float32(128.5)
    found.append(Case("np.floor(C * x + d) % p", lambda: np.floor(c * x + d) % np.float32(256), 8))
    rng = np.random.default_rng(0)
    counts = np.empty(x.shape, np.int64)
    for dtype, p in (("int8", 256), ("int8", 251), ("int16", 65536), ("int16", 65521)):
        out = np.empty(x.shape, dtype)
        for place, shape, axis in (
            ("one C", (-1,), None),
            ("64 C, first axis", (64, -1), 0),
            ("64 C, middle axis, 784 behind it", (-1, 64, 784), 1),
            ("64 C, last axis", (-1, 64), -1),
        ):
            k = () if axis is None else 64
            q = QuantMod(
                p / (8 * sd) * rng.uniform(0.9, 1.1, k), rng.uniform(0.45, 0.55, k) * p, p, axis, np.dtype(dtype)
            )
            whole = x.size // abs(int(np.prod(shape))) * abs(int(np.prod(shape)))
            source, into = x[:whole].reshape(shape), out[:whole].reshape(shape)
            for wrap in (False, True):
                if wrap or p in (256, 65536):  # clamping does not depend on the modulus
                    name = f"{dtype}, p = {p}, {place}, {'wrapping' if wrap else 'saturating'}"
                    found.append(Case(name, _quantize(q, source, into, wrap), 4 + out.itemsize))
            if dtype == "int8":
                found.append(
                    Case(f"wrap counts, p = {p}, {place}", _count(q, source, counts[:whole].reshape(shape)), 12)
                )
    q = QuantMod(float(c), float(d), 256, None, np.dtype("int8"))
    found.append(Case("wrap counts, p = 256, one C, a new array", lambda: q.wraps(x), 12, True))
    found.append(Case("int8, p = 256, one C, saturating, a new array", lambda: q.quantize(x), 5, True))
    return found


def _count(q: QuantMod, x: Array, out: Array) -> Callable[[], object]:
    return lambda: q.wraps(x, out=out)


def _quantize(q: QuantMod, x: Array, out: Array, wrap: bool) -> Callable[[], object]:
    return lambda: q.quantize(x, wrap=wrap, out=out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=64, help="MiB of float32 input (64)")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    import numba  # noqa: F401 - with Numba in the process, the transform uses its kernels

    x = np.random.default_rng(1).normal(0, 2.5, given.mib << 18).astype(np.float32)
    found = cases(x)
    for case in found:
        case.run()
    times = np.empty((given.rounds, len(found)))
    for done in range(given.rounds):
        for i, case in enumerate(found):
            start = perf_counter()
            case.run()
            times[done, i] = perf_counter() - start
    bandwidth = np.array([case.moved for case in found]) * x.size / times
    share = np.median(bandwidth / bandwidth[:, [int(case.fresh) for case in found]], axis=0)
    over = np.median(times[:, 2:3] / times, axis=0)
    print(f"| {given.mib} MiB of float32 | ms | GB/s | of memcpy | NumPy |\n|---|---|---|---|---|")
    for i, case in enumerate(found):
        ms, rate = np.median(times[:, i]) * 1e3, np.median(bandwidth[:, i]) / 1e9
        print(f"| {case.name} | {ms:.2f} | {rate:.1f} | {share[i]:.0%} | {over[i]:.1f}× |")
    print("\n| a call on 16 numbers | µs |\n|---|---|")
    for name, call in calls():
        print(f"| {name} | {min(repeat(call, number=200, repeat=50)) / 200 * 1e6:.1f} |")


def calls() -> list[tuple[str, Callable[[], object]]]:
    """QuantMod's methods on 16 numbers, one C and one a channel."""
    found: list[tuple[str, Callable[[], object]]] = []
    for place, q in (
        ("one C", QuantMod(10.0, 128.5, 256, None, np.dtype("int8"))),
        ("4 C", QuantMod(np.full(4, 10.0), np.full(4, 128.5), 256, 1, np.dtype("int8"))),
    ):
        x = np.linspace(-9, 9, 16, dtype=np.float32).reshape(4, 4)
        codes = q.quantize(x)
        found += [
            (f"quantize, {place}", partial(q.quantize, x)),
            (f"quantize, {place}, wrapping", partial(q.quantize, x, wrap=True)),
            (f"wraps, {place}", partial(q.wraps, x)),
            (f"dequantize, {place}", partial(q.dequantize, codes)),
            (f"inverse, {place}", partial(q.inverse, codes)),
        ]
    return found


if __name__ == "__main__":
    main()
