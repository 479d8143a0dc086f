"""Overlays: what calibration changed, as a file that only its device opens and only its model takes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from quantize_models import classifier, inputs_of
from trusted import edit_json, new_device

from edgeq import audit, changes, overlay, strict
from edgeq.changes import Changes, Constant
from edgeq.errors import (
    BadSignatureError,
    DocumentError,
    EdgeqError,
    EncodingError,
    OverlayDamagedError,
    OverlayDeviceError,
    OverlayModelError,
    SuiteError,
)
from edgeq.overlay import Base
from edgeq.quantize import quantize, recalibrate
from edgeq.tflite import write

NOW = datetime(2030, 6, 1, tzinfo=timezone.utc)
BASE = Base("ab" * 32, "acme/spotter", 3)
DEVICE = new_device()
SECRET = b"biases of a model that nobody may read"


@pytest.fixture(scope="module")
def made() -> bytes:
    return overlay.make(SECRET, DEVICE, BASE, now=NOW)


def test_what_goes_in_comes_out(made) -> None:
    """The device that made an overlay gets its content and its origin back."""
    found = overlay.open_for(made, DEVICE, BASE)
    assert (found.content, found.base, found.created) == (SECRET, BASE, int(NOW.timestamp()))
    assert overlay.verify(made, audit.signing_key(DEVICE).public) == BASE


def test_nothing_shows(made) -> None:
    """Neither the file nor the value's repr shows the content, in any of its spellings."""
    assert SECRET not in made
    assert strict.to_base64(SECRET)[:20].encode() not in made
    assert "biases" not in repr(overlay.open_for(made, DEVICE, BASE))


def test_another_every_time(made) -> None:
    """Sealing the same changes twice uses two nonces."""
    assert overlay.make(SECRET, DEVICE, BASE, now=NOW) != made


def reseal(made: bytes, change) -> bytes:
    """The overlay with another payload, signed again by the device."""
    from edgeq import dsse

    envelope = strict.parse(made, 1 << 20, "overlay")
    payload = edit_json(strict.from_base64(envelope["payload"], ""), change)
    key = audit.signing_key(DEVICE)
    kind = envelope["payloadType"]
    signed = dsse.Envelope(payload, kind, key.sign(dsse.pae(kind, payload)), key.public.key_id)
    return strict.canonical(signed.to_json())


REFUSED = {
    "of another device": (lambda made: overlay.make(SECRET, new_device(), BASE, now=NOW), OverlayDeviceError),
    "signed by another key": (
        lambda made: edit_json(made, lambda e: e["signatures"][0].update(keyid="00" * 32)),
        OverlayDeviceError,
    ),
    "flipped signature": (
        lambda made: edit_json(made, lambda e: e["signatures"][0].update(sig="AAAA")),
        BadSignatureError,
    ),
    "another model's digest, signed again": (
        lambda made: reseal(made, lambda p: p.update(payload_sha256="cd" * 32)),
        OverlayModelError,
    ),
    "another version, signed again": (lambda made: reseal(made, lambda p: p.update(version=4)), OverlayDamagedError),
    "another content, signed again": (
        lambda made: reseal(made, lambda p: p.update(content="AAAA")),
        OverlayDamagedError,
    ),
    "another nonce, signed again": (
        lambda made: reseal(made, lambda p: p.update(nonce=strict.to_base64(bytes(12)))),
        OverlayDamagedError,
    ),
    "unknown field": (lambda made: reseal(made, lambda p: p.update(more=1)), DocumentError),
    "another format": (lambda made: reseal(made, lambda p: p.update(format="edgeq-overlay/2")), SuiteError),
    "not JSON": (lambda made: b"overlay", EncodingError),
    "empty": (lambda made: b"", EncodingError),
    "cut": (lambda made: made[:-9], EncodingError),
}


@pytest.mark.parametrize(("damage", "error"), REFUSED.values(), ids=REFUSED)
def test_refused(made, damage, error) -> None:
    """What this device did not make for this model is refused, each in its own way."""
    with pytest.raises(error):
        overlay.open_for(damage(made), DEVICE, BASE)


# --- what is in it ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tuned():
    """A quantized classifier, and what calibration on other samples makes of it."""
    graph = classifier()
    before = quantize(graph, inputs_of(graph, 24)).graph
    local = [tuple(6.0 * a for a in x) for x in inputs_of(graph, 32, seed=5)]
    done = recalibrate(before, local, keep_io=False)
    assert done.changed
    return before, done.graph


