"""What is built holds what the source tree shows, links included."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).resolve().parents[1]

MODULES = {
    Path(folder, name).relative_to(ROOT).as_posix()
    for folder, _, names in os.walk(ROOT / "edgeq", followlinks=True)
    for name in names
    if name.endswith(".py")
}
DATA = {"demo/README.md", "demo/calibration.npz", "demo/digits.tflite", "demo/held_out.npz", "py.typed"}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with a wheel and an sdist, built without network."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t", "wheel", "-t", "sdist"],
        cwd=ROOT, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )  # fmt: skip
    return folder


def test_links_point_where_they_should() -> None:
    """edgeq/kernels and edgeq/targets are relative links to the top-level folders."""
    if not (ROOT / "kernels").is_dir():
        pytest.skip("an unpacked sdist: the folders are in the package")
    assert any(m.startswith("edgeq/kernels/") for m in MODULES)
    for name in ("kernels", "targets"):
        assert (ROOT / "edgeq" / name).is_symlink()
        assert os.readlink(ROOT / "edgeq" / name) == f"../{name}"


def test_wheel_holds_the_package(built, tmp_path) -> None:
    """The wheel has every module of the three folders as edgeq/…, the demo's data and the type marker, and no links."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert not [i.filename for i in archive.infolist() if i.external_attr >> 16 & 0o170000 == 0o120000]
        archive.extractall(tmp_path)
    wanted = MODULES | {f"edgeq/{p}" for p in DATA}
    assert wanted - names == set()
    assert not [n for n in names if not n.startswith(("edgeq/", "edgeq-"))]
    assert any(n.endswith("licenses/LICENSE") for n in names)
    code = "import edgeq, edgeq.kernels, edgeq.targets, edgeq.demo as d; print(edgeq.__file__, d.MODEL.stat().st_size)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [
        str(tmp_path / "edgeq/__init__.py"),
        str((ROOT / "edgeq/demo/digits.tflite").stat().st_size),
    ]


def test_wheel_declares_the_command(built) -> None:
    """The wheel installs `edgeq`."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        assert "edgeq = edgeq.cli:main" in archive.read(entry).decode()


def test_sdist_holds_the_sources(built) -> None:
    """The sdist has the modules, tests, benchmarks, docs, examples, and what is needed to build and check them."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    wanted = MODULES | {f"edgeq/{p}" for p in DATA}
    wanted |= {"LICENSE", "README.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "examples/train_digits.py"}
    wanted |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md")}
    wanted |= {p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").glob("*.py")}
    assert wanted - names == set()


def test_a_wheel_can_be_built_from_the_sdist(built, tmp_path) -> None:
    """The sdist, without links, gives a wheel with the same files."""
    (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.10.12 and 3.11.4
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, **safely)
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path / "dist"), "-t", "wheel"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(tmp_path / "dist" / wheel.name) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_versions_agree() -> None:
    """The package, its metadata and the changelog's first heading name one version."""
    from importlib import metadata

    from edgeq import __version__

    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## "))
    assert metadata.version("edgeq") == __version__
    assert heading.split()[1] == __version__
