"""From a path to a model: the one door through which model bytes enter.

The order never changes: cap the size, verify the signature, check the grant, decrypt, parse with bounds, check, plan.
Plaintext is never written anywhere: it is in one buffer, which is wiped if anything about it turns out wrong.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgeq import admit, bundle, keys, limits, oms, stream
from edgeq import grant as grants
from edgeq import manifest as manifests
from edgeq.admit import Request
from edgeq.bundle import Signed, Verified
from edgeq.device import Store
from edgeq.errors import (
    ContainerError,
    FileSetError,
    InputError,
    NoGrantError,
    StateDeviceError,
    UnsignedError,
    UnsupportedError,
    UntrustedKeyError,
)
from edgeq.files import PathLike, read_limited
from edgeq.grant import Grant
from edgeq.keys import ContentKey, Identity, PublisherPublic
from edgeq.manifest import Manifest
from edgeq.source import PlainModel, Stored, StoredBundle, StoredDirectory, open_source
from edgeq.trust import Trust

if TYPE_CHECKING:
    from edgeq.fallback import AnyModel

_WORTH_A_THREAD: Final = 1024 * 1024

BACKENDS: Final = ("auto", "native")
"""auto: another runtime runs what edgeq cannot. native: it is refused."""

GrantLike = PathLike | bytes
"""The path of an .eqg file, or its content."""

IdentityLike = PathLike | Identity
"""The path of a device's .key file, or whatever else unwraps keys for this device."""

TrustLike = PathLike | PublisherPublic | Trust | Sequence[PathLike | PublisherPublic]
"""The path of a publisher's .pub file, its keys, several of either, or a Trust."""


StateLike = PathLike | Store
"""The path of a state directory, or a Store."""


def read_model(
    path: PathLike,
    *,
    grant: GrantLike | None = None,
    identity: IdentityLike | None = None,
    trust: TrustLike | None = None,
    state: StateLike | None = None,
    operation: str | Sequence[str] = "load",
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> bytes | memoryview:
    """The .tflite bytes behind `path`, read-only: of a plain model, or of a bundle.

    A bundle must be signed by a publisher in `trust`. An encrypted one is opened by `grant`, which must allow
    `operation` (one of edgeq.grant.OPERATIONS, or several), for `identity`, whose file may need `passphrase`; one that is
    only signed needs neither. `now` is the clock, by default the system's.

    `state` is what the device with this `identity` remembers (edgeq.device). With it, an older version and a clock that
    was set back are refused, the grant's conditions are held, and the opening is remembered before the model is
    returned. Without it, a grant with such a condition is refused.

    With `trust`, `grant` or `state` given, a plain model is refused: otherwise whoever can replace a bundle could drop
    its signature by putting a plain model in its place.

    Raises InputError, NotAModelError, TrustError and its kinds, and OutputError if the state cannot be written.
    """
    operations = (operation,) if isinstance(operation, str) else tuple(operation)
    if not operations:
        raise InputError(f"{path}: expected an operation to open it for, found none")
    with open_source(path) as source:
        if isinstance(source, PlainModel):
            if trust is not None or grant is not None or state is not None:
                raise UnsignedError(
                    f"{path}: a plain model, but trust, a grant or a state was given, so a signed bundle is expected"
                )
            return source.content.read()
        if isinstance(source, StoredDirectory):
            raise FileSetError(f"{path}: a signed directory, but not a bundle: it has no {manifests.MANIFEST_FILE}")
        believed = _trust(trust, path)
        signed = _open_signed(source, believed)
        moment = datetime.now(timezone.utc) if now is None else now
        if signed.manifest.encryption is None:
            store = None if state is None else _store(state, _device(identity, state, passphrase, path))
            request = Request(signed, operations, moment, "" if store is None else store.device)
            return _open_plain(source, request, store)
        if grant is None:
            raise NoGrantError(f"{path}: the bundle is encrypted, and no grant was given")
        device = _device(identity, state, passphrase, path)
        held = grants.verify(_grant(grant), believed)
        request = Request(signed, operations, moment, device.public.key_id, held)
        return _open_encrypted(source, request, held, device, None if state is None else _store(state, device))


def load(
    path: PathLike,
    *,
    grant: GrantLike | None = None,
    identity: IdentityLike | None = None,
    trust: TrustLike | None = None,
    state: StateLike | None = None,
    rounding: str = "xnnpack",
    threads: int = 1,
    backend: str = "auto",
    shapes: Mapping[str, Sequence[int]] | None = None,
    passphrase: bytes | None = None,
) -> AnyModel:
    """A model that runs, from a .tflite file or a bundle.

    `grant`, `identity`, `trust`, `state` and `passphrase` are those of `read_model`. `rounding` is "xnnpack" (what LiteRT
    gives by default) or "tflite" (TFLite's reference kernels, TFLM). `shapes` gives inputs, by name, other shapes than the
    file's.

    A model with an operation that edgeq lacks is run by ai-edge-litert or tflite-runtime, if one is installed: a
    FallbackWarning says so, and the result is an edgeq.fallback.FallbackModel. Its plain bytes leave edgeq with that, so
    an encrypted bundle must be granted for `export`. With backend="native" such a model is refused instead.

    Raises what `read_model` raises, and ModelError and its kinds for a model that is malformed, unsound or not supported.
    """
    check_backend(backend)
    data = read_model(path, grant=grant, identity=identity, trust=trust, state=state, passphrase=passphrase)
    # Imported here: verifying and granting need neither NumPy nor the kernels.
    from edgeq import fallback
    from edgeq.check import check
    from edgeq.engine import build
    from edgeq.fallback import FallbackModel, FallbackWarning
    from edgeq.shapes import resize
    from edgeq.tflite import read

    graph = read(data)
    check(graph)
    given = _by_index(shapes or {}, dict(zip(graph.input_names(), graph.inputs, strict=True)))
    try:
        return build(resize(graph, given) if given else graph, rounding=rounding, threads=threads)
    except UnsupportedError:
        findings = fallback.lacking(graph, rounding)
        if not findings:
            raise
    may_leave = grant is None or allows(grant, trust, path, "export")
    runtime = fallback.choose(findings, rounding, backend, may_leave)
    model = FallbackModel(graph, bytes(data), findings, runtime, rounding=rounding, threads=threads, shapes=given)
    warnings.warn(f"{path}: {model.why()}", FallbackWarning, stacklevel=2)
    return model


def check_backend(backend: str) -> None:
    """Raise InputError unless there is a backend of this name."""
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}, 'auto' or 'native' is expected")


