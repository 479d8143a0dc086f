"""Calibration: histograms of a stream, samples cut to size, ranges of a model."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantize_models import Net, classifier, inputs_of, two_inputs

from edgeq import calibrate
from edgeq.calibrate import Keeper, Ranges, copied, spread
from edgeq.errors import InputError
from edgeq.feed import count, encode, feed, quantmod_of, stacked
from edgeq.graph import Quantization, Tensor
from edgeq.histogram import BINS, Histogram
from edgeq.quantize import quantize
from edgeq.quantmod import QuantMod
from edgeq.recipe import RECIPES
from edgeq.records import replace
from edgeq.samples import read_npy
from edgeq.tflite import write

numbers = st.floats(-(2.0**90), 2.0**90, width=32)


def of(*pieces) -> Histogram:
    h = Histogram()
    for p in pieces:
        h = h.add(np.asarray(p, np.float32))
    return h


# --- histograms ---------------------------------------------------------------------------------------------------------


@given(st.lists(numbers, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_histogram_of_a_stream_in_any_order(values, random):
    """However a stream is ordered and cut, its histogram is that of one pass over everything."""
    whole = of(values)
    shuffled = random.sample(values, len(values))
    cut = random.randint(0, len(values))
    for other in (
        of(shuffled[:cut], shuffled[cut:]),
        of(*([v] for v in shuffled)),
        of(values[:cut]).merge(of(values[cut:])),
    ):
        assert (other.minimum, other.maximum, other.width) == (whole.minimum, whole.maximum, whole.width)
        np.testing.assert_array_equal(other.counts, whole.counts)
    assert whole.size == len(values)


@given(st.lists(numbers, min_size=1, max_size=40))
def test_each_value_is_in_its_own_bin(values):
    """Bin i counts the values in [i·width, (i + 1)·width), exactly."""
    h = of(values)
    exact = np.float32(values).astype(np.float64)
    bins = np.floor(exact / h.width).astype(int) if h.width else np.zeros(len(values), int)
    np.testing.assert_array_equal(h.counts, np.bincount(bins + BINS, minlength=2 * BINS))
    assert h.width == 0 or np.log2(h.width) % 1 == 0


def test_bins_are_fine_enough():
    """At least a quarter of the bins on one side are in reach, so that 8 bits take four bins a step or more."""
    for top in (1.0, 1.0001, 1.9999, 3e-7, 7e20):
        h = of([top])
        assert BINS / 2 <= top / h.width < BINS


@pytest.mark.parametrize(
    ("values", "minmax"),
    [([], (0, 0)), ([0, 0], (0, 0)), ([2, 3], (0, 3)), ([-2, -1], (-2, 0)), ([-1, 5], (-1, 5))],
)
def test_minmax_holds_zero(values, minmax):
    """The extremes are widened to hold 0."""
    assert of(values).minmax() == minmax
    assert of(values).least_squares() == minmax or len(set(values)) > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_histogram_refuses(bad):
    """NaN and infinity have no bin."""
    with pytest.raises(InputError, match="finite"):
        of([1.0, bad])


STREAMS = {
    "normal": lambda rng: rng.normal(size=20_000),
    "long tails": lambda rng: rng.standard_t(3, 20_000),
    "one side longer": lambda rng: rng.gumbel(size=20_000),
    "one far value": lambda rng: np.append(rng.uniform(0, 1, 1_000_000), 1.6),
    "one side only": lambda rng: rng.normal(size=20_000) ** 2,
}


@pytest.mark.parametrize("name", STREAMS)
def test_least_squares_is_the_best_range(name):
    """The range errs no more than the extremes do, and about as little as the best of a grid of ranges."""
    x = STREAMS[name](np.random.default_rng(1)).astype(np.float32)
    h = of(x)

    def error(a, b):
        q = QuantMod.from_range(a, b)
        return float(((q.dequantize(q.quantize(x)) - x) ** 2).mean())

    lo, hi = h.minmax()
    grid = np.linspace(0.5, 1, 21)
    best = min(error(lo * f, hi * g) for f in (grid if lo else [1]) for g in grid)
    found = error(*h.least_squares())
    assert found <= 1.001 * error(lo, hi)
    assert found < 1.02 * best


def test_least_squares_clips_what_is_rare():
    """One far value among a million does not cost the others their precision."""
    h = of(STREAMS["one far value"](np.random.default_rng(1)))
    assert h.minmax()[1] > 1.5
    assert h.least_squares()[1] == pytest.approx(1.0, abs=0.02)


def test_least_squares_keeps_a_uniform_range():
    """Where every value matters alike, nothing is clipped away."""
    lo, hi = of(np.linspace(-3, 5, 20_000)).least_squares()
    assert lo == pytest.approx(-3, rel=0.02)
    assert hi == pytest.approx(5, rel=0.02)


def test_least_squares_symmetric():
    """A symmetric range has ends alike."""
    lo, hi = of(np.random.default_rng(0).normal(size=5000)).least_squares(symmetric=True)
    assert -lo == hi > 0


# --- samples ------------------------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_inputs():
    """Tuples, mappings and generators of samples, and arrays by name, become the same inputs."""
    graph = two_inputs()
    wanted = inputs_of(graph, 5)
    by_name = {n: np.concatenate([x[k] for x in wanted]) for k, n in enumerate(("vector", "image"))}
    sources = {
        "tuples": wanted,
        "generator": (x for x in wanted),
        "flat tuples": [(a.reshape(-1), b.reshape(-1)) for a, b in wanted],
        "mappings": [{"image": b, "vector": a} for a, b in wanted],
        "arrays by name": by_name,
        "batches of samples": [
            (by_name["vector"][:2], by_name["image"][:2]),
            (by_name["vector"][2:], by_name["image"][2:]),
        ],
    }
    for name, source in sources.items():
        found = list(feed(graph, source))
        assert len(found) == 5, name
        for x, y in zip(wanted, found, strict=True):
            for a, b in zip(x, y, strict=True):
                assert b.dtype == np.float32
                np.testing.assert_array_equal(a, b, err_msg=name)


def test_samples_by_either_name():
    """An input's samples are found under the signature's name and under the tensor's own."""
    graph = two_inputs()
    own = [graph.tensors[i].name for i in graph.inputs]
    assert not {"vector", "image"} & set(own)
    wanted = inputs_of(graph, 2)
    arrays = [np.concatenate([x[k] for x in wanted]) for k in range(2)]
    for names in (("vector", "image"), own, ("vector", own[1])):
        for x, y in zip(wanted, feed(graph, dict(zip(names, arrays, strict=True))), strict=True):
            for one, other in zip(x, y, strict=True):
                np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="expected samples for 'image', found 'vector', 'picture'"):
        next(feed(graph, {"vector": arrays[0], "picture": arrays[1]}))


