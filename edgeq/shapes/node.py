"""One operation as its shape rule sees it: shapes of its inputs, values where they are known, options, and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.errors import CheckError, DataDependentError
from edgeq.graph import Array, Op
from edgeq.records import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """An operation with what is known of its tensors.

    shapes: one per input, None for one that is left out; values: the same, None where the value is not known before
    the model runs; stated: the outputs' shapes as the file has them; where: how messages name the operation.
    """

    op: Op
    where: str
    shapes: Sequence[Shape | None]
    values: Sequence[Array | None]
    stated: Sequence[Shape]

    def shape(self, k: int) -> Shape:
        """The shape of input k, which must be there."""
        found = self.shapes[k] if k < len(self.shapes) else None
        if found is None:
            raise CheckError(f"{self.where} lacks its input {k}")
        return found

    def rank(self, k: int, rank: int) -> Shape:
        """The shape of input k, which must have so many dimensions."""
        if len(found := self.shape(k)) != rank:
            raise CheckError(f"{self.where}: input {k} has shape {list(found)}, {rank} dimensions are expected")
        return found

    def has(self, k: int) -> bool:
        """Whether input k is there."""
        return k < len(self.shapes) and self.shapes[k] is not None

    def value(self, k: int) -> Array:
        """The values of input k, which must be known before the model runs."""
        self.shape(k)
        found = self.values[k]
        if found is None:
            raise DataDependentError(
                f"{self.where}: its output's shape depends on input {k}, whose values are known only when the model runs"
            )
        return found

    def integers(self, k: int) -> list[int]:
        """The values of input k as a flat list."""
        found = self.value(k)
        if found.dtype.kind not in "iu":
            raise CheckError(f"{self.where}: input {k} is {found.dtype}, integers are expected")
        return [int(v) for v in found.reshape(-1)]

    def integer(self, k: int) -> int:
        """The only value of input k."""
        found = self.integers(k)
        if len(found) != 1:
            raise CheckError(f"{self.where}: input {k} holds {len(found)} values, one is expected")
        return found[0]

    def number(self, k: int) -> float:
        """The only value of input k, of any type."""
        found = self.value(k)
        if found.size != 1 or not np.isfinite(found).all():
            raise CheckError(f"{self.where}: input {k} is {found.tolist()}, one finite number is expected")
        value: float = found.reshape(-1)[0].item()
        return value

    def option(self, name: str, default: Any = 0) -> Any:
        """An option, or `default` where the operation has none or the option is not set."""
        found = self.op.options.values.get(name) if self.op.options is not None else None
        return default if found is None else found

    def axis(self, axis: int, rank: int) -> int:
        """The axis counted from the front."""
        if not -rank <= axis < rank:
            raise CheckError(f"{self.where}: axis {axis} of {rank} dimensions")
        return axis % rank

    def axes(self, k: int, rank: int) -> list[int]:
        """The axes that input k lists, counted from the front, each once, in order."""
        return sorted({self.axis(a, rank) for a in self.integers(k)})

    def wrong(self, what: str) -> CheckError:
        """The error for shapes that do not go together."""
        return CheckError(f"{self.where}: {what}")
