"""What `edgeq doctor` finds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edgeq.cli import doctor, main


@pytest.fixture
def found(tmp_path, monkeypatch, capsys):
    """Run doctor in an empty folder; its status and findings by what they are about."""
    monkeypatch.chdir(tmp_path)

    def run() -> tuple[int, dict[str, dict[str, str]]]:
        capsys.readouterr()
        status = main(["doctor", "--json"])
        return status, {f["what"]: f for f in json.loads(capsys.readouterr().out)}

    return run


def test_this_machine_is_well(found) -> None:
    """Where the tests run, nothing is a problem, and every topic is covered."""
    status, findings = found()
    assert status == 0
    assert set(findings) >= {
        "edgeq",
        "python",
        "numpy",
        "numba",
        "cryptography",
        "processor",
        "kernels",
        "cipher",
        "clock",
    }
    assert set(findings) >= {"peer litert", "peer tflite"}
    assert "MB/s" in findings["cipher"]["found"]


def test_an_open_key_is_a_problem(found, tmp_path) -> None:
    """A private key that others can read is a problem with the command that mends it; one that is closed is not."""
    key = tmp_path / "device.key"
    key.touch(mode=0o600)
    status, findings = found()
    assert (status, findings["key device.key"]["state"]) == (0, "note")
    assert "copied disk" in findings["key device.key"]["advice"]
    key.chmod(0o644)
    status, findings = found()
    assert (status, findings["key device.key"]["state"]) == (1, "problem")
    assert findings["key device.key"]["advice"].startswith("chmod 600 device.key")


def test_a_missing_identity_is_a_problem(found, monkeypatch) -> None:
    """EDGEQ_IDENTITY that names nothing is found."""
    monkeypatch.setenv("EDGEQ_IDENTITY", "nowhere.key")
    status, findings = found()
    assert (status, findings["key nowhere.key"]["state"]) == (1, "problem")


@pytest.mark.parametrize(
    ("make", "state", "said"),
    [
        pytest.param(lambda f: None, "note", "not compiled yet", id="fresh"),
        pytest.param(
            lambda f: f.write_text("a file where the folder should be"), "note", "cannot be written", id="no folder"
        ),
    ],
)
def test_the_kernel_cache(found, tmp_path, monkeypatch, make, state, said) -> None:
    """An empty cache and one that cannot be are told apart, and neither keeps edgeq from working."""
    folder = tmp_path / "cache"
    make(folder)
    monkeypatch.setenv("EDGEQ_CACHE", str(folder))
    status, findings = found()
    assert status == 0
    assert findings["kernels"]["state"] == state
    assert said in findings["kernels"]["found"]


def test_a_wrong_clock_is_a_problem(found, monkeypatch) -> None:
    """A device that starts in 1970 cannot hold a grant against the time."""
    monkeypatch.setattr(doctor.time, "time", lambda: 0.0)
    status, findings = found()
    assert (status, findings["clock"]["state"], findings["clock"]["found"]) == (1, "problem", "1970-01-01")


def test_a_missing_package_is_a_problem(found, monkeypatch) -> None:
    """A package that edgeq needs and that is not there is named with the command that installs it."""
    monkeypatch.setattr(doctor, "NEEDED", ("no-such-package",))
    status, findings = found()
    assert status == 1
    assert findings["no-such-package"]["advice"] == "pip install no-such-package"


def test_the_table_is_for_people(capsys, tmp_path, monkeypatch) -> None:
    """Without --json there is one line a finding."""
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["what", "found", "advice"]
    assert len(lines) == 1 + len(list(doctor.examine(Path(os.curdir))))
