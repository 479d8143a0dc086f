"""Float models that are run in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from control_models import conditional
from quantize_models import MODELS, classifier, inputs_of
from test_quantize_recalibrate import loosely_quantized

from edgeq import pieces
from edgeq.engine import Tracer
from edgeq.pieces import divided, in_parts, in_pieces, part_of
from edgeq.quantize import quantize, recalibrate
from edgeq.quantize.cells import drawn
from edgeq.quantize.reconstruct import floats_of, reconstruct
from edgeq.quantize.remainders import remembered, remembered_in, without
from edgeq.tflite import write


@pytest.fixture
def small(monkeypatch):
    """Pieces of few weights, and few samples that wait between them."""
    monkeypatch.setattr(pieces, "WHOLE_BYTES", 200)
    monkeypatch.setattr(pieces, "HEAVY_BYTES", 200)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 200)
    monkeypatch.setattr(pieces, "CHANNELS", 2)
    monkeypatch.setattr(pieces, "LITTLE", 16)
    monkeypatch.setattr(pieces, "WAITING_BYTES", 5000)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_say_what_the_whole_says(name, threads, small, monkeypatch):
    """Every tensor is shown on every sample, in the samples' order, with the bits that a run of everything gives."""
    monkeypatch.setattr(pieces, "workers", lambda nanoseconds: threads)
    monkeypatch.setattr(pieces, "CALL_NS", 0)
    coded = without(quantize(MODELS[name](), inputs_of(MODELS[name]())).graph)
    graph = reconstruct(coded)
    watched = [i for i, t in enumerate(graph.tensors) if t.data is None]
    inputs, trace = inputs_of(MODELS[name](), 37), Tracer(graph)
    for floats in (floats_of(coded), in_parts(graph)):
        found: dict[int, list[np.ndarray]] = {i: [] for i in watched}
        for look in in_pieces(floats, inputs, lambda w, shown, n, k: [(i, n, v.copy()) for i, v in shown], watched):
            for i, number, values in look:
                assert number == sum(map(len, found[i]))
                found[i].append(values.reshape(len(values), -1))
        for k, x in enumerate(inputs):
            for i, v in trace.run(x).items():
                np.testing.assert_array_equal(np.concatenate(found[i])[k], v.reshape(-1))


def test_no_piece_is_made_ready_for_nothing(small, monkeypatch):
    """Where samples end just when there is no more room, nothing is planned once more for none."""
    floats = in_parts(reconstruct(without(quantize(classifier(), inputs_of(classifier(), 24)).graph)))
    room, made, piece = pieces.Passage(floats, []).room, [], pieces.Passage._piece
    monkeypatch.setattr(pieces.Passage, "_piece", lambda self, k: made.append(k) or piece(self, k))
    assert [*in_pieces(floats, inputs_of(classifier(), 2 * room), lambda w, shown, n, k: [*shown], [])]
    later = [*range(1, len(floats.pieces))]
    assert made == [0, *later, *later]


def test_where_pieces_end(small, monkeypatch):
    """Pieces have few weights, one operation or some of its channels, and what branches or is small is whole."""
    graph = classifier()
    found = divided(graph)
    assert len({piece.start for piece in found}) > 2
    assert sum(piece.channels is not None for piece in found) > 2
    done, channels = 0, 0
    for piece in found:
        part = part_of(graph, piece)
        weights = [
            sum(4 * t.size for i in op.inputs if i >= 0 and (t := part.tensors[i]).data is not None) for op in part.ops
        ]
        heaviest = max(weights)
        assert heaviest == weights[0] or sum(weights) <= pieces.PIECE_BYTES
        if piece.channels is None:
            assert (piece.start, channels) == (done, 0)
            done = piece.stop
            continue
        size = graph.tensors[graph.ops[piece.start].outputs[0]].shape[-1]
        assert (piece.start, piece.stop, piece.channels[0]) == (done, done + 1, channels)
        done, channels = (done + 1, 0) if piece.channels[1] == size else (done, piece.channels[1])
    assert done == len(graph.ops)
    hollow = floats_of(without(quantize(graph, inputs_of(graph)).graph)).graph
    assert any(t.data is not None and t.size > 50 and not any(t.data.strides) for t in hollow.tensors)
    assert in_parts(conditional()).whole
    monkeypatch.setattr(pieces, "WHOLE_BYTES", 1 << 20)
    assert len(divided(graph)) == 1


