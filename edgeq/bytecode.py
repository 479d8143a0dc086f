"""The byte code of the modules of a start in one file: finding, opening and judging a hundred files is a tenth of a start.

The file lies beside Python's own, in `__pycache__`, is as much believed as those, and holds what they hold, for one version of
Python. As there, a module's source stands for it with its size and date: what was edited is imported in Python's own way, and so
is everything where there is no file. A module that comes from here has the file, the loader's `get_source` and the lines that it
would have had, so that tracebacks, debuggers and `inspect` find what they look for.

It is used from the first look at `edgeq.load` until the first model was loaded, from that at `edgeq.quantize.quantize` until
one was quantized, and by `edgeq calibrate`. What was missing in it then is gathered when the process ends (edgeq/gathered.py), so
that the next start finds it.

    MAGIC ‖ size of the index (8 bytes, little endian) ‖ index (marshal) ‖ code of each module (marshal)
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.machinery import ModuleSpec, SourceFileLoader
from threading import RLock
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

PACKAGE = os.path.dirname(__file__)
MAGIC = b"edgeq bytecode 1\n"
HEAD = len(MAGIC) + 8
MOST = 1 << 22
"""Bytes of an index."""


def path() -> str | None:
    """Where the file of this Python lies; None where Python keeps no byte code."""
    cached = __spec__.cached if __spec__ else None
    return f"{cached.removesuffix('.pyc')}.start" if cached else None


class Finder:
    """Finds the package's modules in the file, and remembers which it did not find there."""

    def __init__(self, descriptor: int | None, index: dict[str, tuple[Any, ...]]) -> None:
        self.descriptor, self.index = descriptor, index
        self.missed: set[str] = set()
        self._open = RLock()
        """Held while something is read: threads import too, and the descriptor may be another file's later."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module, if the source is still the one that was compiled."""
        if not name.startswith("edgeq."):
            return None
        with self._open:
            found = self.index.get(name)
            if found is not None and self.descriptor is not None:
                try:
                    source, cached, size, date, is_package, at, length = found
                    where = f"{PACKAGE}/{source}"
                    status = os.stat(where)
                    if status.st_size == size and status.st_mtime_ns == date:
                        code = marshal.loads(os.pread(self.descriptor, length, at))
                        return _spec(name, where, cached, is_package, code)
                except (OSError, EOFError, ValueError, TypeError):
                    pass  # Python's own way says what is wrong, if anything is
            self.missed.add(name)
            return None

    def close(self) -> None:
        """Read nothing more."""
        with self._open:
            self.index = {}
            if self.descriptor is not None:
                os.close(self.descriptor)
                self.descriptor = None


class Loader(SourceFileLoader):
    """Python's own loader of a source file, which has the code already."""

    def __init__(self, name: str, where: str, code: CodeType) -> None:
        super().__init__(name, where)
        self._code: CodeType | None = code

    def get_code(self, fullname: str) -> CodeType | None:
        """The code, once; whoever asks again gets what Python finds."""
        code, self._code = self._code, None
        if code is None:
            from edgeq.folded import section

            return section(super().get_code(fullname), fullname)
        return code


def _spec(name: str, where: str, cached: str, is_package: bool, code: CodeType) -> ModuleSpec:
    spec = ModuleSpec(name, Loader(name, where, code), origin=where, is_package=is_package)
    spec.has_location, spec.cached = True, cached  # which would cost more to find out than all of this
    if spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(os.path.dirname(where))
    return spec


_finder: Finder | None = None


def begin(first: Callable[[], R]) -> R:
    """What `first` gives, which begins to import: modules are found in the file from now on, once in a process."""
    global _finder
    where = path()
    if _finder is None and where is not None:
        _finder = open_file(where)
        sys.meta_path.insert(0, _finder)
    from edgeq.lasting import Lasting

    with Lasting():
        return first()


def open_file(where: str) -> Finder:
    """A finder in this file; in none, if there is none, or it is not whole, or for another place."""
    try:
        descriptor = os.open(where, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return Finder(None, {})
    try:
        head = os.read(descriptor, HEAD)
        if head.startswith(MAGIC) and len(head) == HEAD:
            size = min(int.from_bytes(head[len(MAGIC) :], "little"), MOST)
            package, tag, index = marshal.loads(os.read(descriptor, size))
            if (package, tag) == (PACKAGE, sys.version):
                return Finder(descriptor, index)
    except (OSError, EOFError, ValueError, TypeError):
        pass
    os.close(descriptor)
    return Finder(None, {})


def end() -> None:
    """Leave the rest to Python; what was missing in the file is gathered when the process ends."""
    finder, where = _finder, path()
    if finder is None or finder not in sys.meta_path:
        return
    # Another list: who goes through this one meanwhile, importing in another thread, would miss the next finder.
    sys.meta_path = [f for f in sys.meta_path if f is not finder]
    if finder.missed and where is not None and not sys.dont_write_bytecode:
        import atexit

        from edgeq import gathered

        atexit.register(gathered.write, where, frozenset(finder.missed))
    finder.close()


def until_done(function: Callable[P, R]) -> Callable[P, R]:
    """A function whose end is the end of the start."""

    @wraps(function)
    def starting(*given: P.args, **named: P.kwargs) -> R:
        if _finder is None or _finder not in sys.meta_path:
            return function(*given, **named)
        from edgeq.lasting import Lasting

        with Lasting():
            try:
                return function(*given, **named)
            finally:
                end()

    return starting
