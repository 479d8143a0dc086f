"""Integrity in use: a flipped bit is caught wherever it matters, and a sound model is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tflite_models import float_mlp, int8_cnn
from trusted import NOW, device, granted, publisher

import edgeq
from edgeq import seal
from edgeq.engine import Model
from edgeq.errors import InputError, IntegrityError
from edgeq.kernels.words import conv as cw
from edgeq.selfcheck import PRIME, CheckedModel, _times
from edgeq.tflite import read, write

RNG = np.random.default_rng(8)


@pytest.fixture(params=["xnnpack", "tflite"])
def model(request: pytest.FixtureRequest) -> CheckedModel:
    """A model that checks itself at every inference, in both roundings."""
    return CheckedModel(int8_cnn(), every=1, rounding=request.param)


def sample(model: Model) -> np.ndarray:
    """A random input."""
    p = model.inputs[0]
    return RNG.integers(-128, 128, p.shape).astype(p.dtype)


def test_a_sound_model(model: CheckedModel) -> None:
    """Checks pass for any input, batches too, and results are those of the model without them."""
    plain = Model(int8_cnn(), rounding=model.plan.rounding.value)
    assert model.checked_layers
    for _ in range(50):
        x = sample(model)
        assert (model(x) == plain(x)).all()
    batch = np.concatenate([sample(model) for _ in range(5)])
    assert (model(batch) == plain(batch)).all()
    model.check(x)


def test_every_flipped_byte_of_the_parameters(model: CheckedModel) -> None:
    """A flipped bit in any byte of the packed parameters is told, before anything is computed with it."""
    constants, x = model.program.constants, sample(model)
    for place in range(0, constants.size, 7):
        constants[place] ^= 1 << place % 8
        with pytest.raises(IntegrityError, match="parameters"):
            model.check(x)
        constants[place] ^= 1 << place % 8
    model.check(x)


def calls_until_caught(model: CheckedModel, x: np.ndarray) -> int:
    """How many inferences are given before one is refused."""
    for number in range(1000):
        try:
            model(x)
        except IntegrityError:
            return number
    raise AssertionError("never caught")


def test_within_one_round(model: CheckedModel) -> None:
    """While it runs, a changed weight is caught within as many checks as there are parts to look at."""
    x = sample(model)
    at = model.plan.instructions[model._layers[0].number].words[cw.W].offset
    model.program.constants[at] ^= 1
    assert calls_until_caught(model, x) <= len(model._spans)


def test_once_broken_it_stays_broken(model: CheckedModel) -> None:
    """After a check failed, no result is given any more, also when the memory looks well again."""
    x = sample(model)
    model.program.constants[5] ^= 1
    with pytest.raises(IntegrityError):
        model.check(x)
    model.program.constants[5] ^= 1
    with pytest.raises(IntegrityError):
        model(x)


def test_results_without_the_hash(model: CheckedModel) -> None:
    """Even if hashes were made to fit, a product by changed weights is not what the file's weights give."""
    x, layer = sample(model), model._layers[0]
    at = model.plan.instructions[layer.number].words[cw.W].offset
    model.program.constants[at : at + 64] ^= 0x40
    with pytest.raises(IntegrityError, match="result"):
        model._follow(layer, [x])
    model.program.constants[at : at + 64] ^= 0x40
    model._follow(layer, [x])


def test_weights_of_the_file() -> None:
    """A flipped bit in the weights that results are held against is told by Freivalds' test."""
    model = CheckedModel(read(write(int8_cnn())), every=1)
    layer = model._layers[0]
    x = np.full(model.inputs[0].shape, 1, np.int8)
    t = model.plan.tensors[layer.op.inputs[1]]
    changed = t.data.copy()
    changed.reshape(-1)[3] ^= 0x10
    object.__setattr__(t, "data", changed)
    with pytest.raises(IntegrityError, match="product"):
        model._follow(layer, [x])


def test_the_table_of_instructions(model: CheckedModel) -> None:
    """A changed instruction is caught."""
    model.plan.table[0, 1] ^= 1
    with pytest.raises(IntegrityError, match="instructions"):
        model.check(sample(model))


def test_freivalds_by_definition() -> None:
    """Products with a vector of residues are those of exact integers, for negative numbers and large ones."""
    a = RNG.integers(-(1 << 52), 1 << 52, (5, 300))
    r = RNG.integers(0, PRIME, 300)
    exact = [sum(int(x) * int(y) for x, y in zip(row, r, strict=True)) % PRIME for row in a]
    assert _times(a, r).tolist() == exact


def test_how_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """With N = 10 there is one check for ten samples, however they come."""
    model, count = CheckedModel(int8_cnn(), every=10), []
    monkeypatch.setattr(model, "_check_result", lambda x: count.append(1))
    for _ in range(25):
        model(sample(model))
    assert len(count) == 2
    model(np.concatenate([sample(model) for _ in range(30)]))
    assert len(count) == 3
    with pytest.raises(InputError):
        CheckedModel(int8_cnn(), every=0)


def test_float_models_are_hashed() -> None:
    """A model without a layer of 8 bits has its parameters hashed all the same."""
    model = CheckedModel(float_mlp(), every=1)
    x = RNG.normal(size=model.inputs[0].shape).astype(np.float32)
    model.check(x)
    model.program.constants[40] ^= 1
    with pytest.raises(IntegrityError):
        model.check(x)


def test_through_load(tmp_path: Path) -> None:
    """`load(…, selfcheck=N)` checks plain and sealed models; closing a sealed one wipes what it held."""
    source = seal.seal(write(int8_cnn()), publisher(), model_id="acme/m", version=1)
    (tmp_path / "m.eqb").write_bytes(source.to_bytes())
    (tmp_path / "m.tflite").write_bytes(write(int8_cnn()))
    held = granted(source, now=NOW.replace(year=2025))
    with (
        edgeq.load(tmp_path / "m.eqb", grant=held, identity=device(), trust=publisher().public, selfcheck=1) as sealed,
        edgeq.load(tmp_path / "m.tflite", selfcheck=1) as plain,
    ):
        x = sample(plain)
        assert (sealed(x) == plain(x)).all()
        assert sealed.checked_layers == plain.checked_layers != ()
        sealed.program.constants[9] ^= 2
        with pytest.raises(IntegrityError):
            sealed.check(x)
    assert not any(any(buffer[:]) for buffer in sealed._memory._buffers)
