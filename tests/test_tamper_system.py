"""The tamper matrix, rows 30 to 32: hostile models under a good signature, what is left behind, and what the CLI says."""

from __future__ import annotations

import random
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import ACCEPTED, note, refused
from tflite_models import int8_cnn
from trusted import NOW, content_key, device, good_case, granted, model, publisher, sealed, signed_again, stranger

import edgeq
from edgeq import bundle, grant, keys, pem, seal, stream
from edgeq.cli import main
from edgeq.errors import EdgeqError, ModelError
from edgeq.machine import cache_folder
from edgeq.tflite import write

VECTORS = Path(__file__).resolve().parent / "vectors" / "tflite"
HOSTILE = sorted(path for path in VECTORS.glob("*.tflite") if path.stat().st_size)
EARLIER = NOW.replace(year=2020)  # what runs by the system's clock is granted from here on


# --- row 30: hostile models -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda path: path.stem)
def test_row_30_signed_hostile_model(tmp_path: Path, vector: Path) -> None:
    """A good signature does not make a model well formed: what is refused plain is refused sealed, for the same reason."""
    data = vector.read_bytes()
    with pytest.raises(EdgeqError) as plain:
        edgeq.load(vector)
    source = seal.seal(data, publisher(), model_id="acme/hostile", version=1)
    (tmp_path / "hostile.eqb").write_bytes(source.to_bytes())
    with refused(EdgeqError) as caught:
        edgeq.load(
            tmp_path / "hostile.eqb",
            grant=granted(source, now=EARLIER),
            identity=device(),
            trust=publisher().public,
        )
    if data[4:8] == b"TFL3":  # else the loader takes the plain file for no model at all
        assert type(caught.value) is type(plain.value)
        assert isinstance(caught.value, ModelError)


def test_row_30_signed_mutations(tmp_path: Path) -> None:
    """300 seeded mutations of a sound model, each sealed and granted as it should be: an error or a model, nothing else."""
    sound, rng = write(int8_cnn()), random.Random(30)
    path = tmp_path / "mutant.eqb"
    for _ in range(300):
        mutant = bytearray(sound)
        for _ in range(rng.choice((1, 1, 2, 8))):
            mutant[rng.randrange(8, len(mutant))] = rng.randrange(256)
        source = seal.seal(bytes(mutant), publisher(), model_id="acme/mutant", version=1, encrypt=False)
        path.write_bytes(source.to_bytes())
        outcome = "a sound model"
        try:
            edgeq.load(path, trust=publisher().public)
        except ModelError as error:
            outcome = type(error).__name__
        note(outcome)


# --- row 31: nothing left behind --------------------------------------------------------------------------------------

LOAD = """
import sys
written = []
def note(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & 3:
        written.append(str(args[0]))
    elif event in ("os.rename", "os.link", "tempfile.mkstemp", "tempfile.mkdtemp", "shutil.copyfile"):
        written.append(event)
sys.addaudithook(note)
from edgeq import loader
from edgeq.errors import ChunkError
opened = loader.read_model("case.eqb", grant="case.eqg", identity="device.key", trust="acme.pub")
assert opened[4:8] == b"TFL3"
try:
    loader.read_model("damaged.eqb", grant="case.eqg", identity="device.key", trust="acme.pub")
except ChunkError:
    written.append("refused")
print(written)
"""


def test_row_31_no_file_is_written(tmp_path: Path) -> None:
    """Opening a bundle, or failing to, opens no file for writing, temporary or not."""
    lay_out(tmp_path, model())
    done = subprocess.run([sys.executable, "-B", "-c", LOAD], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['refused']"
    assert done.stderr == ""
    note("nothing found")


def test_row_31_nothing_of_it_on_disk(tmp_path: Path) -> None:
    """After a sealed model has run, no file holds its weights or the content key: no cache, no temporary file."""
    tflite = write(int8_cnn())
    source = lay_out(tmp_path, tflite)
    weights = next(t.data for t in int8_cnn().tensors if t.name == "dense/w")
    assert weights is not None
    needles = [weights.tobytes()[i : i + 32] for i in range(0, weights.nbytes - 32, 32)]
    assert needles[0] in tflite
    needles.append(content_key(source).reveal())
    code = (
        "import edgeq, numpy as np;"
        "m = edgeq.load('case.eqb', grant='case.eqg', identity='device.key', trust='acme.pub');"
        "m(np.zeros((1, 8, 8, 2), np.int8))"
    )
    surroundings = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), str(tmp_path))
    surroundings["EDGEQ_CACHE"] = str(cache_folder())  # the kernels are compiled once, not for this test
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=surroundings, capture_output=True, check=True)
    for path in (path for folder in (tmp_path, cache_folder()) for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert not any(needle in data for needle in needles), path
    note("nothing found")


def fail_at_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "check_plaintext", broken)