def test_calibration_in_pieces(small, monkeypatch):
    """A model that is too large to be a float model at once is calibrated to the same bytes."""
    graph, samples = loosely_quantized(classifier()), inputs_of(classifier(), 80, seed=2)
    parts = recalibrate(graph, samples)
    assert not floats_of(graph).whole
    monkeypatch.setattr(pieces, "WHOLE_BYTES", 1 << 20)
    whole = recalibrate(graph, samples)
    assert floats_of(graph).whole
    assert parts.changed
    assert write(parts.graph) == write(whole.graph)
    assert parts.observed.histograms.keys() == whole.observed.histograms.keys()
    for i, h in whole.observed.histograms.items():
        np.testing.assert_array_equal(parts.observed.histograms[i].counts, h.counts)


def test_drawn_models_in_pieces(small, monkeypatch):
    """Pieces of a drawn model hold weights within the cells of their codes, the same each time, and others in each model."""
    graph = without(quantize(classifier(), inputs_of(classifier())).graph)
    one, other = drawn(graph, floats_of(graph), 2)
    real = reconstruct(graph)
    together: dict[int, list[np.ndarray]] = {}
    for piece in one.pieces:
        a, again, b = one.part(piece), one.part(piece), other.part(piece)
        for op in a.ops:
            for i in op.inputs:
                q = graph.tensors[i].quantization if 0 <= i < len(graph.tensors) else None
                if q is None or graph.tensors[i].data is None or graph.tensors[i].dtype != "int8":
                    continue
                assert np.array_equal(a.tensors[i].data, again.tensors[i].data)
                assert not np.array_equal(a.tensors[i].data, b.tensors[i].data)
                rows = real.tensors[i].data[slice(*piece.channels)] if piece.channels else real.tensors[i].data
                assert np.abs(a.tensors[i].data - rows).max() <= 0.5001 * q.scale.max()
                together.setdefault(i, []).append(a.tensors[i].data)
    assert any(len(parts) > 1 for parts in together.values())
    monkeypatch.setattr(pieces, "CHANNELS", 1000)
    one, _ = drawn(graph, floats_of(graph), 2)
    for piece in one.pieces:  # a layer in parts is the layer
        part = one.part(piece)
        for i in {i for op in part.ops for i in op.inputs} & together.keys():
            np.testing.assert_array_equal(part.tensors[i].data, np.concatenate(together[i]))


def test_remainders_in_pieces(small):
    """What remainders make of the codes is the same whether it is told at once or piece by piece, biases included."""
    graph = quantize(classifier(), inputs_of(classifier())).graph
    near = remembered(graph, reconstruct(graph))
    parts = remembered_in(graph, floats_of(graph))
    assert near is not None
    assert parts is not None
    assert not parts.whole
    assert any(piece.channels for piece in parts.pieces)
    for piece in parts.pieces:
        part = parts.part(piece)
        for op, there in zip(part.ops, near.ops[piece.start : piece.stop], strict=True):
            for i, j in zip(op.inputs, there.inputs, strict=True):
                if i >= 0 and near.tensors[j].data is not None:
                    wanted = near.tensors[j].data
                    rows = wanted if piece.channels is None else wanted[slice(*piece.channels)]
                    np.testing.assert_array_equal(part.tensors[i].data, rows)
    assert remembered_in(without(graph), floats_of(without(graph))) is None
