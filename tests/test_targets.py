"""Device families: what their files say, what is detected, and which object a processor gets."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

import pytest

from edgeq import machine
from edgeq.errors import MachineError
from edgeq.kernels import isa
from edgeq.targets import detect, objects
from edgeq.targets.detect import Cpu
from edgeq.targets.identity import ABI, source_digest
from edgeq.targets.table import TARGETS, find

NEON = frozenset({"neon"})
DOTPROD = frozenset({"neon", "dotprod", "atomics", "rcpc", "fp16", "crc32", "rdm"})
AVX2 = frozenset({"ssse3", "sse4.2", "popcnt", "avx", "avx2", "fma", "bmi", "bmi2", "f16c", "lzcnt", "movbe"})


def place(folder: Path, name: str, content: bytes = b"code", **changes: object) -> Path:
    """An object of a target in `folder`, with a manifest that fits this edgeq but for `changes`."""
    t = TARGETS[name]
    manifest = {
        "format": objects.FORMAT, "target": name, "architecture": t.architecture, "isa": t.isa, "needs": t.needs,
        "parts": t.parts, "order": t.order, "triple": t.triple, "cpu": t.cpu, "features": t.features, "abi": ABI,
        "kernels": source_digest(), "inputs": "0" * 64, "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content), "versions": {},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.so"
    path.write_bytes(content)
    path.chmod(0o755)
    path.with_suffix(".json").write_text(json.dumps(manifest | changes))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of built objects of an empty cache, and nothing in the package."""
    monkeypatch.setenv("EDGEQ_CACHE", str(tmp_path))
    monkeypatch.setattr(objects, "FOLDER", tmp_path / "package")
    monkeypatch.delenv("EDGEQ_ISA", raising=False)
    monkeypatch.delenv("EDGEQ_MACHINE", raising=False)
    return objects.built_folder(source_digest())


def on(cpu: Cpu, monkeypatch: pytest.MonkeyPatch) -> tuple[str | None, dict[str, str]]:
    """What a processor is given: the target's name, and the refused ones with reasons."""
    monkeypatch.setattr(machine, "detect", lambda: cpu)
    chosen, refused = machine.choose()
    return chosen.name if chosen else None, dict(refused)


def test_every_file_is_in_the_table() -> None:
    """Each file that declares a target is listed, under a name and order of its own."""
    declared = {p.stem for p in Path(detect.__file__).parent.glob("*.py") if "TARGET = Target(" in p.read_text()}
    assert {t.name.replace("-", "_") for t in TARGETS.values()} == declared
    names = [n for t in TARGETS.values() for n in (t.name, *t.aliases)]
    assert len(set(names)) == len(names)
    assert find("rpi3") is TARGETS["armv8"]
    assert find("rpi9") is None


@pytest.mark.parametrize("name", TARGETS)
def test_a_processor_that_meets_the_needs_has_the_instructions(name: str) -> None:
    """What a target needs of a processor covers what its kernels use, in words that detection knows."""
    t = TARGETS[name]
    known = {"x86_64": detect._X86, "aarch64": detect._ARM64, "armv7": detect._ARM32}[t.architecture]
    assert set(t.kernels_isa.needs) <= set(t.needs) <= set(known)
    assert t.kernels_isa in {"x86_64": isa.X86, "aarch64": isa.ARM64, "armv7": isa.ARM32}[t.architecture]


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="compares x86 features on Linux")
def test_detection_agrees_with_llvm() -> None:
    """Without a compiler, the same features are found as LLVM finds."""
    import llvmlite.binding as llvm

    theirs = {n for n, there in llvm.get_host_cpu_features().items() if there}
    assert detect.detect().features == theirs & set(detect._X86)
    assert detect._flags(Path("/proc/cpuinfo").read_text()) & set(detect._X86) == detect.detect().features


CHOICES = {
    "a Pi 3 gets its own code": (Cpu("aarch64", NEON, "cortex-a53"), "armv8"),
    "a Pi 4 gets its own code": (Cpu("aarch64", NEON, "cortex-a72"), "rpi4"),
    "a Pi 5 gets the dot product": (Cpu("aarch64", DOTPROD, "cortex-a76"), "rpi5"),
    "an unknown core with all of it gets the widest": (Cpu("aarch64", DOTPROD | {"i8mm"}), "aarch64-i8mm"),
    "an unknown plain core gets plain code": (Cpu("aarch64", NEON), "rpi4"),
    "32 bits of ARM": (Cpu("armv7", frozenset({"neon", "vfpv4", "idiva"})), "armv7"),
    "Haswell": (Cpu("x86_64", AVX2), "x86-64-v3"),
    "Alder Lake": (Cpu("x86_64", AVX2 | {"avxvnni"}), "x86-64-v3-avxvnni"),
    "Nehalem is not given AVX2": (Cpu("x86_64", frozenset({"ssse3", "sse4.2", "popcnt"})), "x86-64-v2"),
    "a processor older than every target": (Cpu("x86_64", frozenset({"ssse3"})), None),
    "another architecture": (Cpu("riscv64", frozenset()), None),
}


