"""Other runtimes as calls: they compute what edgeq computes, and fail with one line."""

from __future__ import annotations

import sys
from importlib import metadata

import numpy as np
import pytest
from tflite_models import float_mlp

from edgeq import peers, timing
from edgeq.engine import build
from edgeq.errors import InputError
from edgeq.tflite import write

MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite": "tflite_runtime.interpreter",
    "openvino": "openvino",
    "onnxruntime": "onnxruntime",
}


@pytest.mark.parametrize("name", MODULES)
def test_a_peer_runs_the_model(name) -> None:
    """One call gives the outputs of the input that edgeq is timed with."""
    pytest.importorskip(MODULES[name])
    if name == "onnxruntime":
        pytest.importorskip("tf2onnx")
    graph = float_mlp()
    model = build(graph)
    expected = timing.edgeq(model)()
    (found,) = peers.call(name, write(graph), 1)()
    np.testing.assert_allclose(found, expected, atol=1e-2)  # OpenVINO computes in bfloat16 where the processor has it
    assert peers.version(name) == metadata.version(peers.DISTRIBUTIONS[name])


def test_a_peer_that_cannot_run_the_model_says_so() -> None:
    """Bytes that are no model give one clear error, not the runtime's own exception."""
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(InputError, match="litert cannot run this model"):
        peers.call("litert", b"\0" * 64)


@pytest.mark.parametrize("name", MODULES)
def test_a_peer_that_is_missing_says_what_to_install(monkeypatch, name) -> None:
    """A runtime that cannot be imported gives the command that installs it."""
    for module in {MODULES[name], MODULES[name].split(".")[0]}:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"{name} cannot be imported .* pip install {peers.DISTRIBUTIONS[name]}"):
        peers.call(name, b"")


def test_a_converted_model_is_kept(tmp_path) -> None:
    """A folder that holds the conversion of these bytes is believed, so that the converter runs once."""
    kept = tmp_path / "b5bb9d8014a0f9b1d61e21e796d78dcc.onnx"  # SHA-256 of "foo\n"
    kept.write_bytes(b"converted")
    assert peers.to_onnx(b"foo\n", tmp_path) == b"converted"
