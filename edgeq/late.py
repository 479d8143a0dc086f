"""NumPy 1 loads at its start what NumPy 2 loads when somebody asks for it. Here NumPy 1 does as NumPy 2 does.

`numpy.random`, `ma`, `fft`, `polynomial` and `ctypeslib` are a third of what NumPy 1.26 takes: 20 of 60 ms and 9 of
24 MiB, OpenSSL among them, which `numpy.random` reaches by way of `secrets`. While NumPy is loaded an empty module stands for
each; then `numpy.random` is what `numpy.__getattr__` gives, which imports it. For processes that are edgeq's own, as its commands
are: how an application's NumPy is loaded is not a library's to change. An application may say `late.begin()` before it imports
NumPy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PARTS = ("ctypeslib", "fft", "ma", "polynomial", "random")


class _Finder:
    """Finds NumPy where the others do, and has it loaded by `_load`; once."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """NumPy, where the next one has it."""
        if name != "numpy":
            return None
        # Another list: who goes through this one meanwhile, importing in another thread, would miss the next finder.
        sys.meta_path = [f for f in sys.meta_path if f is not self]
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    loader: Any = spec.loader
                    loader.exec_module = partial(_load, loader, loader.exec_module)
                return spec
        return None


def _load(loader: Any, load: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Load NumPy without its late parts."""
    vars(loader).pop("exec_module", None)  # it is its class's again
    empty = {name: ModuleType(f"numpy.{name}") for name in PARTS}
    module.__dict__.update(empty)
    load(module)
    for name, part in empty.items():
        if module.__dict__.get(name) is part:
            del module.__dict__[name]
    if getattr(module, "__version__", "").startswith("1."):
        module.__getattr__ = partial(_part, module.__getattr__)  # type: ignore[method-assign]
        module.__dir__ = partial(_names, module.__dir__)  # type: ignore[method-assign]


def _part(before: Callable[[str], Any], name: str) -> Any:
    return import_module(f"numpy.{name}") if name in PARTS else before(name)


def _names(before: Callable[[], Iterable[str]]) -> list[str]:
    return [*{*before(), *PARTS}]


def begin() -> None:
    """From now on; where NumPy is there already nothing changes."""
    if "numpy" not in sys.modules:
        sys.meta_path.insert(0, _Finder())
