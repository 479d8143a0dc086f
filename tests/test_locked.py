"""Private parameters in use: where they lie, what the system is told about them, and when they are gone."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tflite_models import int8_cnn
from trusted import NOW, device, granted, publisher

import edgeq
from edgeq import locked, seal
from edgeq.cli.doctor import Finding, _leaks
from edgeq.engine import Model
from edgeq.locked import LockedMemory
from edgeq.tflite import write

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/smaps is Linux's")


@pytest.fixture
def sealed_path(tmp_path: Path) -> tuple[Path, bytes]:
    """A sealed model that runs, and its grant."""
    source = seal.seal(write(int8_cnn()), publisher(), model_id="acme/m", version=1)
    (tmp_path / "m.eqb").write_bytes(source.to_bytes())
    return tmp_path / "m.eqb", granted(source, now=NOW.replace(year=2025))


def loaded(sealed_path: tuple[Path, bytes]) -> Model:
    """The model, ready to run."""
    path, held = sealed_path
    found = edgeq.load(path, grant=held, identity=device(), trust=publisher().public, backend="native")
    assert isinstance(found, Model)
    return found


def mapping(memory: LockedMemory, number: int) -> str:
    """What the system says of a buffer's pages."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory._buffers[number]))
    blocks = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text())
    for block in blocks:
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", block)
        if found and int(found[1], 16) <= start < int(found[2], 16):
            return block
    raise AssertionError("the buffer is mapped nowhere")


@LINUX
def test_pages_are_locked_and_not_dumped() -> None:
    """Every buffer is left out of core dumps, and out of swap where the limit allows it."""
    memory = LockedMemory()
    memory.take(10_000)[:4] = b"abcd"
    memory.take(1)
    for number in range(2):
        flags = re.search(r"VmFlags: (.*)", mapping(memory, number))[1].split()
        assert "dd" in flags
        assert ("lo" in flags) == memory.locked
    assert bytes(memory._buffers[0][:5]) == b"abcd\x00"


def test_more_than_may_be_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system locks no more, the buffer is there all the same, and says that it is not locked."""
    monkeypatch.setattr(locked, "_lock", lambda buffer: len(buffer) < 5000)
    memory = LockedMemory()
    memory.take(1000)
    assert memory.locked
    assert len(memory.take(10_000)) == 10_000
    memory.take(1000)
    assert not memory.locked


def test_a_private_model_is_wiped(sealed_path: tuple[Path, bytes]) -> None:
    """The decrypted file and the packed parameters lie in wiped memory, and in no other array of the plan; closing wipes both."""
    model = loaded(sealed_path)
    memory = model._memory
    assert memory is not None
    weights = next(t.data for t in int8_cnn().tensors if t.name == "dense/w").tobytes()
    assert weights in bytes(memory._buffers[0])
    assert len(memory._buffers) == 2
    assert any(memory._buffers[1][:])
    assert not model.plan.constants.any()
    assert np.shares_memory(model.program.constants, np.frombuffer(memory._buffers[1], np.uint8))
    x = np.random.default_rng(0).integers(-128, 128, model.inputs[0].shape, np.int8)
    assert (model(x) == edgeq.engine.Model(int8_cnn())(x)).all()
    model.close()
    assert not any(any(buffer[:]) for buffer in memory._buffers)


def test_a_forgotten_model_is_wiped(sealed_path: tuple[Path, bytes]) -> None:
    """A model that nobody closed is wiped when it is gone."""
    model = loaded(sealed_path)
    memory = model._memory
    del model
    gc.collect()
    assert not any(any(buffer[:]) for buffer in memory._buffers)


def test_a_plain_model_is_left_alone(tmp_path: Path) -> None:
    """A plain model's parameters are nobody's secret: nothing is locked, and closing it leaves its graph as it was."""
    (tmp_path / "m.tflite").write_bytes(write(int8_cnn()))
    model = edgeq.load(tmp_path / "m.tflite")
    assert model._memory is None
    model.close()
    assert next(t.data for t in model.graph.tensors if t.name == "dense/w").any()


def test_doctor_says_where_models_could_leak() -> None:
    """Swap, core dumps and locked memory are each reported, with one line of advice wherever there is a risk."""
    found = {finding.what: finding for finding in _leaks()}
    assert set(found) == {"swap", "core dumps", "locked memory"}
    for finding in found.values():
        assert isinstance(finding, Finding)
        assert bool(finding.advice) == (finding.state != "ok")
        assert "\n" not in finding.advice