@pytest.mark.parametrize("case", CHOICES)
def test_each_processor_gets_the_best_that_it_may_run(folder, monkeypatch, case: str) -> None:
    """Of all ten objects, the one for the processor, else the widest whose needs it meets."""
    for name in TARGETS:
        place(folder, name)
    cpu, expected = CHOICES[case]
    assert on(cpu, monkeypatch)[0] == expected


def test_without_the_best_a_generic_one_is_used(folder, monkeypatch) -> None:
    """On a device, which cannot compile, an object for less than the processor is better than none."""
    monkeypatch.setattr(machine, "_has_numba", lambda: False)
    place(folder, "armv8")
    assert on(Cpu("aarch64", DOTPROD, "cortex-a76"), monkeypatch) == ("armv8", {})


REFUSED = {
    "another ABI": ({"abi": ABI + 1}, "ABI"),
    "other kernels": ({"kernels": "f" * 64}, "its kernels are ffffffffffff…"),
    "another content than the manifest's": ({"sha256": "0" * 64}, "not what its manifest says"),
    "an instruction set that nobody knows": ({"isa": "sve3"}, "'sve3' is not known"),
    "a feature that is not there": ({"needs": ["neon", "sve"]}, "lacks sve"),
    "a manifest without a digest": ({"kernels": None}, "kernels is missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(folder, monkeypatch, case: str) -> None:
    """An object that does not agree with this edgeq is not used, the next one is, and the reason is told."""
    changes, words = REFUSED[case]
    place(folder, "rpi4", **changes)
    place(folder, "armv8")
    chosen, refused = on(Cpu("aarch64", NEON, "cortex-a72"), monkeypatch)
    assert chosen == "armv8"
    assert words in refused["rpi4"]


def test_an_object_that_others_can_write_is_refused(folder, monkeypatch) -> None:
    """Code in the cache must be this user's alone."""
    place(folder, "armv8").chmod(0o777)
    chosen, refused = on(Cpu("aarch64", NEON), monkeypatch)
    assert (chosen, list(refused)) == (None, ["armv8"])


def test_only_what_is_asked_for_is_loaded(folder, monkeypatch) -> None:
    """EDGEQ_MACHINE names one target, or forbids compiling; what is missing then is said."""
    place(folder, "armv8")
    place(folder, "rpi4")
    cpu = Cpu("aarch64", NEON, "cortex-a72")
    monkeypatch.setenv("EDGEQ_MACHINE", "armv8")
    assert on(cpu, monkeypatch) == ("armv8", {"rpi4": "EDGEQ_MACHINE asks for armv8"})
    monkeypatch.setenv("EDGEQ_MACHINE", "rpi5")
    with pytest.raises(MachineError, match=r"EDGEQ_MACHINE is 'rpi5': no kernels built ahead fit .*armv8"):
        machine._built_ahead()
    monkeypatch.setenv("EDGEQ_MACHINE", "jit")
    assert machine._built_ahead() is None


def test_a_device_without_a_compiler_says_what_is_missing(folder, monkeypatch) -> None:
    """Where nothing fits and Numba is not installed, the error names both."""
    place(folder, "rpi5")
    monkeypatch.setattr(machine, "detect", lambda: Cpu("aarch64", NEON, "cortex-a72"))
    monkeypatch.setattr(machine, "_has_numba", lambda: False)
    with pytest.raises(MachineError, match=r"rpi5: this processor lacks dotprod.*numba is not installed"):
        machine._built_ahead()


@pytest.mark.parametrize(
    ("numba", "mode", "given", "expected"),
    [
        pytest.param(True, "", ["x86-64-v3", "x86-64-v4"], None, id="Numba compiles for what none was built for"),
        pytest.param(True, "", ["x86-64-v3", "x86-64-v4-vnni"], "x86-64-v4-vnni", id="one is as wide as the processor"),
        pytest.param(False, "", ["x86-64-v3", "x86-64-v4"], "x86-64-v4", id="a device has no Numba"),
        pytest.param(True, "aot", ["x86-64-v3", "x86-64-v4"], "x86-64-v4", id="nothing may be compiled"),
        pytest.param(True, "x86-64-v3", ["x86-64-v3", "x86-64-v4"], "x86-64-v3", id="one is asked for by name"),
    ],
)
def test_an_object_for_plainer_vectors_is_left_for_numba(
    folder, monkeypatch, numba: bool, mode: str, given: list[str], expected: str | None
) -> None:
    """Where the processor has wider vectors than any object uses, and Numba is there, that compiles for them."""
    for name in given:
        place(folder, name)
    monkeypatch.setattr(machine, "_has_numba", lambda: numba)
    monkeypatch.setenv("EDGEQ_MACHINE", mode)
    wide = AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni"}
    chosen, reasons = on(Cpu("x86_64", wide), monkeypatch)
    assert chosen == expected
    if expected is None:
        assert "Numba is here to compile" in reasons["x86-64-v4"]
