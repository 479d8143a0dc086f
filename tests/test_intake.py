"""Local samples: folders, pipes, functions and files, and what is wrong with them."""

from __future__ import annotations

import io
import os
import re
import struct
import time
import wave
import zlib
from pathlib import Path

import numpy as np
import pytest
from engine_models import activation, conv
from quantize_models import two_inputs

from edgeq import intake
from edgeq.errors import InputError
from edgeq.feed import count, feed
from edgeq.graph import Graph, SubGraph, Tensor

PICTURE = Graph((SubGraph((Tensor("x", (1, 4, 6, 3), "float32"),), (), (0,), (0,)),))
SOUND = Graph((SubGraph((activation("x", (1, 100), "int8", 0.01, 3),), (), (0,), (0,)),))


def taken(where, graph, **options) -> list[tuple[np.ndarray, ...]]:
    return list(feed(graph, intake.take(str(where), graph, **options).samples))


def wav(path: Path, values: np.ndarray, width: int, rate: int = 16000) -> None:
    """(frames, channels) numbers in [−1, 1) as PCM of that many bytes."""
    codes = np.round(values * (1 << (8 * width - 1))).astype(np.int64)
    if width == 1:
        codes += 128
    raw = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in codes.reshape(-1))
    with wave.open(str(path), "wb") as out:
        out.setnchannels(values.shape[1])
        out.setsampwidth(width)
        out.setframerate(rate)
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


def test_sound_is_counted_before_it_is_read(tmp_path) -> None:
    """A folder of sound is a sequence: samples looked at can be spread over all of it, and have the label of their file."""
    for label, n in ((0, 250), (3, 120)):
        (tmp_path / str(label)).mkdir()
        wav(tmp_path / str(label) / "a.wav", np.linspace(-0.5, 0.5, n)[:, None], 2)
    local = intake.take(str(tmp_path), SOUND)
    assert (len(local.samples), local.labels.tolist()) == (3, [0, 0, 3])
    (last,) = local.samples[2]
    np.testing.assert_allclose(last.reshape(-1), np.linspace(-0.5, 0.5, 120)[:100], atol=1e-4)


def test_sound_of_two_rates(tmp_path) -> None:
    """Files of another rate than the first one's would be heard too fast: both rates are said, before anything starts."""
    wav(tmp_path / "a.wav", np.zeros((200, 1)), 2)
    wav(tmp_path / "b.wav", np.zeros((200, 1)), 2, rate=44100)
    with pytest.raises(InputError, match=r"b\.wav: 44100 Hz, .*a\.wav has 16000 Hz: expected sound of one rate"):
        intake.take(str(tmp_path), SOUND)


def test_sound_that_was_cut_off(tmp_path) -> None:
    """Of a recording that ended before its header says, the whole inputs that are there are taken."""
    wav(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 450)[:, None], 2)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: 44 + 2 * 250 + 1])
    assert len(taken(tmp_path, SOUND)) == 2


def test_sound_whose_chunks_reach_beyond_it(tmp_path) -> None:
    """A header that tells of more bytes than there are, in a chunk before the sound, is no sound."""
    wav(tmp_path / "a.wav", np.zeros((300, 1)), 2)
    data = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(data[:12] + b"LIST" + struct.pack("<I", 2**31) + data[12:])
    with pytest.raises(InputError, match=r"a\.wav: expected a WAV file of PCM"):
        taken(tmp_path, SOUND)


def test_grey_of_16_bits(tmp_path) -> None:
    """A picture of 16 bits holds 0 to 255 like any other, and is not cut off there."""
    from PIL import Image

    values = np.linspace(0, 65535, 24).reshape(4, 6).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    ((x,),) = taken(tmp_path, PICTURE)
    np.testing.assert_allclose(x[0], np.repeat((values / 257)[..., None], 3, axis=2), rtol=1e-5)


def test_pictures_are_turned_as_they_are_to_be_shown(tmp_path) -> None:
    """A camera that was held on its side says so in EXIF: what is above is above."""
    from PIL import Image

    turned = np.zeros((12, 8, 3), np.uint8)
    turned[:, :4] = 255  # the left half, which is above once it was turned by a quarter
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(turned).save(tmp_path / "a.png", exif=exif)
    ((x,),) = taken(tmp_path, PICTURE)
    assert x[0, 0].min() > 250
    assert x[0, -1].max() < 5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK", "L"])
def test_other_kinds_of_pictures(tmp_path, mode) -> None:
    """Grey, palettes, transparency and ink become the channels that the model takes, without a warning."""
    from PIL import Image

    Image.new("RGB", (7, 5), (255, 255, 255)).convert(mode).save(tmp_path / "a.tif")
    (tmp_path / "a.tif").rename(tmp_path / "a.png")
    ((x,),) = taken(tmp_path, PICTURE)
    assert x.min() > 250


