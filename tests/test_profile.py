"""The profile: every instruction once, shares of a peak that was measured, and a trace that adds up."""

from __future__ import annotations

import json

import engine_models as em
import numpy as np
import pytest

from edgeq import profile, timing
from edgeq.cli import main
from edgeq.engine import build
from edgeq.tflite import write


@pytest.fixture(scope="module")
def found() -> profile.Profile:
    """A profile of two threads' model: it is taken on one."""
    model = build(em.conv("int8", h=12, w=12, c=16, out=32, kh=3, kw=3), threads=2)
    return profile.profile(model, list(timing.inputs(model).values()), rounds=3, seconds=0.0005)


def test_every_instruction_has_a_row(found) -> None:
    """Rows are the plan's instructions in order, with times, and with rates where there are multiply-adds."""
    model = build(em.conv("int8", h=12, w=12, c=16, out=32, kh=3, kw=3))
    assert [(r.kernel, r.macs) for r in found.rows] == [(i.kernel, i.macs) for i in model.plan.instructions]
    assert all(r.microseconds > 0 for r in found.rows)
    for row in found.rows:
        assert row.gmacs == pytest.approx(row.macs / row.microseconds / 1e3)
        assert row.share == pytest.approx(row.gmacs / found.peak.of(row.kernel))
    assert found.sum == pytest.approx(sum(r.microseconds for r in found.rows))
    assert found.whole > 0


def test_the_peak_is_above_plain_loops(found) -> None:
    """Full tiles do more than one multiply-add a cycle of a slow processor, in every type."""
    assert min(found.peak.u8, found.peak.s16, found.peak.f32) > 1.0
    assert found.peak.of("conv_u8") == found.peak.of("depthwise_runs") == found.peak.u8
    assert (found.peak.of("conv_s16"), found.peak.of("depthwise_f32")) == (found.peak.s16, found.peak.f32)


def test_the_trace_is_the_profile(found) -> None:
    """One complete event an instruction, each beginning where the one before ended."""
    events = profile.trace(found, "m.tflite")["traceEvents"]
    assert events[0]["args"]["name"] == "edgeq m.tflite"
    spans = events[1:]
    assert [e["ph"] for e in spans] == ["X"] * len(found.rows)
    assert [e["args"]["kernel"] for e in spans] == [r.kernel for r in found.rows]
    ends = np.cumsum([r.microseconds for r in found.rows])
    assert [e["ts"] + e["dur"] for e in spans] == pytest.approx(ends, abs=0.01)


def test_the_model_still_computes(found) -> None:
    """Profiling leaves a model as it was: its answers stay the same."""
    model = build(em.conv("int8", h=12, w=12, c=16, out=32, kh=3, kw=3))
    x = next(iter(timing.inputs(model).values()))
    before = model(x).copy()
    profile.profile(model, [x], rounds=1, seconds=0.0001)
    np.testing.assert_array_equal(model(x), before)


def test_the_command(tmp_path, capsys) -> None:
    """`edgeq bench --profile --trace` prints the table and writes the trace; --json holds both."""
    path, trace = tmp_path / "m.tflite", tmp_path / "trace.json"
    path.write_bytes(write(em.conv("int8", h=12, w=12, c=16, out=32, kh=3, kw=3)))
    assert main(["bench", str(path), "--rounds", "3", "--profile", "--trace", str(trace)]) == 0
    out = capsys.readouterr().out
    assert "GMAC/s u8·s8" in out
    assert "conv_u8" in out
    events = json.loads(trace.read_text())["traceEvents"]
    assert {e["args"].get("kernel") for e in events} >= {"conv_u8"}
    assert main(["bench", str(path), "--rounds", "3", "--profile", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)["profile"]
    assert document["peak_gmacs"]["u8"] > 0
    assert [i["kernel"] for i in document["instructions"]][-1] == "conv_u8"


def test_inspect_shows_the_plan(tmp_path, capsys) -> None:
    """`edgeq inspect --plan` names kernel, tile and cycles of every instruction."""
    path = tmp_path / "m.tflite"
    path.write_bytes(write(em.conv("int8", h=12, w=12, c=16, out=32, kh=3, kw=3)))
    assert main(["inspect", str(path), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "cycles ≥" in out
    row = next(line for line in out.splitlines() if " conv_u8 " in line)
    assert f"{12 * 12 * 32 * 9 * 16:,}" in row
