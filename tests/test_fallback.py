"""Models that edgeq lacks an operation for: run elsewhere and said, or refused with what would help."""

from __future__ import annotations

import json
import threading
import warnings
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq import fallback, grant, seal
from edgeq.cli import main
from edgeq.errors import CheckError, InputError, UnsupportedError
from edgeq.fallback import FallbackModel, FallbackWarning
from edgeq.graph import Graph, Tensor
from edgeq.machine import get
from edgeq.plan import make_plan
from edgeq.plan.survey import survey
from edgeq.tflite import write
from tests import engine_models
from tests.fallback_models import custom, diagonal, two_outputs
from tests.naive.oracle import missing
from tests.trusted import device, publisher, trust

ELSEWHERE = pytest.mark.skipif(fallback.find("xnnpack") is None, reason="no other runtime is installed")


pytestmark = pytest.mark.usefixtures("without_matrix_diag")


def stored(graph: Graph, folder: Path) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(write(graph))
    return path


@ELSEWHERE
def test_another_runtime_runs_what_edgeq_lacks(tmp_path: Path) -> None:
    """The model is run, and one warning says by whom and why."""
    with pytest.warns(
        FallbackWarning, match=r"runs this model, as edgeq does not: operation 0 \(MATRIX_DIAG\)"
    ) as said:
        model = edgeq.load(stored(diagonal(), tmp_path))
    assert len(said) == 1
    assert isinstance(model, FallbackModel)
    assert str(model.runtime) in str(said[0].message)
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(model(x), np.stack([np.diag(row) for row in x]))
    np.testing.assert_array_equal(model(x[:1]), np.diag(x[0])[None])
    assert model(x[:0]).shape == (0, 3, 3)


@ELSEWHERE
@pytest.mark.filterwarnings("ignore::edgeq.fallback.FallbackWarning")
def test_it_is_called_like_any_model(tmp_path: Path) -> None:
    """Names, parameters, floats for integers, dequantized outputs and refusals are those of an edgeq model."""
    with edgeq.load(stored(two_outputs(), tmp_path)) as model:
        assert [(p.name, p.shape, p.dtype) for p in model.inputs] == [("x", (1, 3), np.int8)]
        codes = np.array([[-5, -3, 7]], np.int8)
        found = model(codes)
        np.testing.assert_array_equal(found["diagonal"], np.diag([-1.0, 0, 5])[None].astype(np.float32))
        np.testing.assert_array_equal(found["relu"], [[-3, -3, 7]])
        np.testing.assert_array_equal(model({"x": np.array([[-1, 0, 5]], np.float32)})["relu"], found["relu"])
        np.testing.assert_array_equal(model(codes, dequantize=True)["relu"], [[0, 0, 5]])
        with pytest.raises(InputError, match=r"has shape \[1, 4\], \(N, 3\) is expected"):
            model(np.zeros((1, 4), np.int8))
    with pytest.raises(InputError, match="closed"):
        model(codes)