def test_a_picture_for_a_function(tmp_path) -> None:
    """What a function makes of a picture need not look like one."""
    from PIL import Image

    Image.new("RGB", (10, 10), (255, 255, 255)).save(tmp_path / "a.png")
    (tmp_path / "f.py").write_text("def flat(x):\n    return x.mean(axis=2).reshape(1, 100) / 255\n")
    ((x,),) = taken(tmp_path, SOUND, preprocess=f"{tmp_path}/f.py:flat")
    assert (x == 1).all()


def test_which_file_is_wrong(tmp_path) -> None:
    """Of a folder the file is named that does not fit, holds no number, or is broken; of others the sample's number."""
    np.save(tmp_path / "a.npy", np.zeros((1, 100), np.float32))
    for wrong in (np.zeros((3, 3), np.float32), np.full((1, 100), np.nan, np.float32)):
        np.save(tmp_path / "b.npy", wrong)
        with pytest.raises(InputError, match=r"b\.npy: input 'x': "):
            taken(tmp_path, SOUND)
        with pytest.raises(InputError, match=r"^sample 1: input 'x': "):
            list(feed(SOUND, [np.zeros((1, 100)), wrong]))
    with pytest.raises(InputError, match=r"^sample 2: input 'x': samples must be finite"):
        list(feed(SOUND, np.where(np.arange(4)[:, None] == 2, np.nan, np.zeros((4, 100)))))


def test_inputs_of_different_numbers_of_samples() -> None:
    """Two inputs with as many samples each are needed, and that is said where they are counted as well as where they are fed."""
    graph = two_inputs()
    given = {
        n: np.zeros((5 - k, *graph.tensors[i].shape[1:]))
        for k, (n, i) in enumerate(zip(graph.input_names(), graph.inputs, strict=True))
    }
    for ask in (count, lambda *arguments: list(feed(*arguments))):
        with pytest.raises(InputError, match=r"expected as many samples for each input, got 5 for .*, 4 for "):
            ask(graph, given)


def test_a_stream_that_stalls(tmp_path) -> None:
    """Standard input is waited for no longer than asked: what was whole by then is what there is."""
    reads, writes = os.pipe()
    os.write(writes, bytes(250))
    with open(reads, "rb") as stream:
        start = time.monotonic()
        assert len(taken("-", SOUND, stdin=stream, seconds=0.2)) == 2
        assert 0.15 < time.monotonic() - start < 5
    os.close(writes)


def test_what_lies_there_has_a_state(tmp_path) -> None:
    """Samples that were replaced by others of the same name are told from those before."""
    file = tmp_path / "a.npy"
    np.save(file, np.zeros(4, np.float32))
    before = intake.state(str(file)), intake.state(str(tmp_path))
    assert before == (intake.state(str(file)), intake.state(str(tmp_path)))
    np.save(file, np.zeros(5, np.float32))
    assert before[0] != intake.state(str(file))
    assert before[1] != intake.state(str(tmp_path))
    assert intake.state("-") == intake.state(str(tmp_path / "none"))


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


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.npz", "a.npz: expected samples 'x' for a function, found 'sound'"),
        ("a.npy", "a.npy: expected samples (N, …)"),
    ],
)
def test_files_that_hold_nothing_for_a_function(tmp_path, name, says) -> None:
    """A function gets the samples `x` of a file one by one: a file without them, or of one number, is refused."""
    np.savez(tmp_path / "a.npz", sound=np.zeros((5, 100)))
    np.save(tmp_path / "a.npy", np.float32(3))
    (tmp_path / "s.py").write_text("def f(x):\n    return x\n")
    with pytest.raises(InputError, match=re.escape(says)):
        taken(tmp_path / name, SOUND, preprocess=f"{tmp_path / 's.py'}:f")


def test_folders_of_dates_are_no_labels(tmp_path) -> None:
    """A long number is the name of a day or a device, and no class: it may not even fit an integer."""
    (tmp_path / "20240101120000123456").mkdir()
    np.save(tmp_path / "20240101120000123456" / "a.npy", np.zeros(100, np.float32))
    assert intake.take(str(tmp_path), SOUND).labels is None


@pytest.mark.parametrize(("dtype", "reach"), [("uint8", None), ("int8", (0.0, 255.0))])
def test_codes_reach_nowhere(dtype, reach) -> None:
    """Raw frames of the model's own dtype hold its codes, which are mapped already; others hold pixels."""
    graph = Graph((SubGraph((activation("x", (1, 100), dtype, 0.01, 3),), (), (0,), (0,)),))
    assert intake.take("-", graph, raw="uint8", stdin=io.BytesIO(b"")).reach == reach


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


HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
HUGE += struct.pack(">I", zlib.crc32(HUGE[12:])) + b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))

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
    "Python that fails": (
        _python("def f():\n    yield [[0.0] * 100]\n    raise OSError('the camera is gone')\n"),
        SOUND,
        "s.py:f: OSError: the camera is gone",
    ),
    "a sample that is none": (
        _python("def f():\n    yield None\n"),
        SOUND,
        "sample 0: an array, arrays by name or one for each input is expected, got NoneType",
    ),
    "a picture of billions of pixels": (_write("a.png", HUGE), PICTURE, "a.png: expected an image"),
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
