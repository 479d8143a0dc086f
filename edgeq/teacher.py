"""A float model that travels inside its integer form, as a metadata buffer that runtimes do not look at.

Calibration on a device can then hold the integer model against the model that it was made of, instead of against what its
own codes stand for. The file stays a .tflite for every runtime, larger by the float model.
"""

from __future__ import annotations

from typing import Final

from edgeq.check import sound
from edgeq.errors import InputError
from edgeq.graph import Graph, Metadata
from edgeq.records import replace
from edgeq.tflite import read, write

NAME: Final = "edgeq_teacher"
"""Of the metadata entry."""


def with_teacher(model: Graph, teacher: Graph) -> Graph:
    """The model with a float model inside, in place of any that it had. Raises InputError for another interface."""
    check_interface(model, teacher)
    plain = write(replace(teacher, metadata=tuple(m for m in teacher.metadata if m.name != NAME)))
    return replace(model, metadata=(*(m for m in model.metadata if m.name != NAME), Metadata(NAME, plain)))


def teacher_of(model: Graph) -> Graph | None:
    """The float model that travels in this one, checked; None where there is none. Raises ModelError and its kinds."""
    found = next((m for m in model.metadata if m.name == NAME), None)
    if found is None:
        return None
    teacher = sound(read(found.data))
    check_interface(model, teacher)
    return teacher


def check_interface(model: Graph, teacher: Graph) -> None:
    """Return if the teacher takes float32 in the model's input shapes, and gives as many outputs in its shapes."""
    for what, ours, theirs in (("inputs", model.inputs, teacher.inputs), ("outputs", model.outputs, teacher.outputs)):
        mine = [model.tensors[i].shape for i in ours]
        other = [teacher.tensors[i].shape for i in theirs]
        if [_size(s) for s in mine] != [_size(s) for s in other]:
            raise InputError(f"the teacher's {what} have shapes {other}, the model's {mine}: expected the same sizes")
    for i in teacher.inputs:
        if teacher.tensors[i].dtype != "float32":
            raise InputError(f"expected a teacher that takes float32, its input {i} takes {teacher.tensors[i].dtype}")


def _size(shape: tuple[int, ...]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n