@ELSEWHERE
@pytest.mark.filterwarnings("ignore::edgeq.fallback.FallbackWarning")
def test_calls_from_many_threads_do_not_meet(tmp_path: Path) -> None:
    """Every thread gets its own answer."""
    model = edgeq.load(stored(diagonal(), tmp_path))
    wrong = []

    def work(k: int) -> None:
        x = np.full((1, 3), k, np.float32)
        wrong.extend(k for _ in range(50) if model(x)[0, 2, 2] != k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@ELSEWHERE
@pytest.mark.filterwarnings("ignore::edgeq.fallback.FallbackWarning")
def test_inputs_take_other_shapes_there_too(tmp_path: Path) -> None:
    """`shapes` reaches the runtime, which knows the shapes of operations that edgeq does not."""
    model = edgeq.load(stored(diagonal(), tmp_path), shapes={"x": (2, 5)})
    assert model.outputs[0].shape == (2, 5, 5)
    assert model(np.ones((4, 5), np.float32)).shape == (4, 5, 5)


@pytest.mark.parametrize(("rounding", "name"), [("xnnpack", "ai-edge-litert"), ("tflite", "tflite-runtime")])
def test_the_rounding_chooses_the_runtime(rounding: str, name: str) -> None:
    """Each family of roundings is asked of the runtime that defines it."""
    if why := missing(rounding):
        pytest.skip(why)
    found = fallback.find(rounding)
    assert found is not None
    assert found.name == name


def test_native_refuses_and_says_what_helps(tmp_path: Path) -> None:
    """backend="native" names the operations and the remedies; an unknown backend is refused before the file is opened."""
    path = stored(diagonal(), tmp_path)
    with pytest.raises(
        UnsupportedError, match=r"operation 0 \(MATRIX_DIAG\): edgeq lacks.* What helps: ai-edge-litert"
    ):
        edgeq.load(path, backend="native")
    with pytest.raises(InputError, match="backend is 'gpu', 'auto' or 'native' is expected"):
        edgeq.load(tmp_path / "nothing.tflite", backend="gpu")


def test_without_another_runtime_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither runtime is installed, the message says how to get one."""
    monkeypatch.setattr(fallback, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'edgeq\[litert\]'"):
        edgeq.load(stored(diagonal(), tmp_path))


def test_numpy_2_leaves_tflite_runtime_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite-runtime 2.14 cannot work with NumPy 2, so it is not chosen there."""
    if find_spec("ai_edge_litert") is None:
        pytest.skip("ai_edge_litert is not installed")
    monkeypatch.setattr(fallback.np, "__version__", "2.1.0")
    found = fallback.find("tflite")
    assert found is not None
    assert found.name == "ai-edge-litert"


@ELSEWHERE
def test_what_nobody_has_is_refused(tmp_path: Path) -> None:
    """A custom operation that the other runtime lacks too is one clear line."""
    with pytest.raises(
        UnsupportedError, match=r"operation 0 \(Mystery\): edgeq lacks this operation; .* refuses it too"
    ):
        edgeq.load(stored(custom("Mystery"), tmp_path))


def test_an_unsound_model_never_gets_there(tmp_path: Path) -> None:
    """What edgeq's own check refuses is not handed to a runtime that would believe it."""
    content = bytearray(write(diagonal().with_main(outputs=(1, 1))))
    at = content.rindex((1).to_bytes(4, "little") * 2)  # the vector of outputs
    content[at : at + 4] = (7).to_bytes(4, "little")
    path = tmp_path / "broken.tflite"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckError, match="tensor 7"):
            edgeq.load(path)


# --- bundles ----------------------------------------------------------------------------------------------------------


def sealed_model(folder: Path, allow: tuple[str, ...]) -> tuple[Path, bytes]:
    """The model in an encrypted bundle, and a grant of these operations."""
    bundle = seal.seal(write(diagonal()), publisher(), model_id="acme/diagonal", version=1)
    path = folder / "diagonal.eqb"
    path.write_bytes(b"".join(bundle.pieces()))
    now = datetime.now(timezone.utc)
    verified = edgeq.loader.verify(path, trust=trust())
    terms = {"now": now, "expires": now + timedelta(days=1)}
    return path, grant.issue(verified, publisher(), device().public, list(allow), **terms)


@ELSEWHERE
def test_a_bundle_goes_over_only_with_export(tmp_path: Path) -> None:
    """The plain bytes of an encrypted model reach another runtime only under a grant that allows export."""
    path, held = sealed_model(tmp_path, ("load",))
    with pytest.raises(UnsupportedError, match="the grant does not allow export"):
        edgeq.load(path, grant=held, identity=device(), trust=trust())
    path, held = sealed_model(tmp_path, ("load", "export"))
    with pytest.warns(FallbackWarning):
        model = edgeq.load(path, grant=held, identity=device(), trust=trust())
    np.testing.assert_array_equal(model(np.ones((1, 3), np.float32))[0], np.eye(3))