def allows(grant: GrantLike, trust: TrustLike | None, path: PathLike, operation: str) -> bool:
    """Whether a grant that has opened the bundle at `path` allows this operation too."""
    return operation in grants.verify(_grant(grant), _trust(trust, path)).operations


def open_tflite(
    path: PathLike,
    *,
    grant: GrantLike | None = None,
    identity: IdentityLike | None = None,
    trust: TrustLike | None = None,
    state: StateLike | None = None,
    passphrase: bytes | None = None,
) -> bytes:
    """The plain .tflite bytes of a bundle, for `Interpreter(model_content=…)` of any TFLite runtime.

    An encrypted bundle needs a grant that allows `export`: what leaves is out of edgeq's hands. A runtime may keep
    pointing at the bytes instead of copying them, so keep them as long as its interpreter.

    Raises what `read_model` raises.
    """
    return bytes(
        read_model(
            path,
            grant=grant,
            identity=identity,
            trust=trust,
            state=state,
            operation="export",
            passphrase=passphrase,
        )
    )


def verify(path: PathLike, *, trust: TrustLike) -> Verified:
    """The bundle or signed directory at `path`, whole and signed by a publisher in `trust`. Nothing is decrypted.

    Raises UnsignedError for a plain model, InputError, NotAModelError, TrustError and its kinds.
    """
    believed = believe(trust)
    with open_source(path) as source:
        if isinstance(source, PlainModel):
            raise UnsignedError(f"{path}: a plain model, which carries no signature")
        if isinstance(source, StoredBundle):
            return bundle.complete(_open_signed(source, believed), source.payload.sha256())
        statement = oms.verify(source.signature, believed)
        found = source.digests()
        if odd := found.keys() ^ statement.digests.keys():
            names = ", ".join(sorted(odd))
            raise FileSetError(f"{path}: files that are not signed, or signed files that are missing: {names[:128]!a}")
        for name, digest in found.items():
            bundle.check_digest(name, digest, statement.digests)
        return Verified(statement.signer, statement.digests)


def inspect_bundle(path: PathLike) -> Manifest:
    """The manifest that the bundle at `path` claims to have, unverified: for display, never for a decision.

    Raises InputError, NotAModelError, TrustError and its kinds for a file whose manifest cannot be read.
    """
    with open_source(path) as source:
        if not isinstance(source, StoredBundle):
            raise ContainerError(f"{path}: expected a bundle")
        return manifests.parse(source.manifest)


