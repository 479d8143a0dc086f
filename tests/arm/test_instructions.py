"""What is in the objects: the instructions that each target exists for, and none that its processors lack."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from edgeq.targets.table import TARGETS
from tests.arm import fetch

HAS = {
    "armv7": [r"vmlal\.s16|vmull\.s8", r"vpadal\.s16|vmlal\.s16"],
    "armv8": [r"smlal2?\b|smull2?\b", r"sadalp|smlal2?\b"],
    "rpi4": [r"smlal2?\b|smull2?\b", r"sadalp|smlal2?\b"],
    "rpi5": [r"\bsdot\b|\budot\b"],
    "aarch64-i8mm": [r"\busdot\b", r"\busmmla\b"],
    "x86-64-v2": [r"\bpmaddwd\b.*xmm"],
    "x86-64-v3": [r"\bvpmaddwd\b.*ymm"],
    "x86-64-v3-avxvnni": [r"\bvpdpbusd\b.*ymm"],
    "x86-64-v4": [r"\bvpmaddwd\b.*zmm"],
    "x86-64-v4-vnni": [r"\bvpdpbusd\b.*zmm"],
}
LACKS = {
    "armv8": r"\b[su]dot\b|\busdot\b|mmla\b",
    "rpi4": r"\b[su]dot\b|\busdot\b|mmla\b",
    "rpi5": r"\busdot\b|mmla\b",
    "x86-64-v2": r"\bymm|\bzmm",
    "x86-64-v3": r"\bzmm|vpdpbusd",
    "x86-64-v3-avxvnni": r"\bzmm",
    "x86-64-v4": r"vpdpbusd",
}


@cache
def disassembled(path: Path) -> str:
    """An object's instructions, a line each."""
    root = fetch.get("llvm")
    libraries = os.pathsep.join(str(p) for p in {f.parent for f in root.rglob("*.so*")})
    features = {"aarch64": "+all", "armv7": "+neon,+vfp4,+thumb-mode", "x86_64": ""}[TARGETS[path.stem].architecture]
    done = subprocess.run(
        [str(root / "usr/lib/llvm-19/bin/llvm-objdump"), "-d", "--no-show-raw-insn", "--x86-asm-syntax=intel",
         *([f"--mattr={features}"] if features else []), str(path)],
        env={**os.environ, "LD_LIBRARY_PATH": libraries}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TARGETS)
def test_an_object_has_its_targets_instructions(name: str, objects: Path) -> None:
    """The multiplications that a family is chosen for are there; those that its processors lack are not."""
    text = disassembled(objects / f"{name}.so")
    for pattern in HAS[name]:
        assert re.search(pattern, text), f"{name}: nothing like {pattern}: {_most(text)}"
    if name in LACKS:
        found = re.search(rf"^.*(?:{LACKS[name]}).*$", text, re.MULTILINE)
        assert found is None, f"{name}: {found[0] if found else ''}"


def _most(text: str) -> list[tuple[str, int]]:
    """The most frequent mnemonics, for the message."""
    return Counter(re.findall(r"^ +[0-9a-f]+:\s+(\S+)", text, re.MULTILINE)).most_common(12)
