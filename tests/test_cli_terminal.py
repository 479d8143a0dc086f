"""What people see: the same commands at a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading

import pytest


def at_a_terminal(arguments, cwd, stream: str) -> tuple[int, str]:
    """Run edgeq with `stream` ("stdout" or "stderr") on a terminal of 100 columns; its status and what was shown there."""
    master, slave = pty.openpty()
    shown: list[bytes] = []

    def collect() -> None:
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # how Linux says that the other end is closed
                return
            if not piece:
                return
            shown.append(piece)

    reader = threading.Thread(target=collect)
    reader.start()
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: slave}
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    done = subprocess.run([sys.executable, "-m", "edgeq", *arguments], cwd=cwd, env=environment, check=False, **streams)
    os.close(slave)
    reader.join()
    os.close(master)
    return done.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())


def test_tables_are_ruled(demo_folder) -> None:
    """At a terminal a table has a rule below its heading, and all its cells."""
    status, shown = at_a_terminal(["inspect", "digits.tflite"], demo_folder, "stdout")
    assert status == 0
    assert "────" in shown
    assert re.search(r"DEPTHWISE_CONV_2D\s+1×8×8×16\s+float32\s+640 B", shown)


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        pytest.param(["quantize", "digits.tflite", "-d", "calibration.npz", "-o"], "calibrating", id="quantize"),
        pytest.param(["run", "digits.tflite", "-i", "held_out.npz", "-o"], "running", id="run"),
    ],
)
def test_progress_is_shown(demo_folder, tmp_path, arguments, label) -> None:
    """At a terminal long work shows how far it is."""
    status, shown = at_a_terminal([*arguments, str(tmp_path / "out")], demo_folder, "stderr")
    assert status == 0
    assert label in shown
    assert re.search(r"\d+/\d+", shown)
