"""What quantization did to a model, measured on samples and written as one page: `measure`, then `page`."""

from __future__ import annotations

from edgeq.report.measure import Measured, measure
from edgeq.report.page import document, page

__all__ = ["Measured", "document", "measure", "page"]
