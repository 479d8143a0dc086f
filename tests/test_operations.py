"""The page of operations is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "operations.py"


def test_the_page_is_current() -> None:
    """docs/operations.md is what benchmarks/operations.py writes now."""
    spec = importlib.util.spec_from_file_location("operations", PAGE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PATH.read_text(encoding="utf-8") == module.text()
