"""The calibration benchmark measures what it says, whatever the device knows of the float model."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from calibration_recovery import KNOWN, recovery
from calibration_tasks import digits


@pytest.mark.parametrize("known", KNOWN)
def test_a_shift_that_costs_much_is_mended(known) -> None:
    """Brightened digits, which run out of their ranges, get nearly all of that back."""
    row = next(row for row in recovery([digits()], 32, known, 1) if row["shift"].startswith("brightened"))
    assert row["before"] < 0.01 < row["shifted"]
    assert row["changed"] == [True]
    assert max(row["calibrated"]) < 0.1 * row["shifted"]
    assert row["oracle"] <= row["shifted"]
