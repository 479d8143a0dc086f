"""Every target on a processor of its own: the object that is chosen there by itself computes what the twins compute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.machine import cache_folder
from edgeq.targets.table import TARGETS
from tests.arm.emulate import ROOT, guest_for

GUEST = str(Path(__file__).with_name("guest.py"))


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.xdist_group(n)) for n in TARGETS])
def test_a_target_computes_what_the_twins_compute(
    name: str, objects: Path, work: dict[str, Path], demo_folder: Path
) -> None:
    """All kernels and the models bit for bit in both roundings, a sealed bundle, without Numba; the right object is chosen."""
    try:
        guest = guest_for(name)
    except LookupError as reason:
        pytest.skip(str(reason))
    sealed = [demo_folder / n for n in ("digits.eqb", "device.eqg", "device.key", "publisher.pub", "held_out.npz")]
    wanted = {} if guest.cpu else {"EDGEQ_MACHINE": name}  # by itself, this processor takes the best that it runs
    done = guest.run(
        GUEST, str(work["kernels"]), str(work["models"]), *map(str, sealed),
        PYTHONPATH=str(ROOT), EDGEQ_CACHE=str(cache_folder()), **wanted,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["target"], found["isa"], found["source"]) == (name, TARGETS[name].isa, "built")
    assert [row for row in found["kernels"] if row[2]] == []
    assert [row for row in found["models"] if row[2]] == []
    assert found["sealed"] >= 0.97
    assert found["imported"] == []
    print(f"{name} on {guest.cpu or 'this processor'}: {len(found['kernels'])} kernel cases, {len(found['models'])} models, "
          f"{found['kernel seconds']:.1f} + {found['model seconds']:.1f} s")  # fmt: skip
