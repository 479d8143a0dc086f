"""Time of the trust side, beside what bounds it and beside its peers: `python benchmarks/trust.py [--large MIB] [MODEL…]`.

Every figure is the best of several runs, in one process unless it says "command". The bounds are hashlib's SHA-256 and one
call of ChaCha20-Poly1305 over the same bytes, on one core. model_signing is timed where it is installed. For each MODEL
(.tflite) it says what `selfcheck` costs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from edgeq import device as devices
from edgeq import grant, keys, loader, pack, seal, status
from edgeq.bundle import Verified
from edgeq.files import write_atomic
from edgeq.recipients import DeviceKey
from edgeq.trust import Trust

MIB = 1024 * 1024
NOW = datetime.now(timezone.utc)


def best(call: Callable[[], object], times: int = 7) -> float:
    """Milliseconds of the fastest of `times` calls."""
    fastest = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest * 1e3


def command(*arguments: str) -> Callable[[], object]:
    """A call that runs this Python with these arguments."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def row(what: str, ms: float, note: str = "") -> None:
    print(f"{what:<44}{ms:>10.2f} ms   {note}")


def imports() -> None:
    bare = best(command("-c", "pass"))
    for module in ("keys", "grant", "seal", "loader"):
        row(f"import edgeq.{module}", best(command("-c", f"import edgeq.{module}")) - bare, "beyond the interpreter")


def small(folder: Path, publisher: keys.PublisherKey) -> None:
    """4 MiB: sealing and verifying, as a call and as a command, and model_signing's."""
    data = b"\x1c\x00\x00\x00TFL3" + os.urandom(4 * MIB - 8)
    source = seal.seal(data, publisher, model_id="bench/small", version=1, encrypt=False)
    write_atomic(folder / "small.eqb", source.pieces())
    pack.unpack(folder / "small.eqb", folder / "small")
    row("SHA-256 of 4 MiB", best(lambda: hashlib.sha256(data).digest()), "bound")
    row("verify 4 MiB", best(lambda: loader.verify(folder / "small.eqb", trust=publisher.public)))
    edgeq = [sys.executable, "-m", "edgeq", "verify", str(folder / "small.eqb"), "--trust", str(folder / "p.pub")]
    row("edgeq verify 4 MiB", best(command(*edgeq[1:])), "command")
    if find_spec("model_signing") and find_spec("OpenSSL"):
        theirs = ["-m", "model_signing", "verify", "key", str(folder / "small")]
        theirs += ["--signature", str(folder / "small" / "model.sig"), "--public_key", str(folder / "p.pub")]
        row("model_signing verify key 4 MiB", best(command(*theirs), 3), "command")
        from model_signing import verifying

        config = verifying.Config().use_elliptic_key_verifier(public_key=folder / "p.pub")
        row(
            "model_signing API verify 4 MiB",
            best(lambda: config.verify(folder / "small", folder / "small" / "model.sig")),
        )


def large(folder: Path, publisher: keys.PublisherKey, device: DeviceKey, mib: int) -> None:
    """Sealing and opening, beside reading, hashing and decrypting the same bytes in one piece."""
    data = b"\x1c\x00\x00\x00TFL3" + os.urandom(mib * MIB - 8)
    (folder / "large.tflite").write_bytes(data)
    row(f"read {mib} MiB", best((folder / "large.tflite").read_bytes), "bound")
    row(f"SHA-256 of {mib} MiB", best(lambda: hashlib.sha256(data).digest()), "bound")
    row(f"ChaCha20-Poly1305, {mib} MiB", one_call(data), "bound")
    sha, cipher, read = (
        best(lambda: hashlib.sha256(data).digest(), 3),
        one_call(data),
        best((folder / "large.tflite").read_bytes, 3),
    )
    signing = best(lambda: seal.seal(data, publisher, model_id="bench/large", version=1, encrypt=False), 3)
    row(f"sign {mib} MiB", signing, f"{sha / signing:.0%} of SHA-256's rate")
    row(f"seal {mib} MiB", best(lambda: seal.seal(data, publisher, model_id="bench/large", version=1), 3))
    write_atomic(folder / "large.eqb", seal.seal(data, publisher, model_id="bench/large", version=1).pieces())
    size = (folder / "large.eqb").stat().st_size
    print(f"{f'size of {mib} MiB, sealed':<44}{size - len(data):>10} B    +{(size - len(data)) / len(data):.4%}")
    verified = loader.verify(folder / "large.eqb", trust=publisher.public)
    held = grant.issue(verified, publisher, device.public, ["load"], now=NOW)
    opening: dict[str, Any] = {"grant": held, "identity": device, "trust": publisher.public}
    sha = best(lambda: hashlib.sha256(data).digest(), 3)  # again, right beside what it is compared with
    verify = best(lambda: loader.verify(folder / "large.eqb", trust=publisher.public), 3)
    row(f"verify {mib} MiB", verify, f"{sha / verify:.0%} of SHA-256's rate")
    opened_in = best(lambda: loader.read_model(folder / "large.eqb", **opening), 3)
    bound = read + sha + cipher
    row(f"open {mib} MiB", opened_in, f"{opened_in / bound:.2f} × (plain load + SHA-256 + one call of the cipher)")
    issue = best(lambda: [grant.issue(verified, publisher, device.public, ["load"], now=NOW) for _ in range(10_000)], 1)
    row("issue 10,000 grants", issue, f"{len(held)} bytes each")
    trust = loader.believe(publisher.public)
    row("verify one grant and unwrap its key", best(lambda: opened(held, trust, device, verified), 200))
    (folder / "large.eqg").write_bytes(held)
    few = seal.seal(data[:16], publisher, model_id="bench/few", version=1)
    write_atomic(folder / "few.eqb", few.pieces())
    verified = loader.verify(folder / "few.eqb", trust=publisher.public)
    (folder / "few.eqg").write_bytes(grant.issue(verified, publisher, device.public, ["load"], now=NOW))
    peak(folder, mib)


