"""Does what comes in still look like what a model was calibrated on? A few inferences are looked at; a test with a stated
rate of false alarms says when to calibrate again.

looks (what is seen of one inference) → score (how unusual that is) → detector (how unlikely so much of it is).
"""

from __future__ import annotations

from edgeq.drift.baseline import Baseline
from edgeq.drift.detector import Detector
from edgeq.drift.model import DriftReport, TensorDrift, WatchedModel, watch

__all__ = ["Baseline", "Detector", "DriftReport", "TensorDrift", "WatchedModel", "watch"]
