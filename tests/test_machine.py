"""The object cache: whole, ours and of this version, or built anew."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgeq import machine
from edgeq.kernels import isa, words


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own that holds this processor's object."""
    machine.get()
    body = machine._read_cached(machine.cache_file(machine.host())) or machine.build(machine.host(), lambda *_: None)
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    path = machine.cache_file(machine.host())
    machine._store(path, body)
    return path


def load_anew(monkeypatch: pytest.MonkeyPatch, body: bytes) -> tuple[machine.Machine, list[str]]:
    """Load as a fresh process would; building is replaced by a function that hands out `body` and keeps count."""
    built: list[str] = []

    def build(on: machine.Host, progress: machine.Progress) -> bytes:
        built.append(on.cpu)
        return body

    monkeypatch.setattr(machine, "build", build)
    return machine._load_or_build(lambda *_: None), built


def damage_nothing(path: Path) -> None:
    pass


def flip_a_bit(path: Path) -> None:
    blob = bytearray(path.read_bytes())
    blob[len(blob) // 2] ^= 1
    path.write_bytes(blob)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "builds"),
    [(damage_nothing, 0), (flip_a_bit, 1), (cut_short, 1), (empty, 1), (let_others_write, 1), (make_a_folder, 1)],
)
def test_only_a_whole_file_of_ours_is_run(damage, builds: int, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged or writable-by-others object is never loaded: it is built anew."""
    body = machine._read_cached(cached)
    assert body is not None
    damage(cached)
    loaded, built = load_anew(monkeypatch, body)
    assert len(built) == builds
    assert loaded.source == ("compiled" if builds else "cache")


def test_a_built_object_is_kept(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had to be built once is found the next time."""
    body = machine._read_cached(cached)
    assert body is not None
    cached.unlink()
    assert len(load_anew(monkeypatch, body)[1]) == 1
    assert load_anew(monkeypatch, body)[1] == []


@pytest.mark.skipif(os.path.exists("/dev/full") is False, reason="no /dev/full on this system")
def test_a_folder_that_cannot_be_written_costs_only_time(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the cache where no folder can be, the machine is built and runs."""
    body = machine._read_cached(cached)
    assert body is not None
    monkeypatch.setenv("EDGEQ_CACHE", "/dev/null/nowhere")
    loaded, built = load_anew(monkeypatch, body)
    assert len(built) == 1
    assert loaded.source == "compiled"


def test_of_two_that_start_at_once_one_builds(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first and loads what it built."""
    body = machine._read_cached(cached)
    assert body is not None
    cached.unlink()
    gate = threading.Barrier(2, timeout=30)
    started: list[str] = []

    def build(on: machine.Host, progress: machine.Progress) -> bytes:
        started.append(on.cpu)
        return body

    monkeypatch.setattr(machine, "build", build)

    def run() -> None:
        gate.wait()
        machine._load_or_build(lambda *_: None)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(started) == 1


def test_the_object_depends_on_what_goes_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another processor, another version of the kernels: another file."""
    on = machine.host()
    here = machine.cache_file(on)
    assert machine.cache_file(machine.Host("other", on.features, on.isa)) != here
    monkeypatch.setattr(machine, "source_digest", lambda: "0" * 64)
    assert machine.cache_file(on) != here


def test_every_kernel_has_its_number() -> None:
    """The table of names, which plans are made from, is the compiled machine's order."""
    from edgeq.kernels import machine as compiled

    assert len(compiled.FUNCTIONS) == len(words.KERNELS)
    for name, kernel in zip(words.KERNELS, compiled.FUNCTIONS, strict=True):
        assert getattr(sys.modules[kernel.__module__], name) is kernel


def test_a_warm_start_needs_no_numba() -> None:
    """With the object on disk, running a model imports neither Numba nor the kernels' source, nor LLVM where that can be."""
    machine.get()
    linked = sys.platform == "linux" and platform.machine() == "x86_64"
    names = "{'numba', 'llvmlite'}" if linked else "{'numba'}"
    code = f"import sys; from edgeq import machine; machine.get(); print(bool({names} & {{*sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False", result.stderr


def test_an_instruction_set_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """EDGEQ_ISA can only ask for what the processor has."""
    monkeypatch.setenv("EDGEQ_ISA", "neon" if machine.host().isa.name != "neon" else "avx2")
    with pytest.raises(machine.MachineError, match="EDGEQ_ISA is"):
        machine.host()
    assert isa.PORTABLE.needs == ()