def fail_at_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "complete", broken)


def fail_at_commitment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grant, "check_commitment", broken)


def fail_at_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_nonce", lambda number, last: number.to_bytes(12, "big") if number < 2 else broken())


def broken(*_: object) -> bytes:
    raise RuntimeError("a bug")


FAILURES = [fail_at_signature, fail_at_digest, fail_at_commitment, fail_at_chunk]


@pytest.mark.parametrize("fail", FAILURES, ids=[fail.__name__ for fail in FAILURES])
def test_row_31_tracebacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """A traceback from inside opening a bundle, even with every local variable printed, shows no key and no plaintext."""
    case, key = good_case(), content_key(sealed()).reveal()
    private = device()._key.private_bytes_raw()
    fail(monkeypatch)
    with pytest.raises((RuntimeError, EdgeqError)) as caught:
        case.load(tmp_path)
    frames = caught.value.__traceback__
    while frames is not None and "read_model" not in frames.tb_frame.f_code.co_name:
        frames = frames.tb_next  # the test's own frames, which hold all of it
    report = traceback.TracebackException(type(caught.value), caught.value, frames, capture_locals=True)
    shown = "".join(report.format())
    assert "device = " in shown
    for secret in (key, private, model()[:16], model()[1000:1016]):
        for spelled in (repr(secret)[2:-1], secret.hex(), str(list(secret))[1:-1]):
            assert spelled not in shown
    note("nothing found")


def test_row_31_a_refused_plaintext_is_wiped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that decrypts but fails a later check is overwritten before the error leaves."""
    buffers = []
    decrypt = stream.decrypt_into

    def remember(out: memoryview, *rest: object) -> None:
        decrypt(out, *rest)  # type: ignore[arg-type]
        assert any(out[:100])
        buffers.append(out)

    monkeypatch.setattr(stream, "decrypt_into", remember)
    case = good_case()
    fail_at_digest(monkeypatch)
    with pytest.raises(RuntimeError):
        case.load(tmp_path)
    assert not any(buffers[0])
    note("nothing found")


def test_row_31_the_cli_prints_no_secret(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither making keys nor sealing nor granting nor failing prints any part of a private file."""
    folder = str(tmp_path)
    (tmp_path / "m.tflite").write_bytes(write(int8_cnn()))
    publish = ["--key", f"{folder}/p.key"]
    commands = [
        ["keys", "new", "publisher", f"{folder}/p"],
        ["keys", "new", "device", f"{folder}/d"],
        ["seal", f"{folder}/m.tflite", *publish, "--model-id", "m", "--version", "1", "-o", f"{folder}/m.eqb"],
        ["grant", f"{folder}/m.eqb", *publish, "--to", f"{folder}/d.pub", "-o", f"{folder}/m.eqg"],
        ["grant", f"{folder}/m.eqb", *publish, "--to", f"{folder}/d.key", "-o", f"{folder}/no.eqg"],
        ["verify", f"{folder}/m.eqb", "--trust", f"{folder}/p.key"],
        ["seal", f"{folder}/m.tflite", "--key", f"{folder}/d.key", "--model-id", "m", "--version", "1", "-o", "no"],
    ]
    statuses = [main(command) for command in commands]
    assert statuses == [0, 0, 0, 0, 1, 1, 1]
    printed = "".join(capfd.readouterr())
    for path in (tmp_path / "p.key", tmp_path / "d.key"):
        for line in path.read_text().splitlines():
            assert line.startswith("-----") or line not in printed
    note("nothing found")


def lay_out(folder: Path, tflite: bytes) -> bundle.Bundle:
    """A sealed model, whole and damaged, with all that opens it, in files."""
    source = seal.seal(tflite, publisher(), model_id="acme/secret", version=1)
    damaged = bytearray(source.to_bytes())
    damaged[-1] ^= 1
    for name, data in (
        ("case.eqb", source.to_bytes()),
        ("damaged.eqb", bytes(damaged)),
        ("case.eqg", granted(source, now=EARLIER)),
        ("device.key", pem.private_bytes(device().blocks, None)),
        ("acme.pub", pem.public_bytes([publisher().public.signing])),
        ("stranger.pub", pem.public_bytes([stranger().public.signing])),
    ):
        (folder / name).write_bytes(data)
    return source