def test_changes_make_the_same_model(tuned) -> None:
    """The difference of two graphs, through bytes, makes the second of the first, byte for byte of the file."""
    before, after = tuned
    found = changes.from_bytes(changes.to_bytes(changes.difference(before, after, samples=32)))
    assert found.samples == 32
    assert len(found.tensors) > 3
    assert len(found.constants) > 1
    assert write(changes.apply(before, found)) == write(after)


def test_weights_never_change(tuned) -> None:
    """No change names a constant that is not a bias: weights are the same arrays before and after."""
    before, after = tuned
    for (n, k), constant in changes.difference(before, after).constants.items():
        assert k == 2
        assert before.ops[n].code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        assert constant.codes.dtype == np.int32


def test_nothing_changed_is_nothing() -> None:
    """A graph differs from itself in nothing, and no changes give it back."""
    graph = quantize(classifier(), inputs_of(classifier(), 8)).graph
    none = changes.difference(graph, graph)
    assert not none.tensors
    assert not none.constants
    assert write(changes.apply(graph, none)) == write(graph)


def _weights_of(graph) -> tuple[int, int]:
    return next((n, 1) for n, op in enumerate(graph.ops) if op.code == "CONV_2D")


UNFIT = {
    "a tensor that is not there": lambda g: Changes({10_000: (1.0, 0)}, {}),
    "a scale of zero": lambda g: Changes({g.inputs[0]: (0.0, 0)}, {}),
    "a scale that is no number": lambda g: Changes({g.inputs[0]: (float("nan"), 0)}, {}),
    "a zero point beyond int8": lambda g: Changes({g.inputs[0]: (1.0, 128)}, {}),
    "another scale for weights": lambda g: Changes({g.ops[0].inputs[1]: (1.0, 0)}, {}),
    "other weights": lambda g: Changes({}, {_weights_of(g): Constant(np.zeros(4, np.int32), np.ones(1, np.float32))}),
    "an operation that is not there": lambda g: Changes({}, {(999, 2): Constant(np.zeros(4, np.int32), np.ones(1))}),
    "an input that is not there": lambda g: Changes({}, {(0, 9): Constant(np.zeros(4, np.int32), np.ones(1))}),
    "too few biases": lambda g: Changes({}, {(0, 2): Constant(np.zeros(1, np.int32), np.ones(1, np.float32))}),
}


@pytest.mark.parametrize("made", UNFIT.values(), ids=UNFIT)
def test_changes_that_do_not_fit(tuned, made) -> None:
    """Changes of another model, or out of bounds, are refused before anything is planned."""
    before, _ = tuned
    with pytest.raises(OverlayDamagedError):
        changes.apply(before, made(before))


def _edited(tuned, change) -> bytes:
    return edit_json(changes.to_bytes(changes.difference(*tuned)), change)


MALFORMED = {
    "array of another length": lambda v: v["tensors"].update(shape=[1 << 30]),
    "array of objects": lambda v: v["tensors"].update(dtype="object"),
    "negative shape": lambda v: v["scales"].update(shape=[-1]),
    "shape of truth values": lambda v: v["scales"].update(shape=[True]),
    "five dimensions": lambda v: v["scales"].update(shape=[1] * 5),
    "no scales": lambda v: v.pop("scales"),
    "scales of another type": lambda v: v["scales"].update(dtype="int32"),
    "constants of no kind": lambda v: v.update(constants={}),
    "a constant at −1": lambda v: v["constants"][0].update(operation=-1),
    "a baseline of no name": lambda v: v["baseline"].update({"": v["scales"]}),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_malformed_changes(tuned, change) -> None:
    """Bytes that are no changes are refused with an error of edgeq's."""
    with pytest.raises(EdgeqError):
        changes.from_bytes(_edited(tuned, change))


def test_a_shared_bias_is_parted() -> None:
    """A bias that two operations read becomes each one's own when it changes for one."""
    graph = quantize(classifier(), inputs_of(classifier(), 8)).graph
    at = [n for n, op in enumerate(graph.ops) if op.code in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    first = graph.ops[at[0]]
    twice = (*graph.ops, replace(first, outputs=first.outputs))
    shared = graph.with_main(ops=twice)
    t = graph.tensors[first.inputs[2]]
    scale = t.quantization.scale
    changed = changes.apply(shared, Changes({}, {(at[0], 2): Constant(np.asarray(t.data) + 1, scale)}))
    assert changed.ops[at[0]].inputs[2] != changed.ops[-1].inputs[2]
    assert changed.tensors[changed.ops[-1].inputs[2]].data is t.data
