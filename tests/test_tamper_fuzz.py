"""Seeded mutations of everything that edgeq parses: an EdgeqError or the original meaning, nothing else.

`make fuzz` (tests/fuzz) runs as many as there is time for; here are a few, and every input that was ever a finding.
"""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from fuzz.mutator import mutate
from fuzz.readers import readers

from edgeq.errors import EdgeqError

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
SLOW = {"root": 300, "root payload": 300, "private key": 500, "public key": 500, "second signature": 500}
"""Fewer mutations of what holds several keys, which take their time."""


@pytest.mark.parametrize("name", readers())
def test_mutations(name: str) -> None:
    """No mutation of anything that is parsed raises anything but an EdgeqError."""
    data, read = readers()[name]
    rng = random.Random(f"{name} 0")
    for _ in range(SLOW.get(name, 1500)):
        with suppress(EdgeqError):
            read(mutate(data, rng))


@pytest.mark.parametrize("name", readers())
def test_corpus(name: str) -> None:
    """No input that fuzzing found worth keeping raises anything but an EdgeqError."""
    for path in sorted((CORPUS / name.replace(" ", "-")).glob("*")):
        with suppress(EdgeqError):
            readers()[name][1](path.read_bytes())