def test_batches_of_the_model():
    """A model of batch size 2 takes two rows at a time and leaves out one that is left over."""
    graph = classifier(2)
    rows = np.arange(5 * 192, dtype=np.uint8).reshape(5, 8, 8, 3)
    found = list(feed(graph, rows))
    assert [x[0].shape for x in found] == [(2, 8, 8, 3)] * 2
    np.testing.assert_array_equal(np.concatenate([x[0] for x in found]), rows[:4].astype(np.float32))
    assert count(graph, rows) == 2


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (lambda g: np.zeros((7, 8, 8, 3)), 7),
        (lambda g: {"x": np.zeros((7, 8, 8, 3))}, 7),
        (lambda g: [np.zeros((1, 8, 8, 3))] * 3, 3),
        (lambda g: iter([]), None),
    ],
)
def test_count(samples, expected):
    """The number of inferences is known where it can be known beforehand."""
    assert count(classifier(), samples(None)) == expected


def test_codes_and_numbers_for_a_quantized_input():
    """Arrays of a quantized input's dtype are codes, all others numbers; both come out as numbers, and encode again."""
    net = Net((1, 4))
    graph = net.graph(net.dense(0, 2))
    tensor = Tensor("x", (1, 4), "int8", quantization=Quantization(np.float32([0.5]), np.array([3])))
    graph = graph.with_main(tensors=(tensor, *graph.tensors[1:]))
    codes = np.int8([[-128, 3, 4, 127]])
    numbers = np.float32([[-65.5, 0.0, 0.5, 62.0]])
    assert quantmod_of(tensor) == QuantMod.from_tflite(0.5, 3, "int8")
    for source in (codes, numbers, numbers.astype(np.float64)):
        (x,) = next(feed(graph, source))
        np.testing.assert_array_equal(x, numbers)
        np.testing.assert_array_equal(encode(graph, [x])[0], codes)


