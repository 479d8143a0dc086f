"""Retraining at the tuned parameters: quantization-aware fine-tuning with or without labels (`finetune`)."""

from __future__ import annotations

from edgeq.finetune.options import Finetuned, Options
from edgeq.finetune.run import finetune

__all__ = ["Finetuned", "Options", "finetune"]
