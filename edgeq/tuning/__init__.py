"""Metric-driven tuning: what the task's own metric says of ranges, rounding offsets and precision (`tune`)."""

from __future__ import annotations

from edgeq.tuning.metric import Metric, metric
from edgeq.tuning.run import Tuned, tune

__all__ = ["Metric", "Tuned", "metric", "tune"]
