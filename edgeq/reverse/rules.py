"""The operations that have a gradient here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edgeq.reverse import pointwise, pools, products
from edgeq.reverse.moves import MOVES, Rule

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "CONV_2D": products.conv_2d,
        "DEPTHWISE_CONV_2D": products.depthwise_conv_2d,
        "FULLY_CONNECTED": products.fully_connected,
        "TRANSPOSE_CONV": products.transpose_conv,
        "BATCH_MATMUL": products.batch_matmul,
        "AVERAGE_POOL_2D": pools.average_pool_2d,
        "MAX_POOL_2D": pools.max_pool_2d,
        "MEAN": pools.mean,
        "SUM": pools.total,
        "REDUCE_MAX": pools.extreme(True),
        "REDUCE_MIN": pools.extreme(False),
        "SOFTMAX": pools.softmax,
        "LOG_SOFTMAX": pools.log_softmax,
        "L2_NORMALIZATION": pools.l2_normalization,
        "ADD": pointwise.add,
        "SUB": pointwise.sub,
        "MUL": pointwise.mul,
        "DIV": pointwise.div,
        "SQUARED_DIFFERENCE": pointwise.squared_difference,
        "MAXIMUM": pointwise.chosen(True),
        "MINIMUM": pointwise.chosen(False),
        "PRELU": pointwise.prelu,
        **pointwise.CURVES,
        **MOVES,
    }
)
"""Operation → its rule."""
