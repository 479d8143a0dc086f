"""Local samples: folders, pipes, functions and files, and what is wrong with them."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest
from engine_models import activation, conv
from quantize_models import two_inputs

from edgeq import intake
from edgeq.errors import InputError
from edgeq.feed import feed
from edgeq.graph import Graph, SubGraph, Tensor

PICTURE = Graph((SubGraph((Tensor("x", (1, 4, 6, 3), "float32"),), (), (0,), (0,)),))
SOUND = Graph((SubGraph((activation("x", (1, 100), "int8", 0.01, 3),), (), (0,), (0,)),))


def taken(where, graph, **options) -> list[tuple[np.ndarray, ...]]:
    return list(feed(graph, intake.take(str(where), graph, **options).samples))


def wav(path: Path, values: np.ndarray, width: int) -> None:
    """(frames, channels) numbers in [−1, 1) as PCM of that many bytes."""
    codes = np.round(values * (1 << (8 * width - 1))).astype(np.int64)
    if width == 1:
        codes += 128
    raw = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in codes.reshape(-1))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(values.shape[1])
        out.setsampwidth(width)
        out.setframerate(16000)
        out.writeframes(raw)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_sound(tmp_path, width) -> None:
    """Every width of PCM becomes the mean of its channels in [−1, 1), cut into as many inputs as fit."""
    rng = np.random.default_rng(width)
    values = np.round(rng.uniform(-1, 1, (250, 2)) * 127) / 128
    wav(tmp_path / "a.wav", values, width)
    found = taken(tmp_path, SOUND)
    assert len(found) == 2
    np.testing.assert_allclose(np.concatenate([x.reshape(-1) for (x,) in found]), values.mean(1)[:200], atol=1e-6)


def test_sound_through_a_function(tmp_path) -> None:
    """A preprocessing function gets each file's sound whole, and its result is the sample."""
    wav(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 300)[:, None], 2)
    (tmp_path / "f.py").write_text("def half(x):\n    return (x[:100].reshape(1, 100) * 2,)\n")
    ((x,),) = taken(tmp_path, SOUND, preprocess=f"{tmp_path}/f.py:half")
    np.testing.assert_allclose(x.reshape(-1)[:3], 2 * np.linspace(-0.5, 0.5, 300)[:3], atol=1e-4)


def test_sound_where_features_are_expected(tmp_path) -> None:
    """A model whose input is no waveform takes sound through a function alone: cut up it would be calibrated on noise."""
    wav(tmp_path / "a.wav", np.zeros((4000, 1)), 2)
    with pytest.raises(InputError, match=r"takes no plain sound: .* expected \(--preprocess FILE.py:f\)"):
        taken(tmp_path, conv("int8"))


def test_images_and_labels(tmp_path) -> None:
    """Images are squeezed to the input's size, mapped as asked; folders of numbers are labels."""
    from PIL import Image

    for label, shade in ((3, 10), (7, 250)):
        (tmp_path / str(label)).mkdir()
        Image.new("RGB", (12, 8), (shade, shade, shade)).save(tmp_path / str(label) / "a.png")
    local = intake.take(str(tmp_path), PICTURE, span=(0.0, 1.0))
    assert local.labels.tolist() == [3, 7]
    found = list(feed(PICTURE, local.samples))
    assert [x.shape for (x,) in found] == [(1, 4, 6, 3)] * 2
    np.testing.assert_allclose([x.mean() for (x,) in found], [10 / 255, 250 / 255], atol=1e-6)


