"""`refused`: what the tests of the tamper matrix expect, and what `make tamper` counts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

LEDGER = "EDGEQ_TAMPER_LEDGER"
"""The variable that names the file to which every case is noted: `row error-type` a line; none is kept without it."""

ACCEPTED = "accepted"
"""Stands in the place of the error's type where there was none."""


@contextmanager
def refused(
    *errors: type[Exception], match: str | None = None, row: int | None = None
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """`pytest.raises` for one tampered case of a row of the matrix, by default the row in the test's name."""
    try:
        with pytest.raises(errors, match=match) as caught:
            yield caught
    except pytest.fail.Exception:
        note(ACCEPTED, row)
        raise
    note(type(caught.value).__name__, row)


def note(outcome: str, row: int | None = None) -> None:
    """Count one case with this error type, or ACCEPTED."""
    if row is None:
        found = re.search(r"::test_row_(\d\d)_", os.environ["PYTEST_CURRENT_TEST"])
        assert found, "a case belongs to a row: expected test_row_NN_…"
        row = int(found[1])
    if path := os.environ.get(LEDGER):
        with open(path, "a", encoding="ascii") as ledger:
            ledger.write(f"{row} {outcome}\n")
