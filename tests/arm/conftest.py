"""What the emulated tests share: the objects of every target, and the work that guests are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.errors import MachineError
from edgeq.kernels import isa
from edgeq.targets.build import build
from edgeq.targets.identity import source_digest
from edgeq.targets.objects import built_folder
from edgeq.targets.table import TARGETS
from tests.arm import cases, fetch
from tests.arm.debian import UnavailableError


@pytest.fixture(scope="session", autouse=True)
def fetched() -> None:
    """Everything that guests are made of, or one line that says why it cannot be had."""
    try:
        for part in ("qemu", "arm64", "site-arm64", "armhf", "site-armhf"):
            fetch.get(part)
    except UnavailableError as error:
        pytest.fail(f"the emulated tests cannot run here: {error}", pytrace=False)


@pytest.fixture(scope="session")
def objects() -> Path:
    """The folder with the objects of all targets, built if they are not there."""
    folder = built_folder(source_digest())
    try:
        build(list(TARGETS.values()), folder, lambda *_: None)
    except MachineError as error:
        pytest.fail(str(error), pytrace=False)
    return folder


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> dict[str, Path]:
    """Packed work by name: "kernels" and "models"."""
    folder = tmp_path_factory.mktemp("work")
    made = {"kernels": cases.kernels(isa.ALL["neon"]), "models": cases.models(demo_folder)}
    for name, work in made.items():
        cases.pack(folder / f"{name}.zip", work)
    return {name: folder / f"{name}.zip" for name in made}
