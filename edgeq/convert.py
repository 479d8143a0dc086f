"""Models of other kinds to .tflite, through the converters that others keep well: edgeq has none of its own.

A converter brings a whole framework along, which logs as it pleases and holds on to its memory, so it runs as a process: of this
Python, or of another environment's where it is installed. What it makes is untrusted like any file, and read and checked here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq import converters, limits
from edgeq.check import check, sound
from edgeq.errors import ConvertError, InputError, ModelError
from edgeq.files import PathLike, read_limited
from edgeq.graph import Graph
from edgeq.shapes import by_index, resize
from edgeq.tflite import read, write


@dataclass(frozen=True)
class Converter:
    """A kind of source: what it is called, who converts it, the extra of edgeq's that installs that, and the script."""

    kind: str
    package: str
    extra: str = ""
    script: str = ""


ONNX = Converter("ONNX", "onnx2tf", "onnx", "from_onnx.py")
KERAS = Converter("Keras", "tensorflow", "keras", "from_tensorflow.py")
SAVED_MODEL = Converter("SavedModel", "tensorflow", "keras", "from_tensorflow.py")
TORCH = Converter("PyTorch", "litert-torch", "torch", "from_torch.py")
TFLITE = Converter("TFLite", "edgeq")
"""A model that stays what it is, with inputs of other shapes."""

BY_SUFFIX: Mapping[str, Converter] = {
    ".onnx": ONNX,
    ".keras": KERAS,
    ".h5": KERAS,
    ".hdf5": KERAS,
    ".pt2": TORCH,
    ".tflite": TFLITE,
}


@dataclass(frozen=True, eq=False)
class Converted:
    """A .tflite file's bytes, and the graph that they hold, checked."""

    data: bytes
    graph: Graph
    converter: Converter


def converter_of(source: PathLike) -> Converter:
    """Who converts this, by its name or, for a folder, by what lies in it.

    Raises InputError for what is not there, and for kinds that nobody converts here.
    """
    path = Path(source)
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return SAVED_MODEL
        raise InputError(f"{path}: a folder without saved_model.pb, a SavedModel is expected")
    if not path.exists():
        raise InputError(f"{path}: there is no such file")
    found = BY_SUFFIX.get(path.suffix.lower())
    if found is None:
        kinds = ", ".join(BY_SUFFIX)
        raise InputError(f"{path}: files that end in {kinds} and SavedModel folders are expected")
    return found


def convert(
    source: PathLike,
    *,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    python: PathLike | None = None,
    log: PathLike | None = None,
) -> Converted:
    """A model in another format as a .tflite in float32; a .tflite with inputs of other shapes.

    batch: the leading dimension of inputs that leave it open (1 by default). shapes: input's name → its whole shape, for
    inputs that leave more open (of a .tflite: for any). python: the interpreter that has the converter, by default this
    one. log: where what the converter says is written.

    Raises InputError for a source of no known kind, ConvertError where the converter is missing or fails, and ModelError
    where what it made is malformed or unsound.
    """
    converter = converter_of(source)
    if converter is TFLITE:
        return _resized(source, batch, shapes or {})
    options = json.dumps({"batch": batch, "shapes": {n: list(s) for n, s in (shapes or {}).items()}})
    script = Path(converters.__file__).with_name(converter.script)
    with tempfile.TemporaryDirectory(prefix="edgeq-convert-") as folder:
        out = Path(folder) / "model.tflite"
        command = [_interpreter(python), str(script), os.path.abspath(source), str(out), options]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise InputError(f"{command[0]}: cannot be run: {error.strerror or error}") from None
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        if log is not None:
            Path(log).write_text(said, "utf-8")
        if done.returncode == converters.MISSING:
            raise ConvertError(
                f"{os.fspath(source)}: {converter.kind} models are converted by {converter.package}, which is not "
                f"installed: pip install 'edgeq[{converter.extra}]', or name a Python that has it with --python"
            )
        if done.returncode != 0 or not out.exists():
            raise ConvertError(f"{os.fspath(source)}: {converter.package} failed: {gist(said)}")
        data = out.read_bytes()
    try:
        graph = read(data)
        check(graph)
    except ModelError as error:
        raise type(error)(f"{os.fspath(source)}: what {converter.package} made is refused: {error}") from error
    return Converted(data, graph, converter)


def _resized(source: PathLike, batch: int | None, shapes: Mapping[str, Sequence[int]]) -> Converted:
    if batch is None and not shapes:
        raise InputError(f"{os.fspath(source)}: a .tflite already; expected shapes for its inputs, or a batch")
    graph = sound(read(read_limited(source, limits.PAYLOAD)))
    given = by_index(graph, shapes)
    if batch is not None:
        tensors = {i: graph.tensors[i] for i in graph.inputs if i not in given}
        open_ = {i: t for i, t in tensors.items() if t.shape and (t.shape_signature or (0,))[0] == -1}
        given |= {i: (batch, *t.shape[1:]) for i, t in open_.items()}
    graph = resize(graph, given)
    check(graph)
    return Converted(write(graph), graph, TFLITE)


def _interpreter(python: PathLike | None) -> str:
    """As it was given; a path from here stays one where the process runs."""
    named = os.fspath(python or sys.executable)
    return os.path.abspath(named) if os.sep in named else named


def gist(said: str) -> str:
    """The line of a converter's output that says most: the last error of Python's, else the last line."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", said)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    errors = [
        line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b.{0,300}", line) or line.startswith("ERROR:")
    ]
    return (errors or lines or ["it said nothing"])[-1][:300]
