"""docs/quantization.md tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

from edgeq.recipe import parse

DOC = Path(__file__).resolve().parents[1] / "docs" / "quantization.md"


def test_the_recipe_file_is_one():
    """The recipe file of the document is read as it stands."""
    (block,) = re.findall(r"^```toml\n(.*?)^```$", DOC.read_text(encoding="utf-8"), re.M | re.S)
    made = parse(block.encode(), "the document's")
    assert (made.sqnr, made.raise_to, len(made.scopes)) == (35, "float", 2)


def test_the_examples_run():
    """Every Python block of the document runs, in order, in one session."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOC.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) >= 8
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(DOC), "exec"), namespace)
