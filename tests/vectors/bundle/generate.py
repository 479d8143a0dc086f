"""Write the bundle test vectors anew: `python tests/vectors/bundle/generate.py`. README.md says what they are."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

from model_signing import hashing, signing  # noqa: E402
from tflite_models import int8_cnn  # noqa: E402
from trusted import new_device, new_publisher  # noqa: E402

from edgeq import bundle, grant, manifest, pem, seal  # noqa: E402
from edgeq.graph import Metadata  # noqa: E402
from edgeq.tflite import write  # noqa: E402
from edgeq.trust import Trust  # noqa: E402

ISSUED = datetime(2030, 1, 1, tzinfo=timezone.utc)
DURING, AFTER = int(ISSUED.timestamp()) + 86_400, int(ISSUED.timestamp()) + 365 * 86_400


def main() -> None:
    """Write every file of this folder but README.md and this one."""
    publisher, device, other = new_publisher(), new_device(), new_device()
    put("publisher-private.pem", pem.private_bytes(publisher.blocks, None))
    put("publisher.pub", pem.public_bytes(publisher.public.blocks))
    put("device-private.pem", pem.private_bytes(device.blocks, None))
    put("device.pub", pem.public_bytes(device.public.blocks))

    padding = Metadata("padding", hashlib.shake_256(b"edgeq bundle vectors").digest(64 * 1024), 7)
    model = write(replace(int8_cnn(), metadata=(*int8_cnn().metadata, padding)))
    put("model.tflite", model)
    sealed = seal.seal(model, publisher, model_id="edgeq/vector", version=7)
    signed = seal.seal(model, publisher, model_id="edgeq/vector", version=7, encrypt=False)
    put("sealed.eqb", sealed.to_bytes())
    put("signed.eqb", signed.to_bytes())

    verified = bundle.verify(sealed, Trust((publisher.public,)))
    for name, to, terms in (
        ("load.eqg", device, {}),
        ("all.eqg", device, {"allow": grant.OPERATIONS}),
        ("until-february.eqg", device, {"expires": datetime(2030, 2, 1, tzinfo=timezone.utc)}),
        ("from-march.eqg", device, {"not_before": datetime(2030, 3, 1, tzinfo=timezone.utc)}),
        ("other-device.eqg", other, {}),
        ("next-version.eqg", device, {"versions": (8, 9)}),
        ("ten-loads.eqg", device, {"max_loads": 10}),
    ):
        more: dict[str, Any] = {"allow": ("load",), "now": ISSUED, **terms}
        put(name, grant.issue(verified, publisher, to.public, **more))

    (FOLDER / "oms").mkdir(exist_ok=True)
    put("oms/config.json", b'{"layers":2}\n')
    put("oms/weights.bin", hashlib.shake_256(b"weights").digest(100))
    hashes = hashing.Config().set_ignored_paths(paths=["model.sig"])
    signer = signing.Config().use_elliptic_key_signer(private_key=FOLDER / "publisher-private.pem")
    signer.set_hashing_config(hashes).sign(FOLDER / "oms", FOLDER / "oms" / "model.sig")

    said = manifest.parse(sealed.manifest)
    assert said.encryption is not None
    key = publisher.unwrap(said.encryption.wrapped_key, said.wrap_info())
    packages = ("edgeq", "cryptography", "model-signing")
    index = {
        "generator": {"script": "generate.py", **{name: version(name) for name in packages}},
        "publisher_key_id": publisher.public.key_id,
        "device_key_id": device.public.key_id,
        "content_key": key.reveal().hex(),
        "manifest_sha256": hashlib.sha256(sealed.manifest).hexdigest(),
        "payload_sha256": hashlib.sha256(sealed.payload).hexdigest(),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "cases": [
            case("sealed.eqb", "load.eqg", DURING, "load", "opens"),
            case("sealed.eqb", "load.eqg", AFTER, "load", "opens"),
            case("sealed.eqb", "load.eqg", DURING, "export", "GrantOperationError"),
            case("sealed.eqb", "all.eqg", DURING, "export", "opens"),
            case("sealed.eqb", "all.eqg", 0, "load", "GrantNotYetValidError"),
            case("sealed.eqb", "until-february.eqg", DURING, "load", "opens"),
            case("sealed.eqb", "until-february.eqg", AFTER, "load", "GrantExpiredError"),
            case("sealed.eqb", "from-march.eqg", DURING, "load", "GrantNotYetValidError"),
            case("sealed.eqb", "from-march.eqg", AFTER, "load", "opens"),
            case("sealed.eqb", "other-device.eqg", DURING, "load", "GrantDeviceError"),
            case("sealed.eqb", "next-version.eqg", DURING, "load", "GrantVersionError"),
            case("sealed.eqb", "ten-loads.eqg", DURING, "load", "GrantConditionError"),
            case("sealed.eqb", None, DURING, "load", "NoGrantError"),
            case("signed.eqb", None, DURING, "export", "opens"),
        ],
    }
    put("index.json", json.dumps(index, indent=1).encode() + b"\n")


def case(bundle_file: str, grant_file: str | None, now: int, operation: str, expect: str) -> dict[str, Any]:
    """One row of the table in index.json."""
    return {"bundle": bundle_file, "grant": grant_file, "now": now, "operation": operation, "expect": expect}


def put(name: str, data: bytes) -> None:
    """Write one file of this folder."""
    (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