def believe(trust: TrustLike) -> Trust:
    """Whom `trust` means: as a Trust, the keys of publishers, or the paths of their .pub files.

    Raises InputError, KeyFileError for a path that holds no such key.
    """
    if isinstance(trust, Trust):
        return trust
    given = [trust] if isinstance(trust, str | os.PathLike | PublisherPublic) else trust
    return Trust(tuple(key if isinstance(key, PublisherPublic) else keys.load_publisher_public(key) for key in given))


def _open_signed(source: StoredBundle, trust: Trust) -> Signed:
    signed = bundle.open_signed(source.manifest, source.signature, trust)
    bundle.check_payload_size(signed, source.payload.size)
    return signed


def _open_plain(source: StoredBundle, request: Request, store: Store | None) -> memoryview:
    """The payload of a signed-only bundle: hashed in the buffer that is returned, so nothing can come between."""
    _check(request, store)
    model = source.payload.read()
    bundle.complete(request.signed, hashlib.sha256(model).hexdigest())
    _remember(request, store)
    return model


def _open_encrypted(
    source: StoredBundle, request: Request, held: Grant, device: Identity, store: Store | None
) -> memoryview:
    """The decrypted model, if every rule allows it."""
    _check(request, store)
    key = grants.open_key(held, device, request.signed.manifest)
    return _decrypt(source, request.signed, key, lambda: _remember(request, store))


def _check(request: Request, store: Store | None) -> None:
    """Hold every rule against the opening, before anything is decrypted."""
    if store is None:
        admit.check(request, None)
    else:
        store.check(request)


def _remember(request: Request, store: Store | None) -> None:
    """Hold the rules against what the device remembers by now, another process may have come before, and write it."""
    if store is not None:
        store.remember(request)


def _decrypt(source: StoredBundle, signed: Signed, key: ContentKey, remember: Callable[[], None]) -> memoryview:
    """The decrypted model. Nobody looks at the plaintext before every chunk, the digest of the stored bytes and the inner
    signature have turned out right and `remember` has returned.

    Hashing and decrypting read the file each on their own. If it is changed between the two, what is decrypted still has
    to pass the inner signature, so nothing but the sealed model comes out.
    """
    # Locals hold views, never the bytes themselves: a traceback that prints local variables prints no model.
    plaintext = memoryview(bytearray(signed.manifest.plaintext_size))
    model = plaintext[: signed.manifest.payload_size].toreadonly()
    with _hashing(source.payload) as stored:
        stream.decrypt_into(plaintext, key, signed.manifest_hash, source.payload.chunks(stream.SEALED_CHUNK))
        try:
            bundle.check_plaintext(signed, hashlib.sha256(model).digest(), bytes(plaintext[len(model) :]))
            bundle.complete(signed, stored())
            remember()
        except BaseException:
            stream.wipe(plaintext)
            raise
    return model


@contextmanager
def _hashing(payload: Stored) -> Iterator[Callable[[], str]]:
    """Gives a function that returns the payload's SHA-256 (hex), computed on another core meanwhile if that pays."""
    if payload.size < _WORTH_A_THREAD:
        yield payload.sha256
    else:
        from concurrent.futures import ThreadPoolExecutor  # 6 ms that small models need not wait for

        with ThreadPoolExecutor(max_workers=1) as pool:
            yield pool.submit(payload.sha256).result


def _by_index(shapes: Mapping[str, Sequence[int]], inputs: Mapping[str, int]) -> dict[int, Sequence[int]]:
    if unknown := shapes.keys() - inputs.keys():
        raise InputError(f"shapes are given for {sorted(unknown)}, the inputs are named {sorted(inputs)}")
    return {inputs[name]: shape for name, shape in shapes.items()}


def _trust(trust: TrustLike | None, path: PathLike) -> Trust:
    if trust is None:
        raise UntrustedKeyError(f"{path}: a signed bundle, but no trust was given, so no signature counts")
    return believe(trust)


def _grant(grant: GrantLike) -> bytes:
    return grant if isinstance(grant, bytes) else read_limited(grant, limits.GRANT)


def _device(
    identity: IdentityLike | None, state: StateLike | None, passphrase: bytes | None, path: PathLike
) -> Identity:
    if identity is None and isinstance(state, Store):
        return state.identity
    if identity is None:
        raise NoGrantError(
            f"{path}: no identity (the device's key) was given, which an encrypted bundle or a state needs"
        )
    return keys.load_device(identity, passphrase=passphrase) if isinstance(identity, str | os.PathLike) else identity


def _store(state: StateLike, device: Identity) -> Store:
    if not isinstance(state, Store):
        return Store(Path(state), device)
    if state.device != device.public.key_id:
        raise StateDeviceError(f"the state is of device {state.device[:16]}…, this is {device.public.key_id[:16]}…")
    return state
