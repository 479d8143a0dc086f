"""Figures as people read them: sizes, times, shares and shapes."""

from __future__ import annotations

from collections.abc import Sequence


def size(n: int) -> str:
    """A number of bytes: 812 B, 24.3 KB (1 KB = 1000 bytes), 3.1 MB."""
    if n < 1000:
        return f"{n} B"
    unit, scale = next(((u, s) for u, s in (("KB", 1e3), ("MB", 1e6)) if n / s < 999.5), ("GB", 1e9))
    return f"{n / scale:.3g} {unit}" if n / scale < 99.5 else f"{n / scale:.0f} {unit}"


def duration(seconds: float) -> str:
    """A time: 12.3 µs, 4.56 ms, 1.2 s."""
    for scale, unit in ((1e6, "µs"), (1e3, "ms")):
        if seconds * scale < 999.5:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds < 99.5 else f"{seconds:.0f} s"


def percent(share: float) -> str:
    """A share of one, as a percentage with two decimals."""
    return f"{100 * share:.2f} %"


def shape(dims: Sequence[int]) -> str:
    """A shape: 1×28×28×3; a scalar is written as ()."""
    return "×".join(str(d) for d in dims) or "()"
