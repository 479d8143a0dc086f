"""A Raspberry Pi 4 as its user sees it: the slim wheel, pip, the commands; and a deployment to one."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeq.cli import main
from edgeq.targets.table import TARGETS
from edgeq.targets.wheel import slim
from tests import sshd
from tests.arm.emulate import Guest, guest, install, installed

pytestmark = pytest.mark.xdist_group("user")

NAME = "rpi4"
LIMIT = 500_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, objects: Path) -> Path:
    """The slim wheel of a Raspberry Pi 4."""
    folder = tmp_path_factory.mktemp("wheels")
    assert main(["targets", "wheel", NAME, "-o", str(folder)]) == 0
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Guest:
    """A guest with NumPy, cryptography and click, into which its own pip has installed the wheel."""
    return installed(guest("aarch64", "cortex-a72"), wheel, tmp_path_factory.mktemp("device"))


def test_the_wheel_is_slim(wheel: Path) -> None:
    """It is small, and asks for nothing that compiles and for no other runtime."""
    assert wheel.stat().st_size <= LIMIT
    with zipfile.ZipFile(wheel) as file:
        (metadata,) = (n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
        needs = re.findall(r"^Requires-Dist: ([\w-]+)", file.read(metadata).decode(), re.MULTILINE)
    assert set(needs) <= {"numpy", "cryptography", "click", "flatbuffers", "rich"}
    assert {"numpy", "cryptography"} <= set(needs)


@pytest.mark.parametrize("name", TARGETS)
def test_every_wheel_is_slim(objects: Path, name: str) -> None:
    """Whatever the target."""
    assert len(slim(objects, TARGETS[name])[1]) <= LIMIT


def test_another_processors_wheel_is_not_installed(device: Guest, wheel: Path, tmp_path: Path) -> None:
    """pip on the device refuses a wheel for another architecture."""
    other = tmp_path / wheel.name.replace("aarch64", "x86_64")
    shutil.copy(wheel, other)
    done = install(device, other, tmp_path)
    assert done.returncode != 0
    assert "is not a supported wheel on this platform" in done.stderr


def test_every_command_of_a_device_works(
    device: Guest, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """keys, verify, run, eval, bench, calibrate, device, audit, doctor: with the wheel alone, and the host's very numbers."""
    folder = tmp_path / "demo"
    shutil.copytree(demo_folder, folder)
    monkeypatch.chdir(folder)

    def edgeq(*arguments: str) -> str:
        done = device.run("-m", "edgeq", *arguments, EDGEQ_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    edgeq("keys", "new", "device", "pi")
    grant = ["grant", "digits.eqb", "--key", "publisher.key", "--to", "pi.pub"]
    assert main([*grant, "--allow", "load,calibrate,export", "-o", "pi.eqg"]) == 0
    access = ["--grant", "pi.eqg", "--identity", "pi.key", "--trust", "publisher.pub"]
    state = ["--state", "state"]
    assert "verified" in edgeq("verify", "digits.eqb", "--trust", "publisher.pub")
    edgeq("device", "init", "--identity", "pi.key", *state)
    edgeq("run", "digits.eqb", "-i", "held_out.npz", "-o", "there.npz", *access, *state)
    assert main(["run", "digits_int8.tflite", "-i", "held_out.npz", "-o", "here.npz"]) == 0
    with np.load("here.npz") as here, np.load("there.npz") as there:
        assert here.files == there.files
        assert all(np.array_equal(here[name], there[name]) for name in here.files)
        (probabilities,) = (here[name] for name in here.files)
    with np.load("held_out.npz") as samples:
        right = np.mean(probabilities.argmax(axis=-1) == samples["y"])
    assert right > 0.98
    assert f"top-1 accuracy  {right:.2%}".replace("%", " %") in edgeq(
        "eval", "digits.eqb", "-d", "held_out.npz", *access
    )
    (timed,) = json.loads(edgeq("bench", "digits.eqb", "--rounds", "3", "--json", *access))["runtimes"]
    assert timed["median_s"] > 0
    edgeq("calibrate", "digits.eqb", "-d", "calibration.npz", "-o", "tuned.tflite", *access)
    assert Path("tuned.tflite").stat().st_size > 10_000
    edgeq("audit", "verify", "--identity", "pi.key", *state)
    report = {row["what"]: row for row in json.loads(edgeq("doctor", "--json"))}
    assert NAME in report["kernels"]["found"]
    assert not [row for row in report.values() if row["state"] == "problem"]
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").glob("machine-*"))


def test_deployed_to_a_raspberry_pi(
    wheel: Path, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An emulated device behind sshd is recognised, gets the wheel and the bundle, and runs it on its own kernels."""
    shutil.copytree(demo_folder, tmp_path / "demo")
    monkeypatch.chdir(tmp_path / "demo")
    there = guest("aarch64", "cortex-a72")
    packages = there.environment["PYTHONPATH"]
    command = f'env PYTHONPATH="$PYTHONPATH:{packages}" {" ".join(there.command)}'
    with sshd.running(tmp_path / "pi", python=command) as server:
        to = ["device", "--ssh-config", server.config(), "--pub", "pi.pub"]
        assert main(["deploy", *to]) == 1
        assert f"edgeq targets wheel {NAME}" in capsys.readouterr().err
        assert main(["deploy", *to, "--wheel", str(wheel)]) == 0
        assert main(["grant", "digits.eqb", "--key", "publisher.key", "--to", "pi.pub", "-o", "pi.eqg"]) == 0
        bundle = ["digits.eqb", "--grant", "pi.eqg", "--trust", "publisher.pub"]
        assert main(["deploy", *bundle, *to, "--wheel", str(wheel)]) == 0
        out = capsys.readouterr().out
        assert f"aarch64 cortex-a72, Python 3.11.2, target {NAME}" in out
        assert "kernels for neon, built" in out
        assert (server.home / "edgeq/current/bundle.eqb").read_bytes() == Path("digits.eqb").read_bytes()
