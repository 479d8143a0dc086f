"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault(
    "EDGEQ_PLANS", "off"
)  # a test that loads a model twice plans it twice; tests/test_resume.py keeps plans


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `edgeq demo --keep` leaves behind; not to be changed."""
    from edgeq.cli import main

    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--keep", str(folder)]) == 0
    return folder


@pytest.fixture
def without_matrix_diag(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edgeq that lacks MATRIX_DIAG, which the other runtimes have: what is lacking in truth changes with time."""
    from edgeq.plan.lower import LOWERINGS
    from edgeq.shapes.rules import RULES

    monkeypatch.setattr("edgeq.plan.build.LOWERINGS", {k: v for k, v in LOWERINGS.items() if k != "MATRIX_DIAG"})
    monkeypatch.setattr("edgeq.plan.lower.LOWERINGS", {k: v for k, v in LOWERINGS.items() if k != "MATRIX_DIAG"})
    monkeypatch.setattr("edgeq.shapes.infer.RULES", {k: v for k, v in RULES.items() if k != "MATRIX_DIAG"})
