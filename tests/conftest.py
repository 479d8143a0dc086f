"""Fixtures that several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `edgeq demo --keep` leaves behind; not to be changed."""
    from edgeq.cli import main

    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--keep", str(folder)]) == 0
    return folder