def test_a_float_for_an_index():
    """Floats are no indices."""
    graph = classifier()
    graph = graph.with_main(tensors=(Tensor("i", (1, 3), "int32"), *graph.tensors[1:]))
    assert next(feed(graph, np.ones((1, 3), np.int64)))[0].dtype == np.int32
    with pytest.raises(InputError, match="takes int32, got float64"):
        next(feed(graph, np.ones((1, 3))))


@given(st.integers(1, 5000))
@settings(max_examples=30)
def test_keeper_spreads_over_the_stream(n):
    """It keeps at most KEPT, evenly spaced, the first among them."""
    keeper = Keeper()
    x = np.zeros(1)
    for i in range(n):
        x[0] = i  # the array is the caller's, and reused
        keeper.keep((x,))
    kept = [int(x[0]) for (x,) in keeper.kept]
    assert min(n, calibrate.KEPT // 2) <= len(kept) <= calibrate.KEPT
    assert kept[0] == 0
    assert len({b - a for a, b in pairwise(kept)}) <= 1


def test_keeper_has_a_limit_in_bytes():
    """Large samples are kept up to so many bytes."""
    keeper = Keeper(nbytes=8000)
    assert sum(1 for _ in keeper.watch((np.zeros(100),) for _ in range(50))) == 50
    assert 5 <= len(keeper.kept) <= 10


def test_keeper_of_arrays_keeps_parts_of_them():
    """What does not change is not kept a second time."""
    x, keeper = np.zeros((9, 4), np.float32), Keeper(own=False)
    for row in x:
        keeper.keep((row,))
    assert all(np.shares_memory(kept, x) for (kept,) in keeper.kept)


def test_mapped_samples_are_given_back(tmp_path):
    """Mapped samples that were copied, or laid out behind one another, count as the process's no longer; their values stay."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("the system does not say what is mapped")

    def resident() -> int:
        return int(status.read_text().split("RssFile:")[1].split()[0])  # KiB

    values = np.arange(1 << 22, dtype=np.float32).reshape(64, -1)
    np.save(tmp_path / "x.npy", values)
    mapped = read_npy(str(tmp_path / "x.npy"))
    before = resident()
    np.testing.assert_array_equal(stacked([*mapped]), values)
    for row, wanted in zip(mapped, values, strict=True):
        np.testing.assert_array_equal(copied((row,))[0], wanted)
    assert resident() < before + 4096  # of 16 MiB
    assert stacked([np.float32(1), np.float32(2)]).tolist() == [1, 2]


LOCKED = """
import ctypes, sys
import numpy as np
from edgeq.feed import stacked
from edgeq.samples import read_npy
rows = [*read_npy(sys.argv[1])]
if ctypes.CDLL(None).mlockall(3):
    sys.exit(3)
assert stacked(rows).tolist() == [[0.0] * 4, [1.0] * 4]
"""


def test_a_process_that_locks_its_memory_takes_mapped_samples(tmp_path):
    """Pages that cannot be given back, as where all memory is locked, are no failure."""
    np.save(tmp_path / "x.npy", np.repeat(np.arange(2, dtype=np.float32), 4).reshape(2, 4))
    line = [sys.executable, "-c", LOCKED, str(tmp_path / "x.npy")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip("this process may not lock its memory")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("effort", ["fast", "full"])
def test_samples_of_a_file_are_those_of_an_array(tmp_path, effort):
    """The same bytes come of samples in a mapped file, in an array, and one by one."""
    graph = classifier()
    samples = np.concatenate([x[0] for x in inputs_of(graph, 70)])
    np.save(tmp_path / "x.npy", samples)
    recipe = replace(RECIPES["int8"], effort=effort)
    sources = (read_npy(str(tmp_path / "x.npy")), samples, [*samples])
    assert len({write(quantize(graph, source, recipe).graph) for source in sources}) == 1


# --- ranges of a model --------------------------------------------------------------------------------------------------


def test_ranges_of_a_model():
    """Every computed tensor has the extremes that it took."""
    graph = classifier()
    inputs = inputs_of(graph, 6)
    ranges = calibrate.calibrate(graph, inputs)
    assert isinstance(ranges, Ranges)
    assert ranges.samples == 6
    trace = calibrate.tracer(graph)
    seen = {}
    for x in inputs:
        for i, v in trace(x).items():
            lo, hi = seen.get(i, (0.0, 0.0))
            seen[i] = (min(lo, float(v.min())), max(hi, float(v.max())))
    computed = {i for i, t in enumerate(graph.tensors) if t.data is None and t.dtype == "float32"}
    assert set(ranges.histograms) == computed
    for i in computed:
        assert ranges.minmax(i) == seen[i]
        lo, hi = ranges.least_squares(i)
        assert seen[i][0] <= lo <= 0 <= hi <= seen[i][1]


def test_memory_does_not_grow_with_the_samples():
    """A hundred times the samples take the memory of a few."""
    graph = classifier()
    sample = inputs_of(graph, 1)[0]

    def peak(n):
        tracemalloc.start()
        calibrate.calibrate(graph, (sample for _ in range(n)))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(2)
    assert peak(400) < 1.2 * peak(40)


def test_extremes_to_be_expected():
    """The end of an exponential tail moves on by 2.6·σ in the mean; a hard bound and an end at zero stay."""
    rng = np.random.default_rng(0)
    streams = [of(rng.exponential(3.0, size=2000)) for _ in range(300)]
    beyond = [h.expected()[1] - h.maximum for h in streams]
    assert np.mean(beyond) / 3.0 == pytest.approx(sum(1 / k for k in range(1, 8)), rel=0.1)
    assert {h.expected()[0] for h in streams} == {0.0}
    assert of(np.clip(rng.normal(size=5000), -1, 1)).expected() == pytest.approx((-1, 1), abs=2e-3)
    assert of([0.0]).expected() == (0.0, 0.0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_what_is_spread_over_threads_keeps_its_order(count):
    """Results come in the order of the items whoever is done first; no more is taken from the source than is being worked on."""
    taken = []

    def items():
        for n in range(20):
            taken.append(n)
            yield n

    def slow(worker, n):
        time.sleep(0.002 * (n % 3))
        return worker, n

    found = []
    for worker, n in spread(count, items(), slow):
        assert 0 <= worker < count
        found.append(n)
        assert len(taken) <= n + 2 + count
    assert found == list(range(20))
    assert list(spread(count, [], slow)) == []


@pytest.mark.parametrize("count", [1, 3])
def test_what_fails_in_a_thread_is_raised(count):
    """An item that fails stops the rest, in its turn; and whoever stops asking leaves no threads behind."""

    def fails(worker, n):
        if n == 3:
            raise ValueError("the third")
        return n

    found, before = [], threading.active_count()
    with pytest.raises(ValueError, match="the third"):
        found.extend(spread(count, range(10), fails))
    assert found == [0, 1, 2]
    some = spread(count, range(10), lambda worker, n: n)
    assert next(some) == 0
    some.close()
    assert threading.active_count() == before
