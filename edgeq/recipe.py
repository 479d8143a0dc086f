"""Recipes: what a quantized model is to be, as a value, and as a TOML file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from edgeq.errors import InputError
from edgeq.files import read_limited
from edgeq.records import dataclass, fields, replace

RANGE_METHODS = ("minmax", "average", "percentile", "entropy", "mse", "best")
PRECISIONS = ("int8", "int16x8", "dynamic", "weights", "float")
ROUNDINGS = ("nearest", "gptq", "best")
CODEBOOKS = ("kmeans", "pow2")
LEVELS = (0, 4, 8, 16)
RAISED = ("int16x8", "float")
EFFORTS = ("fast", "full")

MAX_FILE = 1 << 18
"""Bytes of a recipe file."""

MOST_PARTS = 64
"""Of a weight's cell, that are told apart: a weight further off than its code's neighbour still is told."""


@dataclass(frozen=True)
class Scope:
    """What is other for some operations. op: a regular expression that an operation's code matches as a whole; tensor: one
    that is found in its first output's name. None leaves what the recipe says. Of several scopes that fit the last counts.
    """

    op: str = ".*"
    tensor: str = ""
    precision: str | None = None
    per_channel: bool | None = None
    levels: int | None = None

    def __post_init__(self) -> None:
        for name in ("op", "tensor"):
            pattern = getattr(self, name)
            try:
                re.compile(pattern)
            except (re.error, TypeError, RecursionError):
                raise InputError(f"{name} must be a regular expression, got {pattern!r}") from None
        if self.precision is not None:
            _one_of("precision", self.precision, PRECISIONS)
        if self.levels is not None:
            _one_of("levels", self.levels, LEVELS)
        _boolean("per_channel", self.per_channel, none=True)

    def fits(self, code: str, name: str) -> bool:
        """Whether an operation of this code, whose first output has this name, is meant."""
        return re.fullmatch(self.op, code) is not None and re.search(self.tensor, name) is not None


@dataclass(frozen=True)
class Treatment:
    """What one operation is to be."""

    precision: str
    per_channel: bool
    levels: int


@dataclass(frozen=True)
class Recipe:
    """How to quantize.

    precision: of an operation. "int8": weights, activations, inputs and outputs in int8, biases in int32; "int16x8":
    activations in int16, weights in int8, biases in int64; "dynamic": weights in int8, activations float, quantized
    where a kernel meets them at run time; "weights": weights stored in int8, everything computed in float; "float": as
    it is.
    levels: how many different codes the weights of a channel may have, 0 for all; fewer make a sealed bundle smaller.
    codebook: where these lie, "kmeans" where the error is least, "pow2" at 0 and powers of two of the largest.
    bundle: of an int8 model's bytes, the share that the model may take in a sealed bundle. Layers get codes as fine as that
    pays for, where what they lose shows most, instead of `levels` all; 0: all have `levels`.
    ranges: where an activation's codes end. "minmax": at the extremes seen; "average": at the mean of each sample's;
    "percentile": at those that leave 10 in a million out; "entropy": where the codes' distribution differs least;
    "mse": where the squared error is least; "best": from the better of these on, whatever leaves the least error at the
    outputs on calibration samples, and wider than that where precision is to spare.
    per_channel: weights have a scale per output channel (fully connected ones too), else one per tensor. equalize: shift
    scale between the channels of neighbouring layers. rounding: of weights, "nearest", "gptq" (what rounding one weight
    spoils, those after it make up for) or the better of both. bias_correction: make up for the weights' rounding in the
    biases. Each of these three is kept where it lowers the error at the outputs. fuse: let a RELU or RELU6 that follows
    an operation become its fused activation.
    scopes: what is other for some operations. sqnr: in dB at the outputs, what layers are made finer for (to
    `raise_to`, those first that gain most) until it is reached; size: bytes that the file may then have. 0: neither.
    hybrid: in dB, how far below the outputs the noise must stay that "dynamic" layers add by quantizing their inputs: those that
    would add more have their weights dequantized instead. 0: none has.
    remainders: into how many parts the cell of a weight's code is cut, to remember in which of them the weight lay: what
    calibration on a device leans on in place of the float model (edgeq.quantize.remainders). 4 are 2 bits of each weight; 0:
    none. Models of few levels, and those that would not keep to `size`, remember nothing.
    seed: of whatever is drawn. effort: "fast" tries two ways to ranges and the correction of biases, judged by few samples;
    coarse weights are rounded and equalised as ever. "full" tries everything.
    """

    name: str
    precision: str = "int8"
    levels: int = 0
    codebook: str = "kmeans"
    bundle: float = 0.0
    ranges: str = "best"
    per_channel: bool = True
    equalize: bool = True
    rounding: str = "best"
    bias_correction: bool = True
    fuse: bool = True
    scopes: tuple[Scope, ...] = ()
    sqnr: float = 0.0
    size: int = 0
    raise_to: str = "int16x8"
    hybrid: float = 40.0
    remainders: int = 4
    seed: int = 0
    effort: str = "full"

    def __post_init__(self) -> None:
        _one_of("ranges", self.ranges, RANGE_METHODS)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("rounding", self.rounding, ROUNDINGS)
        _one_of("codebook", self.codebook, CODEBOOKS)
        _one_of("levels", self.levels, LEVELS)
        _one_of("raise_to", self.raise_to, RAISED)
        _one_of("effort", self.effort, EFFORTS)
        for name in ("per_channel", "equalize", "bias_correction", "fuse"):
            _boolean(name, getattr(self, name))
        for name in ("sqnr", "size", "hybrid", "seed", "bundle"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
                raise InputError(f"{name} must be a number ≥ 0, got {value!r}")
        if isinstance(self.seed, float):
            raise InputError(f"seed must be a whole number, got {self.seed!r}")
        if isinstance(self.remainders, (bool, float)) or self.remainders not in range(MOST_PARTS + 1):
            raise InputError(f"remainders must be a whole number from 0 to {MOST_PARTS}, got {self.remainders!r}")
        if self.bundle > 1:
            raise InputError(f"bundle must be a share from 0 to 1, got {self.bundle!r}")

    def treatment(self, code: str, name: str) -> Treatment:
        """What an operation of this code, whose first output has this name, is to be."""
        found = Treatment(self.precision, self.per_channel, self.levels)
        for scope in self.scopes:
            if scope.fits(code, name):
                found = Treatment(
                    found.precision if scope.precision is None else scope.precision,
                    found.per_channel if scope.per_channel is None else scope.per_channel,
                    found.levels if scope.levels is None else scope.levels,
                )
        return found


def recipe(name: str) -> Recipe:
    """The recipe of that name, or of the TOML file at that path (docs/quantization.md). Raises InputError.

    A name that ends in .toml is a path; the recipes' own names are listed where there is none of the given one.
    """
    if name.endswith(".toml"):
        return parse(read_limited(name, MAX_FILE), name)
    if name not in RECIPES:
        raise InputError(f"recipe must be one of {', '.join(RECIPES)}, or a .toml file, got {name!r}")
    return RECIPES[name]


def parse(data: bytes, where: str) -> Recipe:
    """The recipe that a TOML file spells: `base`, a recipe's name, and what is other; [[scope]] for some operations."""
    if sys.version_info >= (3, 11):  # here, since who names a recipe needs none of it
        import tomllib
    else:
        import tomli as tomllib

    try:
        document = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{where}: expected a TOML file: {error}") from None
    base, scopes = document.pop("base", "int8"), document.pop("scope", [])
    if base not in RECIPES:
        raise InputError(f"{where}: base must be one of {', '.join(RECIPES)}, got {base!r}")
    if not isinstance(scopes, list) or not all(isinstance(s, dict) for s in scopes):
        raise InputError(f"{where}: expected [[scope]] tables, got {scopes!r:.60}")
    _known(document, (f.name for f in fields(Recipe) if f.name != "scopes"), where)
    for s in scopes:
        _known(s, (f.name for f in fields(Scope)), f"{where}: scope")
    if not isinstance(document.get("name", ""), str):
        raise InputError(f"{where}: name must be a string, got {document['name']!r}")
    try:
        made = tuple(Scope(**s) for s in scopes)
        return replace(RECIPES[base], **document, scopes=(*RECIPES[base].scopes, *made))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _known(given: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    known = tuple(names)
    if unknown := sorted(set(given) - set(known)):
        raise InputError(f"{where}: expected some of {', '.join(known)}, found {', '.join(unknown)}")


def _one_of(what: str, value: Any, choices: tuple[Any, ...]) -> None:
    if isinstance(value, (bool, float)) or value not in choices:  # 4.0 is in (4, 8), and counts nothing
        raise InputError(f"{what} must be one of {', '.join(map(str, choices))}, got {value!r}")


def _boolean(what: str, value: Any, none: bool = False) -> None:
    if not (isinstance(value, bool) or (none and value is None)):
        raise InputError(f"{what} must be true or false, got {value!r}")


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        r.name: r
        for r in (
            Recipe("int8"),
            Recipe("int16x8", precision="int16x8"),
            Recipe("int8-per-tensor", per_channel=False),
            Recipe("dynamic", precision="dynamic"),
            Recipe("weights", precision="weights"),
            Recipe("codebook4", levels=16, bundle=0.52),
            Recipe("codebook3", levels=8),
            Recipe("codebook2", levels=4),
            Recipe("mixed", sqnr=40.0),
        )
    }
)
"""Recipes by name; docs/quantization.md says what each is for."""
