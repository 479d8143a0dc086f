"""Sessions at the command line, as tests/cli/*.txt shows them."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeq.cli import main

HERE = Path(__file__).parent / "cli"


@dataclass(frozen=True)
class Step:
    """A command, and what it is to print and return."""

    command: str
    stdout: list[str]
    stderr: list[str]
    status: int


def steps(text: str) -> list[Step]:
    """The commands of a transcript."""
    found = []
    for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *lines = block.splitlines()
        lines = [line for line in lines if not re.match(r"# \S", line)]  # remarks; a table's "#  operation" is none
        while lines and not lines[-1]:
            lines.pop()
        status = next((int(line[2:]) for line in lines if line.startswith("? ")), 0)
        out = [line for line in lines if not line.startswith(("! ", "? "))]
        found.append(Step(command, out, [line[2:] for line in lines if line.startswith("! ")], status))
    return found


def pattern(lines: list[str]) -> re.Pattern[str]:
    """What lines with wildcards match, whole."""
    parts = [
        r"(?:.*\n)*?" if line == "..." else ".*".join(map(re.escape, line.split("[..]"))) + r"\n" for line in lines
    ]
    return re.compile("".join(parts))


@pytest.mark.parametrize("name", sorted(p.stem for p in HERE.glob("*.txt")))
def test_transcript(name, demo_folder, tmp_path, monkeypatch, capsys) -> None:
    """Every command of the session prints what the transcript says, on the right stream, with the right status."""
    shutil.copytree(demo_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for step in steps((HERE / f"{name}.txt").read_text("utf-8")):
        before = {p for p in tmp_path.rglob("*") if p.is_file()}
        status = main(shlex.split(step.command)[1:])
        out, err = capsys.readouterr()
        after = {p for p in tmp_path.rglob("*") if p.is_file()}
        for what, expected, found, same in (
            ("status", step.status, status, status == step.status),
            ("stdout", "\n".join(step.stdout), out, pattern(step.stdout).fullmatch(out)),
            ("stderr", "\n".join(step.stderr), err, pattern(step.stderr).fullmatch(err)),
            ("files after a failure", before, after, not status or before == after),
        ):
            if not same:
                pytest.fail(f"$ {step.command}\n{what}, expected:\n{expected}\nfound:\n{found}{err}", pytrace=False)
