"""Every hostile .tflite file is refused, by the error that its name promises."""

from __future__ import annotations

import json

import pytest
from tflite_vectors import FOLDER, VECTORS

from edgeq.check import check
from edgeq.tflite import read


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_is_refused(vector):
    """Reading and checking the file raises the vector's own error, in one line that says what was found."""
    data = (FOLDER / f"{vector.name}.tflite").read_bytes()
    with pytest.raises(vector.error) as caught:
        check(read(data))
    assert type(caught.value) is vector.error
    assert vector.message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_is_what_the_table_makes(vector):
    """The committed file is the one that tests/tflite_vectors.py describes."""
    assert (FOLDER / f"{vector.name}.tflite").read_bytes() == vector.make()


def test_index_names_every_file():
    """index.json and the folder list the same vectors, each once."""
    index = json.loads((FOLDER / "index.json").read_text())
    assert index == {v.name: {"error": v.error.__name__, "message": v.message} for v in VECTORS}
    assert sorted(f.stem for f in FOLDER.glob("*.tflite")) == sorted(index)
    assert len(index) == len(VECTORS)
