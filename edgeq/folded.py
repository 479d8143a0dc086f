"""Modules of a device's wheel that lie in a file or two for each folder, each as the body of a class (edgeq/targets/fold.py).

    class conv:
     global lowered
     …

A class's body is compiled as a module's text is: its names are set and looked up by name, and what lies within it looks for them
among the globals. So its code, run in a module's namespace, is that module. Python compiles the file and keeps its byte code as
that of any other, and a traceback shows its lines: line k of a module is the k-th behind its class's first. A module that has a
file of its own is found there, by Python.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import cache_from_source
from types import CodeType, ModuleType

FILES = ("starting.py", "modules.py")
"""Names of these files, in the folder of the modules that they hold: those that a first start imports, and the others."""


class Loader(SourceFileLoader):
    """Python's own loader of the file, of whose code a module's is a part."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code: CodeType | None = code

    def get_code(self, fullname: str) -> CodeType | None:
        """The module's code; whoever asks again gets what Python finds then."""
        code, self._code = self._code, None
        return section(super().get_code(fullname), fullname) if code is None else code


class Finder:
    """Finds modules in the file of their package's folder."""

    def __init__(self) -> None:
        self._read: dict[str, dict[str, CodeType]] = {}
        """Path of a file → the codes of its modules by name."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module, if the file of its package has a class of its name."""
        if not name.startswith("edgeq.") or not path:
            return None
        for file in FILES:
            where = f"{path[0]}/{file}"
            own = self._codes(name, where).get(name.rpartition(".")[2])
            if own is not None:
                spec = ModuleSpec(name, Loader(name, where, own), origin=where)
                spec.has_location, spec.cached = True, cache_from_source(where)
                return spec
        return None

    def _codes(self, name: str, where: str) -> dict[str, CodeType]:
        """The codes of a file's modules; none, if there is no such file."""
        if where not in self._read:
            code = SourceFileLoader(name, where).get_code(name) if os.path.exists(where) else None
            self._read[where] = {part.co_name: part for part in parts(code)}
        return self._read[where]


def section(code: CodeType | None, name: str) -> CodeType | None:
    """Of a file's code the part that is this module: all of it, if the file is the module's own."""
    if code is None or os.path.basename(code.co_filename) not in FILES:
        return code
    return next((part for part in parts(code) if part.co_name == name.rpartition(".")[2]), None)


def parts(code: CodeType | None) -> Iterator[CodeType]:
    """The codes of a file's classes."""
    return (c for c in code.co_consts if isinstance(c, CodeType)) if code is not None else iter(())


def begin() -> None:
    """Find modules so from now on, where Python does not."""
    sys.meta_path.append(Finder())