def test_arrays_in_a_folder(tmp_path) -> None:
    """.npy files are one sample each, in the order of their names."""
    for n in (2, 1, 3):
        np.save(tmp_path / f"{n}.npy", np.full((1, 100), n, np.float32))
    assert [float(x[0, 0]) for (x,) in taken(tmp_path, SOUND)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("raw", [None, "float32", "int16"])
def test_frames_on_standard_input(raw) -> None:
    """Raw frames are read one after another, in the model's dtype or the one that is named."""
    dtype = np.dtype(raw or "int8")
    frames = np.arange(300).reshape(3, 1, 100).astype(dtype) % 50
    found = taken("-", SOUND, raw=raw, stdin=io.BytesIO(frames.tobytes()))
    assert len(found) == 3
    expected = frames.astype(np.float32) if raw else (frames.astype(np.float32) - 3) * np.float32(0.01)
    np.testing.assert_allclose([x for (x,) in found], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("raw", "values", "expected"),
    [("uint8", [0, 51, 255], [-1.0, -0.6, 1.0]), ("int16", [-32768, 0, 16384], [-1.0, 0.0, 0.5])],
)
def test_frames_of_pixels_and_of_sound_are_mapped(raw, values, expected) -> None:
    """With a span pixels' 0 to 255, or sound's 16 bits, in raw frames are mapped onto it, as those of files are."""
    frame = np.resize(np.array(values, raw), 100)
    ((x,),) = taken("-", SOUND, raw=raw, span=(-1.0, 1.0), stdin=io.BytesIO(frame.tobytes()))
    np.testing.assert_allclose(x.reshape(-1), np.resize(expected, 100), atol=1e-6)
    assert x.dtype == np.float32


def test_two_inputs_on_standard_input() -> None:
    """A frame holds all inputs, in their order."""
    graph = two_inputs()
    sizes = [graph.tensors[i].size for i in graph.inputs]
    data = np.arange(2 * sum(sizes), dtype=np.float32)
    found = taken("-", graph, stdin=io.BytesIO(data.tobytes()))
    assert len(found) == 2
    np.testing.assert_array_equal(found[1][1].reshape(-1), data[sum(sizes) + sizes[0] :])


def test_a_function_of_the_users(tmp_path) -> None:
    """FILE.py:name gives samples one by one."""
    (tmp_path / "s.py").write_text(
        "import numpy as np\ndef gen():\n    for n in range(3):\n        yield np.full((1, 100), n, np.float32)\n"
    )
    assert [float(x[0, 0]) for (x,) in taken(f"{tmp_path}/s.py:gen", SOUND)] == [0.0, 1.0, 2.0]


def test_files(tmp_path) -> None:
    """NPZ with labels, and NPY, are taken as they are."""
    x = np.zeros((5, 100), np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(5))
    np.save(tmp_path / "a.npy", x)
    local = intake.take(str(tmp_path / "a.npz"), SOUND)
    assert local.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(taken(tmp_path / "a.npz", SOUND)) == len(taken(tmp_path / "a.npy", SOUND)) == 5


def _write(name: str, data: bytes):
    def make(folder: Path) -> str:
        (folder / name).write_bytes(data)
        return str(folder)

    return make


def _python(text: str, name: str = "f"):
    def make(folder: Path) -> str:
        (folder / "s.py").write_text(text)
        return f"{folder}/s.py:{name}"

    return make


WRONG = {
    "nothing there": (lambda folder: str(folder / "no.npz"), SOUND, "there is no such file"),
    "empty folder": (str, SOUND, "expected files of .npy, .wav"),
    "no sound": (_write("a.wav", b"RIFFnothing"), SOUND, "expected a WAV file"),
    "no array": (_write("a.npy", b"\x93NUMPYnothing"), SOUND, "expected an NPY file of numbers"),
    "pickled": (_write("a.npy", b"\x80\x04N."), SOUND, "expected an NPY file of numbers"),
    "an NPZ file by its name an NPY one": (
        _write("a.npy", b"PK\x05\x06" + bytes(18)),
        SOUND,
        "expected an NPY file of numbers",
    ),
    "a header that never ends": (
        _write("a.npy", b"\x93NUMPY\1\0\x04\0((((" + bytes(400)),
        SOUND,
        "expected an NPY file of numbers",
    ),
    "no image": (_write("a.png", b"\x89PNG nothing"), PICTURE, "expected an image"),
    "an image for sound": (
        _write("a.png", b"\x89PNG nothing"),
        SOUND,
        "an image cannot be input 'x' of shape [1, 100]",
    ),
    "two inputs": (_write("a.npy", b""), two_inputs(), "a folder holds samples for one input, the model has 2"),
    "no such function": (_python("x = 1\n"), SOUND, "expected a function 'f', found none"),
    "not a function": (_python("f = 1\n"), SOUND, "expected a function 'f', found int"),
    "no samples": (_python("def f():\n    return 3\n"), SOUND, "that gives samples one by one, it gave int"),
    "broken Python": (_python("def f(:\n"), SOUND, "SyntaxError"),
    "no such Python file": (lambda folder: f"{folder}/none.py:f", SOUND, "there is no such Python file"),
}


@pytest.mark.parametrize(("make", "graph", "says"), WRONG.values(), ids=WRONG)
def test_what_is_wrong(tmp_path, make, graph, says) -> None:
    """What cannot be taken is refused in one line that says what was found and expected."""
    with pytest.raises(InputError) as caught:
        taken(make(tmp_path), graph)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_short_sound_and_frames(tmp_path) -> None:
    """Sound shorter than the input, and a stream that ends inside a frame, are refused with both lengths."""
    wav(tmp_path / "a.wav", np.zeros((40, 1)), 2)
    with pytest.raises(InputError, match=r"40 samples of sound, input 'x' takes 100"):
        taken(tmp_path, SOUND)
    with pytest.raises(InputError, match=r"ends 70 bytes before the end of a frame of 100"):
        taken("-", SOUND, stdin=io.BytesIO(bytes(130)))
    with pytest.raises(InputError, match=r"frames of 'string'"):
        taken("-", conv("int8"), raw="string", stdin=io.BytesIO(b""))
    with pytest.raises(InputError, match=r"a span for frames of float32: expected pixels \(--raw uint8\) or sound"):
        taken("-", SOUND, raw="float32", span=(0.0, 1.0), stdin=io.BytesIO(b""))
