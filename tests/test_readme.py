"""The README's commands and code do what it says, in the order in which they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> tuple[Path, str]:
    """The folder after every edgeq command of the README has run in one shell, and what was printed."""
    folder = tmp_path_factory.mktemp("readme")
    script = "\n".join(block for block in blocks("sh") if not block.startswith("make"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euxc", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "demo", done.stdout


def test_every_command_works(session) -> None:
    """All commands of the README succeed in order and leave what they say they write."""
    folder, out = session
    for name in (
        "int8.tflite",
        "outputs.npz",
        "acme.pub",
        "gate-7.eqg",
        "tuned.tflite",
        "again.eqb",
        "digits-1/model.sig",
    ):
        assert (folder / name).stat().st_size > 0
    assert (folder / "plain.tflite").read_bytes() == (folder / "int8.tflite").read_bytes()
    assert (folder / "again.eqb").read_bytes() == (folder / "digits-1.eqb").read_bytes()
    assert "verified   digits-1.eqb" in out


def test_the_python_code_works(session) -> None:
    """The README's Python code runs in the same folder."""
    (code,) = blocks("python")
    folder, _ = session
    done = subprocess.run(
        [sys.executable, "-c", code + "\nprint(probabilities.shape, probabilities.dtype, len(content))"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"(500, 10) float32 {(folder / 'int8.tflite').stat().st_size}"


def test_every_command_is_listed() -> None:
    """The table names each command, and no other."""
    listed = re.findall(r"^\| `edgeq (\w+)[^|]*?(?:`, `edgeq (\w+))?`? ?[^|]*\|", README, re.MULTILINE)
    assert {name for pair in listed for name in pair if name} == {name for group in COMMANDS.values() for name in group}


def test_links_lead_somewhere() -> None:
    """Every relative link names a file that is there."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_every_make_target_is_there() -> None:
    """The Makefile has the targets that the README names."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
