"""`edgeq calibrate` into overlays, `edgeq run --drift` and `edgeq monitor`: on a sealed bundle, as a device does it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import os
import re
import shutil
import sys
import threading
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from faults import killed_at_every_call, killed_at_random

import edgeq
from edgeq import changes, checkpoint, keys, overlay
from edgeq.cli import main
from edgeq.errors import InputError, NoGrantError, OverlayDeviceError, OverlayModelError
from edgeq.opening import open_bytes
from edgeq.quantize import observation, statistics
from edgeq.quantize.observation import Budget, Observation
from edgeq.tflite import read

GRANTED = ["--grant", "g.eqg", "--identity", "device.key", "--trust", "publisher.pub"]
ACCESS = {"grant": "g.eqg", "identity": "device.key", "trust": "publisher.pub"}
GAIN = 3.0


@pytest.fixture(scope="module")
def laid_out(demo_folder, tmp_path_factory):
    """The demo's files, a bundle that carries its teacher with a grant for load and calibrate, and brighter samples."""
    folder = tmp_path_factory.mktemp("calibrate") / "here"
    shutil.copytree(demo_folder, folder)
    before = os.getcwd()
    os.chdir(folder)
    try:
        seal = ["seal", "digits_int8.tflite", "--key", "publisher.key", "--model-id", "a/digits", "--version", "1"]
        assert main([*seal, "--teacher", "digits.tflite", "-o", "d.eqb"]) == 0
        grant = ["grant", "d.eqb", "--key", "publisher.key", "--to", "device.pub", "--allow", "load,calibrate"]
        assert main([*grant, "-o", "g.eqg"]) == 0
        for name in ("calibration", "held_out"):
            with np.load(f"{name}.npz") as arrays:
                bright = {"x": GAIN * arrays["x"]} | ({"y": arrays["y"]} if "y" in arrays else {})
                np.savez(f"bright_{name}.npz", **bright)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(laid_out, tmp_path, monkeypatch):
    """A copy of it to work in."""
    shutil.copytree(laid_out, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


CALIBRATE = ["calibrate", "d.eqb", "-d", "bright_calibration.npz", "-o", "o.eqo", *GRANTED]


def noise(model) -> float:
    """Noise per signal against the float model on bright samples it was not calibrated on."""
    x = np.load("bright_held_out.npz")["x"]
    with edgeq.load("digits.tflite") as real:
        wanted = real(x)
    found = model(x, dequantize=True)
    return float(((found - wanted) ** 2).sum() / (wanted**2).sum())


def test_an_overlay_recovers_what_a_shift_cost(here, capsys) -> None:
    """Calibrated on brighter samples, the sealed model comes much closer to the float model; the bundle stays as it was."""
    sealed = (here / "d.eqb").read_bytes()
    assert main(CALIBRATE) == 0
    assert "no weights" in capsys.readouterr().out
    assert (here / "d.eqb").read_bytes() == sealed
    with edgeq.load("d.eqb", **ACCESS) as before, edgeq.load("d.eqb", overlay="o.eqo", **ACCESS) as after:
        assert noise(after) < 0.5 * noise(before)
    assert not (here / "o.eqo.part").exists()


def test_the_tflite_and_the_overlay_say_the_same(here) -> None:
    """A plain .tflite from the same samples and remainders computes what the overlaid bundle computes."""
    assert main(CALIBRATE) == 0
    assert main(["calibrate", "digits_int8.tflite", "-d", "bright_calibration.npz", "-o", "tuned.tflite"]) == 0
    x = np.load("bright_held_out.npz")["x"][:50]
    with edgeq.load("tuned.tflite") as plain, edgeq.load("d.eqb", overlay="o.eqo", **ACCESS) as overlaid:
        np.testing.assert_array_equal(plain(x), overlaid(x))


def test_commands_take_overlays(here, capsys) -> None:
    """`eval` with --overlay measures the overlaid model."""
    assert main(CALIBRATE) == 0
    figures = []
    for extra in ([], ["--overlay", "o.eqo"]):
        capsys.readouterr()
        assert main(["eval", "d.eqb", "-d", "bright_held_out.npz", *GRANTED, *extra]) == 0
        figures.append(float(re.search(r"top-1 accuracy +([0-9.]+)", capsys.readouterr().out)[1]))
    assert figures[1] > figures[0]


def test_whom_and_what_an_overlay_is_for(here) -> None:
    """Another device, another version of the model and nobody at all cannot use it."""
    assert main(CALIBRATE) == 0
    data = (here / "o.eqo").read_bytes()
    with pytest.raises(NoGrantError):
        edgeq.load("digits_int8.tflite", overlay="o.eqo")
    with pytest.raises(OverlayModelError, match="calibrate this one instead"):
        edgeq.load("digits_int8.tflite", overlay="o.eqo", identity="device.key")
    with pytest.raises(OverlayDeviceError):
        edgeq.load("digits_int8.tflite", overlay=data, identity="other.key")


def test_grants_decide(here, capsys) -> None:
    """Without `calibrate` in the grant there is no overlay; with it, but without `export`, no plain model."""
    grant = ["grant", "d.eqb", "--key", "publisher.key", "--to", "device.pub", "--allow", "load", "-o", "load.eqg"]
    assert main(grant) == 0
    assert main([*CALIBRATE, "--grant", "load.eqg"]) == 1
    assert "not calibrate" in capsys.readouterr().err
    assert main([*CALIBRATE, "-o", "plain.tflite"]) == 1
    assert "not export" in capsys.readouterr().err
    assert not (here / "o.eqo").exists()
    assert not (here / "plain.tflite").exists()


def test_what_is_not_better_is_not_kept(here, capsys) -> None:
    """A second run on the same samples leaves the overlay as it is; so do samples that it fits already."""
    assert main(CALIBRATE) == 0
    first = (here / "o.eqo").read_bytes()
    assert main(CALIBRATE) == 0
    assert "o.eqo was left as it was" in capsys.readouterr().err
    assert (here / "o.eqo").read_bytes() == first


def test_labels_guard(here) -> None:
    """With labels that only the old model gets right, nothing new is kept; without them it is."""
    with edgeq.load("d.eqb", **ACCESS) as model:
        x = np.load("bright_calibration.npz")["x"]
        y = model(x).reshape(len(x), -1).argmax(1)
    np.savez("labelled.npz", x=x, y=y)
    np.savez("unlabelled.npz", x=x)
    assert main([*CALIBRATE, "-d", "labelled.npz"]) == 0
    assert not (here / "o.eqo").exists()
    assert main([*CALIBRATE, "-d", "unlabelled.npz"]) == 0
    assert (here / "o.eqo").exists()


@pytest.mark.parametrize("wrong", [10, -2])
def test_labels_of_no_class_are_refused(here, capsys, wrong) -> None:
    """A label that no class of the model has is an error, told with the classes, before anything is looked at."""
    x = np.load("bright_calibration.npz")["x"]
    np.savez("labelled.npz", x=x, y=np.r_[np.zeros(len(x) - 1, int), wrong])
    assert main([*CALIBRATE, "-d", "labelled.npz"]) == 1
    found = f"found [{min(wrong, 0)}, {max(wrong, 0)}]"
    assert f"edgeq: error: labels must be in [0, 9], or −1 for none, {found}\n" in capsys.readouterr().err
    assert not (here / "o.eqo").exists()


def test_rollback(here, capsys) -> None:
    """Rolling back puts the overlay before in place, then none; then there is nothing to roll back."""
    assert main(CALIBRATE) == 0
    first = (here / "o.eqo").read_bytes()
    assert main([*CALIBRATE, "-d", "calibration.npz"]) == 0
    assert (here / "o.eqo").read_bytes() != first
    assert (here / "o.eqo.previous").read_bytes() == first
    back = ["calibrate", "d.eqb", "-o", "o.eqo", "--rollback"]
    assert main(back) == 0
    assert (here / "o.eqo").read_bytes() == first
    assert main(back) == 0
    assert not (here / "o.eqo").exists()
    assert main(back) == 1
    assert "there is no such overlay to roll back" in capsys.readouterr().err


def test_frames_of_codes_are_named(here, monkeypatch, capsys) -> None:
    """Where nobody says what frames hold, they are the model's codes, and that is said: a camera's bytes would fit as well."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert main([*CALIBRATE, "-d", "-"]) == 1
    assert "frames on standard input are read as int8, the model's own codes; --raw uint8" in capsys.readouterr().err


def test_frames_from_a_pipe(here, monkeypatch, capsys) -> None:
    """Raw frames on standard input calibrate as the same samples in a file do, up to the samples that are kept."""
    x = np.load("bright_calibration.npz")["x"].astype("<f4")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(x.tobytes())))
    assert main([*CALIBRATE, "-d", "-", "--raw", "float32"]) == 0
    assert "frames on standard input" not in capsys.readouterr().err
    with edgeq.load("d.eqb", **ACCESS) as before, edgeq.load("d.eqb", overlay="o.eqo", **ACCESS) as after:
        assert noise(after) < 0.5 * noise(before)


# --- interruptions ----------------------------------------------------------------------------------------------------


def overlay_is_whole() -> None:
    """Whatever overlay is there, this device opens it."""
    if os.path.exists("o.eqo"):
        base = open_bytes("d.eqb", grant="g.eqg", identity="device.key", trust="publisher.pub").base
        with open("o.eqo", "rb") as file:
            found = overlay.open_for(file.read(), keys.load_device("device.key"), base)
        changes.apply(read(open_bytes("d.eqb", **ACCESS).data), changes.from_bytes(found.content))


def test_killed_anywhere(here, monkeypatch) -> None:
    """Killed at each disk call or at random moments, a calibration leaves the deployed overlay whole, and works afterwards."""
    from edgeq import checkpoint

    monkeypatch.setattr(checkpoint, "EVERY", 0.02)
    quick = [*CALIBRATE, "--samples", "24"]
    assert main(quick) == 0

    def work() -> None:
        if os.path.exists("o.eqo"):
            os.unlink("o.eqo")
        assert main(quick) == 0

    assert killed_at_every_call(work, lambda _: overlay_is_whole()) >= 3
    killed_at_random(work, overlay_is_whole, 5)
    work()
    overlay_is_whole()
    assert not os.path.exists("o.eqo.part")


def test_an_interrupted_run_goes_on(here, capsys, monkeypatch) -> None:
    """What was looked at before an interruption is not looked at again, and the result is that of a run in one go."""
    from edgeq import checkpoint

    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    monkeypatch.setattr("os.urandom", lambda n: bytes(n))
    assert main(CALIBRATE) == 0
    whole = (here / "o.eqo").read_bytes()
    (here / "o.eqo").unlink()
    looked, seen = observation._looked, []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) > 3:
            raise KeyboardInterrupt
        return looked(*arguments)

    with monkeypatch.context() as m:
        m.setattr(observation, "_looked", interrupted)
        assert main(CALIBRATE) == 130
    part = (here / "o.eqo.part").read_bytes()
    samples = np.load("bright_calibration.npz")["x"]
    assert samples[0].tobytes()[100:140] not in part
    capsys.readouterr()
    assert main(CALIBRATE) == 0
    assert re.search(r"went on after 48 samples", capsys.readouterr().err)
    key = keys.load_device("device.key")
    base = open_bytes("d.eqb", **ACCESS).base
    contents = [overlay.open_for(data, key, base).content for data in (whole, (here / "o.eqo").read_bytes())]
    assert contents[0] == contents[1]
    assert not (here / "o.eqo.part").exists()


def test_other_samples_do_not_go_on(here, monkeypatch, capsys) -> None:
    """A checkpoint is of the samples that lay there then: where others have come under their name, all are looked at."""
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr("edgeq.quantize.retune._chosen", interrupted)
        assert main(CALIBRATE) == 130
    assert (here / "o.eqo.part").exists()
    shutil.copy("calibration.npz", "bright_calibration.npz")
    capsys.readouterr()
    assert main(CALIBRATE) == 0
    assert "went on" not in capsys.readouterr().err


def test_another_choice_of_samples_does_not_go_on(here, monkeypatch, capsys) -> None:
    """Of a large model 512 that are asked for are not those few that are looked at unasked: neither goes on with the other."""

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    with monkeypatch.context() as m:
        m.setattr("edgeq.quantize.retune._chosen", interrupted)
        m.setattr(observation.Budget, "most", lambda self, graph: 512 if self.values == math.inf else 24)
        assert main(CALIBRATE) == 130
    assert main([*CALIBRATE, "--samples", "512"]) == 0
    assert "went on" not in capsys.readouterr().err


def test_what_a_power_cut_left_goes(here) -> None:
    """A file that somebody died over while writing goes at the end of a later run; one that may be being written stays."""
    for name, age in (("old", 3600), ("new", 0)):
        left = here / f".edgeq-{name.encode().hex():0>16}.tmp"
        left.write_bytes(b"half")
        os.utime(left, (time.time() - age,) * 2)
    assert main(CALIBRATE) == 0
    assert [p.name for p in here.glob(".edgeq-*")] == [f".edgeq-{b'new'.hex():0>16}.tmp"]


def test_nowhere_to_write_is_said_first(here, capsys) -> None:
    """A folder that is not there is found out before samples are looked at, for the result and for statistics."""
    line = ["calibrate", "digits_int8.tflite", "-d", "none.npz", "-o"]
    assert main([*line, "none/o.tflite"]) == 1
    assert "none/o.tflite: cannot be written" in capsys.readouterr().err
    assert main([*line, "o.tflite", "--epsilon", "1", "--statistics", "none/s.json"]) == 1
    assert "none/s.json: cannot be written" in capsys.readouterr().err


def test_pixels_that_nobody_mapped(here, capsys) -> None:
    """Pictures hold 0 to 255; a model trained on 0 to 1 is not given them without a word."""
    from PIL import Image

    (here / "pictures").mkdir()
    for n, x in enumerate(np.load("calibration.npz")["x"][:8]):
        Image.fromarray((255 * x[..., 0]).astype(np.uint8)).save(here / "pictures" / f"{n}.png")
    line = ["calibrate", "digits_int8.tflite", "-d", "pictures", "-o", "o.tflite"]
    assert main(line) == 0
    assert "samples reach from 0 to 255, input 'image' takes 0 to 1: --span LOW HIGH" in capsys.readouterr().err
    assert main([*line, "--span", "0", "1"]) == 0
    assert "--span" not in capsys.readouterr().err


def test_another_device_cannot_go_on(here) -> None:
    """A checkpoint of another device, model or kind of run is not used."""
    from edgeq.checkpoint import Checkpoint

    mine, other = keys.load_device("device.key"), keys.load_device("other.key")
    Checkpoint("o.eqo", mine, b"this").write(b"samples")
    assert Checkpoint("o.eqo", mine, b"this").read() == b"samples"
    assert Checkpoint("o.eqo", other, b"this").read() is None
    assert Checkpoint("o.eqo", mine, b"that").read() is None
    assert b"samples" not in (here / "o.eqo.part").read_bytes()
    (here / "o.eqo.part").write_bytes(b"edgeq-checkpoint-1\nshort")
    assert Checkpoint("o.eqo", mine, b"this").read() is None


def test_observations_go_through_bytes() -> None:
    """An observation comes back from its bytes as it was."""
    rng = np.random.default_rng(0)
    seen = Observation()
    kept = seen.judge
    for n in range(40):
        kept = kept.shown_one((rng.normal(size=(1, 3)).astype(np.float32), np.array([n])), n, 10_000)
    histogram = observation.Histogram().add(rng.normal(size=1000))
    seen = Observation(40, {3: histogram}, kept, Observation().derive)
    again = observation.from_bytes(observation.to_bytes(seen))
    assert (again.consumed, again.judge.labels, again.judge.step) == (40, kept.labels, kept.step)
    np.testing.assert_array_equal(again.histograms[3].counts, histogram.counts)
    for a, b in zip(again.judge.inputs, kept.inputs, strict=True):
        np.testing.assert_array_equal(a[0], b[0])


def test_budgets_are_checked(here, capsys) -> None:
    """Too few samples to judge by are refused, and a short time still looks at enough of them."""
    assert main([*CALIBRATE, "--samples", "3"]) == 1
    assert "samples must be at least 4" in capsys.readouterr().err
    assert main([*CALIBRATE, "--minutes", "0.0000001"]) == 0
    assert Budget(0).samples == 0


# --- watching ---------------------------------------------------------------------------------------------------------


def test_run_says_drift(here, capsys) -> None:
    """`run --drift` on samples like those it was calibrated on says steady, on others recalibrate."""
    assert main(CALIBRATE) == 0
    for name, status in (("bright_held_out", "steady"), ("held_out", "recalibrate")):
        capsys.readouterr()
        line = ["run", "d.eqb", "-i", f"{name}.npz", "-o", "out.npz", "--drift", "--overlay", "o.eqo", *GRANTED]
        assert main(line) == 0
        assert re.search(rf"^drift +{status}$", capsys.readouterr().out, re.MULTILINE)


def test_monitor_runs_under_an_overlay(here, capsys) -> None:
    """`monitor --overlay` watches the calibrated model: its baseline is the overlay's, and its scores the changed scales'."""
    assert main(CALIBRATE) == 0
    found = {}
    for name in ("bright_held_out", "held_out"):
        capsys.readouterr()
        assert main(["monitor", "d.eqb", "-i", f"{name}.npz", "--every", "1", "--overlay", "o.eqo", *GRANTED]) == 0
        found[name] = capsys.readouterr().out
    assert re.search(r"^drift +steady$", found["bright_held_out"], re.MULTILINE)
    assert re.search(r"^drift +recalibrate$", found["held_out"], re.MULTILINE)
    capsys.readouterr()
    assert main(["monitor", "d.eqb", "-i", "held_out.npz", "--overlay", "g.eqg", *GRANTED]) == 1
    assert "overlay: expected payloadType" in capsys.readouterr().err


def test_monitor_serves_metrics(here, capsys) -> None:
    """While it runs, the monitor serves its figures on the loopback address, in Prometheus' text format, and nothing else."""
    line = [
        "monitor",
        "digits_int8.tflite",
        "-i",
        "held_out.npz",
        "--repeat",
        "1000",
        "--seconds",
        "4",
        "--prometheus",
        "0",
    ]
    worker = threading.Thread(target=main, args=(line,))
    worker.start()
    try:
        address = None
        for _ in range(200):
            address = address or re.search(r"http://127\.0\.0\.1:[0-9]+", capsys.readouterr().err)
            if address:
                break
            time.sleep(0.05)
        time.sleep(0.5)
        body = urllib.request.urlopen(f"{address[0]}/metrics", timeout=5).read().decode()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{address[0]}/", timeout=5)
    finally:
        worker.join()
    for line in body.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) edgeq_.*|edgeq_[a-z_]+(\{[a-z]+="[^"]*"\})? [0-9.e+-]+', line), line
    assert float(re.search(r"^edgeq_latency_seconds_count ([0-9]+)", body, re.MULTILINE)[1]) > 0
    assert 'edgeq_beyond_ratio{tensor="' in body
    assert "drift" in capsys.readouterr().out


def test_ctrl_c_ends_with_a_summary(here, monkeypatch, capsys) -> None:
    """Most watching ends by Ctrl-C: what was seen until then is said all the same."""
    (here / "s.py").write_text(
        "import numpy as np\ndef gen():\n    yield from np.load('held_out.npz')['x'][:50]\n    raise KeyboardInterrupt\n"
    )
    assert main(["monitor", "digits_int8.tflite", "-i", "s.py:gen"]) == 130
    out, err = capsys.readouterr()
    assert re.search(r"^inferences +50$", out, re.MULTILINE)
    assert err == "edgeq: interrupted\n"


def test_terminals_without_rich(here, monkeypatch, capsys) -> None:
    """A device's wheel brings no rich: on a terminal there progress and the monitor are a line that is written anew."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("edgeq.cli.show.find_spec", lambda name: None)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, terminal)
    line = ["monitor", "digits_int8.tflite", "-i", "bright_held_out.npz", "--rate", "500"]
    assert main([*line, "--seconds", "0.6", "--every", "1"]) == 0
    lines = re.split("[\r\n]", terminal.getvalue())
    assert any(re.match(r"learning  [0-9]+ inferences  p50 .*image [0-9.]+% beyond", text) for text in lines)
    assert main(CALIBRATE) == 0
    assert "\rcalibrating  1/100" in terminal.getvalue()


def test_tensors_of_the_same_name_are_series_apart() -> None:
    """Prometheus refuses two series alike: names that a file has given twice are counted."""
    from edgeq.cli.monitor import Seen, metrics
    from edgeq.drift import DriftReport, TensorDrift

    twice = (TensorDrift("a", 0.1, None, 1.0), TensorDrift("a", 0.2, None, 1.0))
    text = metrics(Seen(), DriftReport("steady", 1, 1, 0, 0.0, 1.0, 1, None, twice))
    assert 'edgeq_beyond_ratio{tensor="a"} 0.1' in text
    assert 'edgeq_beyond_ratio{tensor="a #2"} 0.2' in text


def test_the_view_draws(here) -> None:
    """The live view shows the state, latency, tensors and the greatest outputs."""
    from rich.console import Console

    from edgeq.cli.monitor import Seen, view
    from edgeq.drift import watch

    seen = Seen()
    with watch(read((here / "digits_int8.tflite").read_bytes()), every=1) as model:
        for x in np.load("held_out.npz")["x"][:20]:
            start = time.perf_counter()
            seen.outputs = {"probabilities": model(x[None], dequantize=True)}
            seen.latencies.append(time.perf_counter() - start)
            seen.inferences += 1
        out = io.StringIO()
        Console(file=out, width=100).print(view(seen, model.drift()))
    text = out.getvalue()
    for word in ("learning", "p99", "20 inferences", "beyond its codes", "probabilities", "["):
        assert word in text


# --- what leaves the device -------------------------------------------------------------------------------------------


def test_outcomes_are_in_the_audit_log(here, capsys) -> None:
    """With a state, each outcome is written down with the overlay that holds from then on, and the log verifies."""
    state = ["--identity", "device.key", "--state", "state"]
    assert main(["device", "init", *state]) == 0
    logged = [*CALIBRATE, "--state", "state"]
    assert main(logged) == 0
    made = hashlib.sha256((here / "o.eqo").read_bytes()).hexdigest()
    assert main(logged) == 0  # nothing better is found
    assert main(["calibrate", "d.eqb", "-o", "o.eqo", "--rollback", *state]) == 0
    assert main(["audit", "verify", *state]) == 0
    lines = [json.loads(line) for path in sorted((here / "state").glob("audit-*")) for line in path.open()]
    found = [(e["outcome"], e["overlay_sha256"]) for e in lines if e["event"] == "calibrate"]
    assert found == [("accepted", made), ("refused", made), ("rollback", None)]
    capsys.readouterr()
    assert main(["audit", "show", "--state", "state"]) == 0
    assert f"accepted, overlay {made[:16]}…" in capsys.readouterr().out


def test_masked_statistics_add_up(here) -> None:
    """Two devices' statistics, masked for an owner, unmask to the sum of their counts: two for each sample and tensor."""
    assert main(["keys", "new", "device", "owner"]) == 0
    for name in ("calibration", "bright_calibration"):
        line = ["calibrate", "digits_int8.tflite", "-d", f"{name}.npz", "-o", "plain.tflite", "--samples", "64"]
        assert main([*line, "--statistics", f"{name}.eqm", "--statistics-for", "owner.pub"]) == 0
    assert main(["unmask", "calibration.eqm", "--identity", "owner.key", "-o", "one.npy"]) == 0
    assert main(["sum", "calibration.eqm", "bright_calibration.eqm", "-o", "sum.eqm"]) == 0
    assert main(["unmask", "sum.eqm", "--identity", "owner.key", "-o", "sum.npy"]) == 0
    one, both = np.load("one.npy"), np.load("sum.npy")
    graph = read((here / "digits_int8.tflite").read_bytes())
    assert one.shape == (len(statistics.reaches(graph, []).tensors), statistics.BINS)
    assert (one.sum(axis=1) == 2 * 64).all()
    assert (both.sum(axis=1) == 4 * 64).all()
    other = both - one
    assert other.min() >= 0
    assert (other @ np.arange(64))[0] > (one @ np.arange(64))[0]  # brighter samples reach further


def test_private_statistics(here, capsys) -> None:
    """With --epsilon the counts have noise of the stated scale: twice the tensors over ε, unbiased; the file says so."""
    pytest.importorskip("opendp")
    line = ["calibrate", "d.eqb", "-d", "bright_calibration.npz", "-o", "o.eqo", "--samples", "64", *GRANTED]
    assert main([*line, "--statistics", "s.json", "--epsilon", "2"]) == 0
    said = json.loads((here / "s.json").read_text())
    tensors = len(said["tensors"])
    assert said["epsilon"] == "2"
    assert said["sensitivity_l1"] == 2 * tensors
    assert float(said["scale"]) == pytest.approx(tensors)
    assert "sensitivity" in capsys.readouterr().out
    graph = read((here / "digits_int8.tflite").read_bytes())
    empty = statistics.Statistics(tuple(said["tensors"]), np.zeros((tensors, statistics.BINS), np.int64), 0)
    noise = np.concatenate([statistics.with_noise(empty, 2.0) for _ in range(20)])
    assert np.abs(noise).mean() == pytest.approx(tensors, rel=0.15)
    assert abs(noise.mean()) < 0.2 * tensors
    with pytest.raises(InputError, match="epsilon is 0, expected more than 0"):
        statistics.with_noise(statistics.reaches(graph, []), 0.0)


def test_statistics_leave_protected_or_not_at_all(here, capsys, monkeypatch) -> None:
    """Without an owner or ε there are none; without OpenDP one line says what to install; no file is written."""
    assert main([*CALIBRATE, "--statistics", "s.json"]) != 0
    assert "masked (--statistics-for) or with noise (--epsilon)" in capsys.readouterr().err
    absent = ["calibrate", "d.eqb", "-d", "none.npz", "-o", "o.eqo", *GRANTED, "--statistics", "s.json"]  # not come to
    for extra, says in (
        (["--epsilon", "0"], "epsilon is 0, expected more than 0"),
        (["--epsilon", "5e-324"], "expected more than 0, from 1e-06"),
        (["--statistics-for", "no.pub"], "no.pub: there is no such file"),
    ):
        assert main([*absent, *extra]) == 1
        assert says in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "opendp.prelude", None)
    assert main([*CALIBRATE, "--statistics", "s.json", "--epsilon", "1"]) == 1
    assert capsys.readouterr().err.strip().endswith("differential privacy needs OpenDP (pip install 'edgeq[dp]')")
    assert not (here / "s.json").exists()


