"""Keras files (.keras, .h5) and SavedModel folders → .tflite with TensorFlow's own converter, in float32."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(source: str, out: str, options: str) -> int:
    """Convert; the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    given = json.loads(options)
    make = _saved_model if os.path.isdir(source) else _keras
    Path(out).write_bytes(make(tf, source, given).convert())
    return 0


def _keras(tf: Any, source: str, given: Any) -> Any:
    """The converter for a Keras file."""
    model = tf.keras.models.load_model(source, compile=False, safe_mode=True)
    names = {t.name.split(":")[0]: t for t in model.inputs}
    _check(given, names)
    inputs = [tf.keras.Input(batch_shape=_shape(n, t, given), dtype=t.dtype, name=n) for n, t in names.items()]
    model = tf.keras.Model(inputs, model(inputs[0] if len(inputs) == 1 else inputs))
    return tf.lite.TFLiteConverter.from_keras_model(model)


def _saved_model(tf: Any, source: str, given: Any) -> Any:
    """The converter for a SavedModel: the signature that is served, or the first."""
    loaded = tf.saved_model.load(source)
    if not loaded.signatures:
        raise ValueError("the SavedModel has no signature to convert")
    key = "serving_default" if "serving_default" in loaded.signatures else next(iter(loaded.signatures))
    function = loaded.signatures[key]
    names = dict(function.structured_input_signature[1])
    _check(given, names)
    fixed = {n: tf.TensorSpec(_shape(n, spec, given), spec.dtype, n) for n, spec in names.items()}
    made = tf.function(lambda **x: function(**x)).get_concrete_function(**fixed)
    return tf.lite.TFLiteConverter.from_concrete_functions([made], loaded)


def _check(given: Any, names: Any) -> None:
    if unknown := given["shapes"].keys() - names.keys():
        raise ValueError(f"shapes are given for {sorted(unknown)}, the inputs are {sorted(names)}")


def _shape(name: str, spec: Any, given: Any) -> list[int | None]:
    """The shape that was asked for; else the file's, with the batch that was asked for, 1 where it leaves it open."""
    if name in given["shapes"]:
        return list(given["shapes"][name])
    shape = list(spec.shape)
    if shape and shape[0] is None:
        shape[0] = given["batch"] or 1
    return shape


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
