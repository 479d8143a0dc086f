"""Charts as SVG text, drawn with the page's own colours (classes, no fixed fills), so that they follow light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from edgeq.graph import Array
from edgeq.histogram import Histogram

WIDTH = 1080


def lines(names: Sequence[str], series: Sequence[tuple[str, str, Sequence[float | None]]], unit: str) -> str:
    """Values by layer, a line for each series (its class, its title, its values); points carry titles for the pointer."""
    known = [v for _, _, values in series for v in values if v is not None]
    if not known or len(names) < 2:
        return ""
    low, high = min(0.0, *known), max(known)
    high = high if high > low else low + 1
    height, left, top, bottom = 260, 46, 12, 26
    x = [left + k * (WIDTH - left - 12) / (len(names) - 1) for k in range(len(names))]

    def y(v: float) -> float:
        return top + (high - v) * (height - top - bottom) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(unit)} by layer">']
    for tick in _ticks(low, high):
        parts.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 12}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    step = max(1, len(names) // 16)
    for k in range(0, len(names), step):
        parts.append(f'<text class="tick" x="{x[k]:.1f}" y="{height - 8}" text-anchor="middle">{k}</text>')
    for kind, title, values in series:
        runs: list[list[str]] = [[]]
        for k, v in enumerate(values):
            if v is None:
                runs.append([])
            else:
                runs[-1].append(f"{x[k]:.1f},{y(v):.1f}")
        for run in runs:
            if len(run) > 1:
                parts.append(f'<polyline class="line {kind}" points="{" ".join(run)}"/>')
        for k, v in enumerate(values):
            if v is not None:
                parts.append(
                    f'<circle class="dot {kind}" cx="{x[k]:.1f}" cy="{y(v):.1f}" r="3"><title>{k} {escape(names[k])}: '
                    f"{escape(title)} {v:.1f} {escape(unit)}</title></circle>"
                )
    return "".join([*parts, "</svg>"])


def bars(rows: Sequence[tuple[str, float]], unit: str, digits: int = 3) -> str:
    """Horizontal bars, the longest first as given; unit follows the figure."""
    if not rows:
        return ""
    top = max(v for _, v in rows) or 1.0
    pitch, left = 22, 350
    parts = [f'<svg viewBox="0 0 {WIDTH} {len(rows) * pitch + 4}" role="img" aria-label="{escape(unit)}">']
    for k, (name, v) in enumerate(rows):
        y = k * pitch
        width = max((WIDTH - left - 130) * v / top, 1)
        parts.append(
            f'<text class="name" x="{left - 10}" y="{y + 15}" text-anchor="end">{escape(_short(name, 52))}</text>'
        )
        parts.append(f'<rect class="bar" x="{left}" y="{y + 3}" width="{width:.1f}" height="15" rx="2"/>')
        parts.append(f'<text class="tick" x="{left + width + 8:.1f}" y="{y + 15}">{v:.{digits}g} {escape(unit)}</text>')
    return "".join([*parts, "</svg>"])


def histogram(h: Histogram, limits: tuple[float, float] | None, width: int = 250, height: int = 74) -> str:
    """What a tensor's values were, counts on a logarithmic scale, and the range of its codes shaded."""
    if not h.width:
        return ""
    used = np.flatnonzero(h.counts)
    middle = len(h.counts) // 2
    low, high = (used[0] - middle) * h.width, (used[-1] + 1 - middle) * h.width
    if limits is not None:
        low, high = min(low, limits[0]), max(high, limits[1])
    span = (high - low) or 1.0
    bins = 64
    centers = (used - middle + 0.5) * h.width
    place = np.clip(((centers - low) / span * bins).astype(int), 0, bins - 1)
    tall: Array = np.log1p(np.bincount(place, h.counts[used], bins))
    tall = tall / (tall.max() or 1.0)
    floor = height - 16

    def x(v: float) -> float:
        return float((v - low) / span * width)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="histogram">']
    if limits is not None:
        a, b = x(limits[0]), x(limits[1])
        parts.append(f'<rect class="range" x="{a:.1f}" y="0" width="{max(b - a, 1):.1f}" height="{floor}"/>')
    each = width / bins
    parts += [
        f'<rect class="bin" x="{k * each:.1f}" y="{floor * (1 - t):.1f}" width="{each * 0.9:.1f}" height="{floor * t:.1f}"/>'
        for k, t in enumerate(tall)
        if t > 0
    ]
    parts.append(f'<text class="tick" x="0" y="{height - 3}">{low:.3g}</text>')
    parts.append(f'<text class="tick" x="{width}" y="{height - 3}" text-anchor="end">{high:.3g}</text>')
    return "".join([*parts, "</svg>"])


def _ticks(low: float, high: float) -> list[float]:
    span = high - low
    step = 10.0 ** np.floor(np.log10(span / 4))
    step = next(float(step * m) for m in (1, 2, 5, 10) if span / (step * m) <= 6)
    first = np.ceil(low / step)
    return [float(k * step) for k in np.arange(first, np.floor(high / step) + 1)]


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else "…" + name[-most + 1 :]
