"""Recipes: what a quantized model is to be, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeq.errors import InputError

RANGE_METHODS = ("minmax", "mse", "best")


@dataclass(frozen=True)
class Recipe:
    """How to quantize.

    ranges: where an activation's codes end. "minmax": at the extremes seen; "mse": where the squared error is least;
    "best": from the better of these on, whatever leaves the least error at the outputs on calibration samples, and
    wider than that where precision is to spare. per_channel: weights have a scale per output channel (fully connected
    ones too), else one per tensor. bias_correction: make up for the weights' rounding in the biases, where that lowers
    the error at the outputs. fuse: let a RELU or RELU6 that follows an operation become its fused activation.
    """

    name: str
    ranges: str = "best"
    per_channel: bool = True
    bias_correction: bool = True
    fuse: bool = True

    def __post_init__(self) -> None:
        if self.ranges not in RANGE_METHODS:
            raise InputError(f"ranges must be one of {', '.join(RANGE_METHODS)}, got {self.ranges!r}")


RECIPES: Mapping[str, Recipe] = MappingProxyType({"int8": Recipe("int8")})
"""Recipes by name. int8: weights, activations, inputs and outputs in int8, biases in int32."""


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises InputError, which lists those that there are."""
    if name not in RECIPES:
        raise InputError(f"recipe must be one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]
