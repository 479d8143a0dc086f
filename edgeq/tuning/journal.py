"""What a search has tried, on disk: a JSON file, whole after every try, that only the same search takes up again."""

from __future__ import annotations

import json
from pathlib import Path

from edgeq.errors import InputError
from edgeq.files import PathLike, read_limited, write_atomic
from edgeq.records import dataclass

MOST = 64 << 20
"""Bytes of a journal."""


@dataclass(frozen=True)
class Try:
    """One candidate: what it was, the metric, and whether it was kept."""

    what: str
    value: float
    kept: bool


class Journal:
    """The tries of one search, in order. Those that are there already are `recall`ed in place of being made again."""

    def __init__(self, path: PathLike | None, run: str) -> None:
        self._path, self._run = path, run
        self.tries: list[Try] = []
        self._old: dict[str, Try] = {}
        if path is not None and Path(path).exists():
            self._old = {t.what: t for t in _read(path, run)}

    def recall(self, what: str) -> Try | None:
        """A try of an earlier run of this search."""
        return self._old.get(what)

    def add(self, entry: Try) -> None:
        """The next try; written at once unless it was recalled."""
        self.tries.append(entry)
        if self._path is not None and entry.what not in self._old:
            rows = [{"what": t.what, "value": t.value, "kept": t.kept} for t in self.tries]
            write_atomic(self._path, json.dumps({"run": self._run, "tries": rows}, indent=1).encode())


def _read(path: PathLike, run: str) -> list[Try]:
    try:
        document = json.loads(read_limited(path, MOST))
        if document["run"] != run:
            raise InputError(f"{path}: expected a journal of this search, found another's: remove it to start anew")
        return [Try(str(t["what"]), float(t["value"]), bool(t["kept"])) for t in document["tries"]]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: expected a journal of edgeq tune") from None