def one_call(data: bytes) -> float:
    """Milliseconds of decrypting all of `data` in one call."""
    cipher, out = ChaCha20Poly1305(bytes(32)), bytearray(len(data))
    ciphertext = cipher.encrypt(bytes(12), data, None)
    return best(lambda: cipher.decrypt_into(bytes(12), ciphertext, None, out))


def opened(held: bytes, trust: Trust, device: DeviceKey, verified: Verified) -> None:
    """What a device does with a grant before it decrypts."""
    assert verified.manifest is not None
    grant.open_key(grant.verify(held, trust), device, verified.manifest)


def peak(folder: Path, mib: int) -> None:
    """Peak memory of a process that opens the large bundle, beyond one that opens a bundle of a few bytes (Linux)."""
    measure = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    load = "loader.read_model('{0}.eqb', grant='{0}.eqg', identity='d.key', trust='p.pub'); "
    kib = []
    for code in (load.format("few"), load.format("large")):
        arguments = [sys.executable, "-c", f"from edgeq import loader; {code}{measure}"]
        kib.append(int(subprocess.run(arguments, cwd=folder, capture_output=True, check=True).stdout))
    more = (kib[1] - kib[0]) / 1024
    print(
        f"{f'peak memory to open {mib} MiB':<44}{more:>10.1f} MiB  beyond opening a few bytes: the model {more - mib:+.1f}"
    )


def remembering(folder: Path, publisher: keys.PublisherKey, device: DeviceKey) -> None:
    """A device state: applying statuses of 10,000 entries, and opening a small bundle with a state and such a status."""
    data = b"\x1c\x00\x00\x00TFL3" + os.urandom(1000)
    write_atomic(folder / "tiny.eqb", seal.seal(data, publisher, model_id="bench/tiny", version=1).pieces())
    held = grant.issue(
        loader.verify(folder / "tiny.eqb", trust=publisher.public), publisher, device.public, ["load"], now=NOW
    )
    opening: dict[str, Any] = {"grant": held, "identity": device, "trust": publisher.public}
    devices.init(folder / "state", device, now=NOW)
    row("open 1 KB", best(lambda: loader.read_model(folder / "tiny.eqb", **opening), 50), "no state")
    opening["state"] = folder / "state"
    row("open 1 KB", best(lambda: loader.read_model(folder / "tiny.eqb", **opening), 50), "with a state")
    last = status.revoking(
        status.first(publisher.public.key_id, now=NOW, expires=NOW + timedelta(days=90)),
        devices=frozenset(os.urandom(32).hex() for _ in range(5000)),
        grants=frozenset(os.urandom(16).hex() for _ in range(4000)),
        keys=frozenset(os.urandom(32).hex() for _ in range(1000)),
    )
    statuses = []
    for _ in range(15):
        statuses.append(status.sign(last, publisher))
        last = status.following(last, now=NOW)
    trust, following = loader.believe(publisher.public), iter(statuses)
    store = devices.Store(folder / "state", device)
    apply = best(lambda: store.apply_status(next(following), trust, now=NOW), len(statuses))
    row("apply a status of 10,000 entries", apply, f"{len(statuses[0])} bytes")
    row(
        "open 1 KB", best(lambda: loader.read_model(folder / "tiny.eqb", **opening), 50), "with a state and that status"
    )


def masks(publisher: keys.PublisherKey) -> None:
    """Masking 64 MiB, beside adding it up."""
    import numpy as np

    from edgeq import masking

    x = np.random.default_rng(0).integers(0, 256, 64 * MIB, np.uint8)
    masked = masking.mask(x, publisher.wrapping)
    row("mask 64 MiB", best(lambda: masking.mask(x, publisher.wrapping), 3))
    row("unmask 64 MiB", best(lambda: masking.unmask(masked, publisher.identity), 3))
    row(
        "add two masked arrays of 64 MiB",
        best(lambda: masked + masking.mask(x, publisher.wrapping), 1),
        "one masked for it",
    )


def selfcheck(path: Path) -> None:
    """What a check costs, beside an inference."""
    import numpy as np

    from edgeq.selfcheck import CheckedModel
    from edgeq.tflite import read

    graph = read(path.read_bytes())
    plain, checked = loader.load(path, backend="native"), CheckedModel(graph, every=1)
    first = plain.inputs[0]
    x = np.random.default_rng(0).integers(0, 100, first.shape).astype(first.dtype)
    given = x if len(plain.inputs) == 1 else {p.name: np.zeros(p.shape, p.dtype) for p in plain.inputs}
    inference, check = best(lambda: plain(given), 500), best(lambda: checked(given), 200)
    n = len(checked.checked_layers)
    row(f"{path.stem}, an inference", inference)
    more = (check - inference) / inference
    note = f"{n} layers followed; with N = 1000: +{more / 10:.2f} %"
    row(f"{path.stem}, with its check", check, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", type=int, default=64, metavar="MIB", help="size of the large model [64]")
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL", help="models to time selfcheck on")
    given = parser.parse_args()
    large_mib = given.large
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publisher, device = keys.new_publisher(folder / "p"), keys.new_device(folder / "d")
        imports()
        small(folder, publisher)
        large(folder, publisher, device, large_mib)
        remembering(folder, publisher, device)
        masks(publisher)
        for path in given.models:
            selfcheck(path)


if __name__ == "__main__":
    main()