# --- row 32: what the command line says -------------------------------------------------------------------------------


def flipped(folder: Path) -> None:
    data = bytearray((folder / "case.eqb").read_bytes())
    data[-1] ^= 1
    (folder / "case.eqb").write_bytes(data)


def flipped_manifest(folder: Path) -> None:
    data = bytearray((folder / "case.eqb").read_bytes())
    data[40] ^= 1
    (folder / "case.eqb").write_bytes(data)


def truncated(folder: Path) -> None:
    (folder / "case.eqb").write_bytes((folder / "case.eqb").read_bytes()[:-1])


def missing(folder: Path) -> None:
    (folder / "case.eqb").unlink()


def empty(folder: Path) -> None:
    (folder / "case.eqb").write_bytes(b"")


def plain_instead(folder: Path) -> None:
    (folder / "case.eqb").write_bytes(write(int8_cnn()))


def stolen(folder: Path) -> None:
    source = bundle.parse((folder / "case.eqb").read_bytes())
    (folder / "case.eqb").write_bytes(signed_again(source, stranger()).to_bytes())


def other_trust(folder: Path) -> None:
    (folder / "acme.pub").write_bytes((folder / "stranger.pub").read_bytes())


def no_trust(folder: Path) -> None:
    (folder / "acme.pub").unlink()


def trust_is_not_a_key(folder: Path) -> None:
    (folder / "acme.pub").write_bytes(b"verified")


REFUSED = [
    flipped,
    flipped_manifest,
    truncated,
    missing,
    empty,
    plain_instead,
    stolen,
    other_trust,
    no_trust,
    trust_is_not_a_key,
]


@pytest.mark.parametrize("spoil", REFUSED, ids=[spoil.__name__ for spoil in REFUSED])
def test_row_32_verify(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    """`edgeq verify` says "verified" and exits 0 for the whole bundle, and neither for any damage."""
    lay_out(tmp_path, write(int8_cnn()))
    monkeypatch.chdir(tmp_path)
    command = ["verify", "case.eqb", "--trust", "acme.pub"]
    assert main(command) == 0
    assert "verified" in capfd.readouterr().out
    spoil(tmp_path)
    status = main(command)
    note(f"exit {status}" if status else ACCEPTED)
    assert status != 0
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("edgeq: error: ")
    assert err.count("\n") == 1
    assert "verified" not in err


def expired(folder: Path) -> None:
    source = bundle.parse((folder / "case.eqb").read_bytes())
    (folder / "case.eqg").write_bytes(granted(source, now=EARLIER, expires=EARLIER.replace(year=2021)))


def not_yet(folder: Path) -> None:
    source = bundle.parse((folder / "case.eqb").read_bytes())
    (folder / "case.eqg").write_bytes(granted(source, now=NOW.replace(year=9000)))


def other_device(folder: Path) -> None:
    (folder / "device.key").unlink()
    (folder / "device.pub").unlink(missing_ok=True)
    keys.new_device(folder / "device")


def export_not_granted(folder: Path) -> None:
    source = bundle.parse((folder / "case.eqb").read_bytes())
    (folder / "case.eqg").write_bytes(granted(source, now=EARLIER, allow=("load", "debug", "calibrate")))


def no_grant(folder: Path) -> None:
    (folder / "case.eqg").unlink()


@pytest.mark.parametrize(
    "spoil", [*REFUSED, expired, not_yet, other_device, export_not_granted, no_grant], ids=lambda spoil: spoil.__name__
)
def test_row_32_unseal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None]
) -> None:
    """`edgeq unseal` writes the model under a grant for export, and for any fault it writes nothing and exits non-zero."""
    source = lay_out(tmp_path, write(int8_cnn()))
    (tmp_path / "case.eqg").write_bytes(granted(source, now=EARLIER, allow=("export",)))
    monkeypatch.chdir(tmp_path)
    access = ["--grant", "case.eqg", "--identity", "device.key", "--trust", "acme.pub"]
    assert main(["unseal", "case.eqb", *access, "-o", "out.tflite"]) == 0
    assert (tmp_path / "out.tflite").read_bytes() == write(int8_cnn())
    (tmp_path / "out.tflite").unlink()
    capfd.readouterr()
    spoil(tmp_path)
    before = sorted(tmp_path.iterdir())
    status = main(["unseal", "case.eqb", *access, "-o", "out.tflite"])
    note(f"exit {status}" if status else ACCEPTED)
    assert status != 0
    assert sorted(tmp_path.iterdir()) == before
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("edgeq: error: ")
