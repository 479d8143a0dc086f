"""Tensors that share a scale."""

from __future__ import annotations

from edgeq.quantmod import QuantMod


class Groups:
    """Disjoint sets of tensors; a set may have a prescribed scale."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}
        self.fixed: dict[int, QuantMod] = {}
        self._held: list[tuple[int, int]] = []

    def add(self, i: int) -> None:
        """A set of its own for a tensor that is in none."""
        self.parent.setdefault(i, i)

    def find(self, i: int) -> int:
        """The tensor that stands for its set."""
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, a: int, b: int) -> None:
        """Make one set of two."""
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[b] = a
            q = self.fixed.pop(b, None)
            if q is not None:
                self.fixed[a] = q

    def fix(self, i: int, q: QuantMod) -> None:
        """Prescribe the scale of a tensor's set."""
        self.fixed[self.find(i)] = q

    def hold(self, i: int, constant: int) -> None:
        """Note that a constant is written in the scale of a tensor's set."""
        self._held.append((i, constant))

    def constants(self) -> dict[int, tuple[int, ...]]:
        """The constants of each set."""
        out: dict[int, tuple[int, ...]] = {}
        for i, constant in self._held:
            out[self.find(i)] = (*out.get(self.find(i), ()), constant)
        return out
