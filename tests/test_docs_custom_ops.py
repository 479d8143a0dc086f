"""docs/custom-ops.md shows code that runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgeq import customs, engine
from edgeq.errors import CustomOpError
from edgeq.graph import Graph, Op, SubGraph, Tensor

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "custom-ops.md").read_text("utf-8")


def graph(options: bytes) -> Graph:
    """x (3, 4) → ClipRows → y."""
    tensors = tuple(Tensor(n, (3, 4), "float32") for n in "xy")
    op = Op("CUSTOM", (0,), (1,), custom_code="ClipRows", custom_options=options)
    return Graph((SubGraph(tensors, (op,), (0,), (1,)),))


def test_the_example_works() -> None:
    """The page's operation clips rows by their norm, and refuses options that it cannot read."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    try:
        exec(code, {})
        x = np.arange(12, dtype=np.float32).reshape(3, 4)
        with engine.build(graph(np.float32(5).tobytes())) as model:
            y = model(x)
        np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.minimum(np.linalg.norm(x, axis=1), 5), rtol=1e-6)
        with pytest.raises(CustomOpError, match="its prepare refuses"):
            engine.build(graph(b""))
    finally:
        customs._REGISTERED.pop("ClipRows", None)
