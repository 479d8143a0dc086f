"""Functions of the user's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeq.errors import InputError
from edgeq.userfile import function

RECORD = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Record:
    value: int

def made(x):
    return Record(x).value
"""


def test_a_file_is_run_as_it_is_now(tmp_path: Path) -> None:
    """A file that was changed within a second, and is as long as before, is not taken for the one before."""
    path = tmp_path / "task.py"
    for value in ("1", "2"):
        path.write_text(f"def right(x):\n    return {value}\n")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        assert function(f"{path}:right")(None) == int(value)
    assert [p.name for p in tmp_path.iterdir()] == ["task.py"]


def test_it_may_have_dataclasses(tmp_path: Path) -> None:
    """Annotations of a dataclass are looked up in the module that it is in."""
    (tmp_path / "records.py").write_text(RECORD)
    assert function(f"{tmp_path / 'records.py'}:made")(3) == 3


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "f", "there is no such Python file"),
        ("f = 1\n", "f", "expected a function 'f', found int"),
        ("", "f", "expected a function 'f', found none"),
        ("1 / 0\n", "f", "ZeroDivisionError"),
        ("def f(:\n", "f", "SyntaxError"),
        ("", "not a name", "expected FILE.py:function"),
    ],
)
def test_what_is_no_function_is_said(tmp_path: Path, text: str | None, name: str, said: str) -> None:
    """One line says what was found."""
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said):
        function(f"{path}:{name}")