def test_nothing_plain_is_written(here, capsys, monkeypatch) -> None:
    """No sample, scale or bias is in anything that a calibration writes, interrupted or whole: checkpoints, overlays, statistics,
    audit log, temporary folder, terminal; and no core would be written."""
    resource = pytest.importorskip("resource")
    cores = resource.getrlimit(resource.RLIMIT_CORE)
    np.savez("dark.npz", x=np.load("bright_calibration.npz")["x"] / 10)
    assert main(["device", "init", "--identity", "device.key", "--state", "state"]) == 0
    (here / "temporary").mkdir()
    given = {path.name for path in here.iterdir()} - {"state", "temporary"}
    monkeypatch.setenv("TMPDIR", str(here / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    written: list[bytes] = []  # whatever gets a name, even where the file is gone by the end
    renamed = os.replace

    def replaced(source, *rest, **options) -> None:
        with open(source, "rb") as file:
            written.append(file.read())
        renamed(source, *rest, **options)

    monkeypatch.setattr("os.replace", replaced)
    looked, seen = observation._looked, []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return looked(*arguments)

    monkeypatch.setattr(observation, "_looked", interrupted)
    shared = ["--statistics", "s.eqm", "--statistics-for", "device.pub"]
    line = [*CALIBRATE, "--samples", "64", "--state", "state"]
    assert main([*line, *shared]) == 130
    assert (here / "o.eqo.part").exists()
    made = []
    for data in ("bright_calibration.npz", "dark.npz"):  # the second is another outcome beside the one before
        written.extend(files_below(here, given))
        assert main([*line, *shared, "-d", data]) == 0
        made.append(changes.from_bytes(opened_content(here)))
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    resource.setrlimit(resource.RLIMIT_CORE, cores)
    written.extend(files_below(here, given))
    assert len(written) >= 12
    assert not list(here.glob("*.part"))
    assert (here / "o.eqo.previous").exists()
    secrets = []
    for one in made:
        for array in (np.array([s for s, _ in one.tensors.values()]), *(c.codes for c in one.constants.values())):
            secrets += [
                np.ascontiguousarray(array.astype(t)).tobytes()[:16] for t in (np.float32, np.float64, np.int32)
            ]
        inner = [s for i, (s, _) in one.tensors.items() if i not in read(open_bytes("d.eqb", **ACCESS).data).inputs]
        secrets += [f"{s:.6g}".encode() for s in inner if len(f"{s:.6g}") > 7]
    for data in ("bright_calibration.npz", "dark.npz"):
        rows = np.load(data)["x"].reshape(-1, 8)[:1024]  # eight pixels of a sample each
        secrets += [r.astype(t).tobytes() for t in (np.float32, np.float64) for r in rows if np.count_nonzero(r) > 3]
    secrets = [s for s in secrets if np.count_nonzero(np.frombuffer(s, np.uint8)) > 5]
    assert len(secrets) > 200
    everything = b"\0".join([*written, "".join(capsys.readouterr()).encode()])
    for secret in secrets:
        assert secret not in everything
        assert base64.b64encode(secret)[:-4] not in everything
        assert secret.hex().encode() not in everything


def files_below(folder, but: set[str]) -> list[bytes]:
    return [p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] not in but]


def opened_content(here) -> bytes:
    base = open_bytes("d.eqb", **ACCESS).base
    return overlay.open_for((here / "o.eqo").read_bytes(), keys.load_device("device.key"), base).content
