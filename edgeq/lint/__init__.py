"""What a model would meet in another runtime: refused, slow or inexact, and how to change the recipe (`lint`)."""

from __future__ import annotations

from edgeq.lint.targets import TARGETS, Remark, lint

__all__ = ["TARGETS", "Remark", "lint"]