# --- the survey -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ["xnnpack", "tflite"])
@pytest.mark.parametrize(
    "graph", [diagonal(), two_outputs(), engine_models.dense("int8"), engine_models.conv("float32", h=20, w=20)]
)
def test_the_survey_agrees_with_the_plan(graph: Graph, rounding: str) -> None:
    """Nothing is found exactly where a plan can be made."""
    isa = get().isa
    if survey(graph, isa, rounding):
        with pytest.raises(UnsupportedError):
            make_plan(graph, isa, rounding)
    else:
        make_plan(graph, isa, rounding)


def test_every_lacking_operation_is_found() -> None:
    """Not only the first, and each once: what follows from one is not reported as another."""
    graph = diagonal()
    tensors = (*graph.tensors, *(engine_models.activation(n, (1, 3, 3), "float32", 1, 0) for n in "zuv"))
    ops = (*graph.ops, custom("Mystery").ops[0], *engine_models.unary("TANH", "float32").ops)
    chained = [type(op)(op.code, (k,), (k + 1,), op.options, custom_code=op.custom_code) for k, op in enumerate(ops)]
    long = graph.with_main(tensors=tensors, ops=tuple(chained), outputs=(3,))
    assert [(f.index, f.operation) for f in survey(long, get().isa)] == [(0, "MATRIX_DIAG"), (1, "Mystery")]


def test_types_without_arrays_are_found() -> None:
    """A model that takes text is refused with its input's name."""
    graph = engine_models.unary("TANH", "float32")
    words = graph.with_main(tensors=(Tensor("x", (1, 3), "string"), graph.tensors[1]))
    (found,) = survey(words, get().isa)
    assert str(found) == "input: tensor 'x' is of type string, which edgeq does not compute with"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("FlexErf", "convert it with TFLite's builtin operations only"),
        ("edgetpu-custom-op", "before the Edge TPU compiler"),
        ("Mystery", "only the runtime that it was written for"),
    ],
)
def test_remedies_fit_the_operation(name: str, remedy: str) -> None:
    """Each kind of custom operation has its own way out."""
    (found,) = survey(custom(name), get().isa)
    assert remedy in found.remedy


# --- the command line -------------------------------------------------------------------------------------------------


def test_lint_lists_and_says_so_in_its_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 and one line for a model that runs; 1 and a row per operation for one that does not."""
    path = str(stored(engine_models.dense("int8"), tmp_path))
    assert main(["lint", path]) == 0
    assert capsys.readouterr().out == f"{path}: edgeq runs every operation\n"
    path = str(stored(two_outputs(), tmp_path))
    assert main(["lint", path, "--target", "edgeq"]) == 1
    assert "1  MATRIX_DIAG  edgeq lacks this operation" in capsys.readouterr().out
    assert main(["lint", path, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["operations"] == 3
    assert [f["operation"] for f in report["findings"]] == ["MATRIX_DIAG"]


@ELSEWHERE
def test_commands_fall_back_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`run` uses the other runtime with a remark, or refuses with --backend native; `inspect` names it."""
    path = str(stored(diagonal(), tmp_path))
    np.savez(tmp_path / "in.npz", x=np.eye(3, dtype=np.float32))
    arguments = ["run", path, "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz")]
    assert main(arguments) == 0
    assert "runs this model, as edgeq does not" in capsys.readouterr().err
    assert np.load(tmp_path / "out.npz")["y"].shape == (3, 3, 3)
    assert main([*arguments, "--backend", "native"]) == 1
    assert "edgeq lacks this operation. What helps" in capsys.readouterr().err
    assert main(["inspect", path]) == 0
    assert f"runs in     {fallback.find('xnnpack')}, as edgeq lacks 1 of its operations" in capsys.readouterr().out
