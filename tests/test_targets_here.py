"""Compiling for this processor in a process of its own; what is compiled is held against the runtimes elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeq.kernels.isa import ALL
from edgeq.targets import here

DONE = 'echo "0 2 x"; echo "1 2 conv_u8"; echo "2 2 7 s"; printf object > "$6"'


def python(folder: Path, script: str, name: str = "python3") -> str:
    """An executable that stands in for Python: its arguments are -m MODULE ISA CPU FEATURES FILE."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_object_and_how_far_it_is_come_from_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process writes is the object, and its lines are the progress."""
    monkeypatch.setattr(
        sys, "executable", python(tmp_path, f'test "$2 $3 $4" = "edgeq.targets.here avx2 haswell" || exit 1; {DONE}')
    )
    heard: list[tuple[int, int, str]] = []
    assert here._in_a_process("avx2", "haswell", "+avx2", lambda *now: heard.append(now)) == b"object"
    assert heard == [(0, 2, "x"), (1, 2, "conv_u8"), (2, 2, "7 s")]


ELSEWHERE = {
    "one that fails": (DONE + "; exit 1", "python3"),
    "one that writes nothing": ("exit 0", "python3"),
    "an app's own executable": (DONE, "app"),
}


@pytest.mark.parametrize("what", ELSEWHERE)
def test_without_such_a_process_this_one_compiles(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can do it, there is no object of it, and the kernels are compiled in this one."""
    monkeypatch.setattr(sys, "executable", python(tmp_path, *ELSEWHERE[what]))
    monkeypatch.setattr(here.emit, "compile_kernels", lambda progress, name: f"text for {name}")
    monkeypatch.setattr(here.emit, "emit", lambda text, machine: f"{text} on {machine}".encode())
    body = here.build(ALL["avx2"], "haswell", "", lambda *_: None, lambda: "a machine")
    assert body == b"text for haswell (avx2) on a machine"


def test_a_frozen_app_or_a_missing_python_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app with Python inside would start itself; a path without a file starts nothing."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert here._in_a_process("avx2", "haswell", "", lambda *_: None) is None
    monkeypatch.setattr(sys, "executable", python(tmp_path, DONE))
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert here._in_a_process("avx2", "haswell", "", lambda *_: None) is None


def test_an_interrupt_ends_the_process_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it compiles leaves no process behind."""
    monkeypatch.setattr(sys, "executable", python(tmp_path, 'echo "0 2 $$"; exec sleep 600'))
    started: list[int] = []

    def interrupted(done: int, total: int, what: str) -> None:
        started.append(int(what))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        here._in_a_process("avx2", "haswell", "", interrupted)
    assert not Path(f"/proc/{started[0]}").exists() or "Z" in Path(f"/proc/{started[0]}/stat").read_text().split(")")[1]
