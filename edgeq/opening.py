"""From a path to the bytes of a model: every question that is asked before anybody parses them.

The order never changes: cap the size, verify the signature, check the grant and what the device remembers, decrypt.
Plaintext is never written anywhere: it is in one buffer, which is wiped if anything about it turns out wrong.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from edgeq import admit, bundle, errors, identities, keys, limits, oms, stream
from edgeq import grant as grants
from edgeq import manifest as manifests
from edgeq import trust as trusts
from edgeq.admit import Request
from edgeq.bundle import Signed, Verified
from edgeq.errors import InputError, TrustError
from edgeq.fields import OPERATIONS
from edgeq.files import PathLike, read_limited
from edgeq.grant import Grant
from edgeq.keys import PublisherPublic
from edgeq.locked import LockedMemory
from edgeq.manifest import Manifest
from edgeq.recipients import ContentKey, Identity
from edgeq.records import dataclass, field
from edgeq.shelf import Shelf
from edgeq.source import PlainModel, StoredBundle, StoredDirectory, open_source
from edgeq.trust import Trust

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    from edgeq.device import Store
    from edgeq.overlay import Base
    from edgeq.root import Root

_WORTH_A_THREAD: Final = 1024 * 1024
_AT_ONCE: Final = 16  # chunks that are hashed together behind

GrantLike = PathLike | bytes
"""The path of an .eqg file, or its content."""

IdentityLike = PathLike | Identity
"""The path of a device's .key file, the name of its key in a chip (edgeq.identities), or whatever else is an Identity."""

TrustLike = PathLike | PublisherPublic | Trust | Sequence[PathLike | PublisherPublic]
"""The path of a root or of a publisher's .pub file, its keys, several publishers, or a Trust."""

OverlayLike = PathLike | bytes
"""The path of an .eqo file, or its content."""

StateLike: TypeAlias = "PathLike | Store"
"""The path of a state directory, or a Store."""


@dataclass(frozen=True, eq=False)
class Opened:
    """The bytes of a model, read-only, and the operations that may be done with it: all, where nobody limits them.

    `memory` is where decrypted bytes lie; whoever runs the model puts its parameters there too, and wipes it in the end.
    `shelf` is where what was made of them is kept from start to start.
    """

    data: bytes | memoryview = field(repr=False)
    allowed: frozenset[str] = frozenset(OPERATIONS)
    memory: LockedMemory | None = field(default=None, repr=False)
    shelf: Shelf | None = field(default=None, repr=False)
    _request: Request | None = field(default=None, repr=False)
    _store: Store | None = field(default=None, repr=False)

    @property
    def base(self) -> Base:
        """What an overlay of this model is bound to."""
        from edgeq.overlay import Base

        if self._request is None:
            return Base(hashlib.sha256(self.data).hexdigest())
        signed = self._request.signed
        return Base(signed.payload_sha256, signed.manifest.model_id, signed.manifest.version)

    def export(self) -> None:
        """Write down, where a device state is kept, that the model is handed to another runtime.

        Raises GrantOperationError if that is not allowed, and as Store.export does.
        """
        if "export" not in self.allowed:
            raise errors.GrantOperationError(f"the grant allows {', '.join(sorted(self.allowed))}, not export")
        if self._store is not None and self._request is not None:
            self._store.export(self._request)


def open_bytes(
    path: PathLike,
    *,
    grant: GrantLike | None = None,
    identity: IdentityLike | None = None,
    trust: TrustLike | None = None,
    state: StateLike | None = None,
    operation: str | Sequence[str] = "load",
    passphrase: bytes | None = None,
    now: datetime | None = None,
) -> Opened:
    """The model behind `path`, opened for `operation`: what edgeq.loader.read_model describes, and what else is allowed."""
    operations = (operation,) if isinstance(operation, str) else tuple(operation)
    if not operations:
        raise InputError(f"{path}: expected an operation to open it for, found none")
    if unknown := sorted(set(operations) - set(OPERATIONS)):
        raise errors.GrantOperationError(f"expected operations of {', '.join(OPERATIONS)}, found {unknown[0][:64]!a}")
    with open_source(path) as source:
        if isinstance(source, PlainModel):
            if trust is not None or grant is not None or state is not None:
                raise errors.UnsignedError(
                    f"{path}: a plain model, but trust, a grant or a state was given, so a signed bundle is expected"
                )
            return Opened(source.content.read())
        if isinstance(source, StoredDirectory):
            raise errors.FileSetError(
                f"{path}: a signed directory, but not a bundle: it has no {manifests.MANIFEST_FILE}"
            )
        moment = datetime.now(timezone.utc) if now is None else now
        store = None if state is None else _store(state, _device(identity, state, passphrase, path))
        with _refusals_noted(store, moment) as known:
            known.update(admit.described(operations))
            believed = believe_here(trust, store)
            signed = _open_signed(source, believed)
            known.update(admit.described(operations, signed))
            if signed.manifest.encryption is None:
                device_id = "" if store is None else store.device
                return _open_plain(source, Request(signed, believed, operations, moment, device_id), store)
            if grant is None:
                raise errors.NoGrantError(f"{path}: the bundle is encrypted, and no grant was given")
            device = _device(identity, state, passphrase, path)
            held = grants.verify(_grant(grant), believed)
            known.update(admit.described(operations, signed, held))
            request = Request(signed, believed, operations, moment, device.public.key_id, held)
            return _open_encrypted(source, request, held, device, store)


def overlay_content(
    given: OverlayLike,
    base: Base,
    *,
    identity: IdentityLike | None = None,
    state: StateLike | None = None,
    passphrase: bytes | None = None,
) -> bytes:
    """What an overlay holds, if this device made it for this model: bytes that edgeq.changes reads.

    Raises NoGrantError without an identity, InputError, and as edgeq.overlay.open_for does.
    """
    what = "overlay" if isinstance(given, bytes) else given
    from edgeq import overlay

    data = given if isinstance(given, bytes) else read_limited(given, limits.OVERLAY)
    return overlay.open_for(data, _device(identity, state, passphrase, what), base).content


@contextmanager
def _refusals_noted(store: Store | None, now: datetime) -> Iterator[dict[str, Any]]:
    """Gives a place for what is known of an opening; if it is refused, that is written down where a state is kept."""
    known: dict[str, Any] = {}
    try:
        yield known
    except TrustError as error:
        if store is not None:
            store.refuse(error, known, now)
        raise


def verify(path: PathLike, *, trust: TrustLike, now: datetime | None = None) -> Verified:
    """The bundle or signed directory at `path`, whole and signed by a publisher in `trust`. Nothing is decrypted.

    `now` is the clock, by default the system's, which counts where `trust` is a root: what a root lets a publisher sign has
    an end.

    Raises UnsignedError for a plain model, InputError, NotAModelError, TrustError and its kinds.
    """
    believed, moment = believe(trust), datetime.now(timezone.utc) if now is None else now
    with open_source(path) as source:
        if isinstance(source, PlainModel):
            raise errors.UnsignedError(f"{path}: a plain model, which carries no signature")
        if isinstance(source, StoredBundle):
            signed = _open_signed(source, believed)
            believed.check_publisher(signed.signer.key_id, signed.manifest.model_id, moment)
            return bundle.complete(signed, source.payload.sha256())
        statement = oms.verify(source.signature, believed)
        believed.check_publisher(statement.signer.key_id, None, moment)
        if statement.signer.second is not None:
            raise errors.MissingSignatureError(
                f"{path}: a directory has no second signature, which this publisher's must have"
            )
        found = source.digests()
        if odd := found.keys() ^ statement.digests.keys():
            names = ", ".join(sorted(odd))
            raise errors.FileSetError(
                f"{path}: files that are not signed, or signed files that are missing: {names[:128]!a}"
            )
        for name, digest in found.items():
            bundle.check_digest(name, digest, statement.digests)
        return Verified(statement.signer, statement.digests)


def inspect_bundle(path: PathLike) -> Manifest:
    """The manifest that the bundle at `path` claims to have, unverified: for display, never for a decision.

    Raises InputError, NotAModelError, TrustError and its kinds for a file whose manifest cannot be read.
    """
    with open_source(path) as source:
        if not isinstance(source, StoredBundle):
            raise errors.ContainerError(f"{path}: expected a bundle")
        return manifests.parse(source.manifest)


def believe(trust: TrustLike) -> Trust:
    """Whom `trust` means: as a Trust, the path of a root, or publishers' keys or the paths of their .pub files.

    Raises InputError, KeyFileError for a path that holds neither, and what edgeq.root.verify raises.
    """
    if isinstance(trust, Trust):
        return trust
    given = [trust] if isinstance(trust, str | os.PathLike | PublisherPublic) else list(trust)
    found = [key if isinstance(key, PublisherPublic) else _believe_file(key) for key in given]
    if len(found) == 1 and not isinstance(found[0], PublisherPublic):
        return trusts.under(found[0])
    if publishers := tuple(key for key in found if isinstance(key, PublisherPublic)):
        if len(publishers) == len(found):
            return Trust(publishers)
        raise InputError("expected one root, or publishers: a root says itself whom to trust beside it")
    raise InputError(f"expected one root, or publishers, found {len(found)} roots")


def believe_here(trust: TrustLike | None, store: Store | None) -> Trust:
    """Whom to believe on a device: the root in its state, if there is one, else whom `trust` means.

    Where there is a root in the state, `trust` may only mean the same version of it: anything else is a mistake, or worse.

    Raises UntrustedKeyError if there is neither, RootMismatchError, RootVersionError, and as `believe` and Store.root do.
    """
    given = None if trust is None else believe(trust)
    held = None if store is None else store.root()
    if held is not None:
        if given is not None:
            _check_same(given.root, held)
        return trusts.under(held)
    if given is None:
        raise errors.UntrustedKeyError("no trust was given, so no signature counts (--trust)")
    return given


def _believe_file(path: PathLike) -> PublisherPublic | Root:
    data = read_limited(path, limits.ROOT)
    if data.startswith(b"{"):
        from edgeq import root

        return root.verify(data)
    return keys.parse_verifier(data, what=os.fspath(path))


def _check_same(given: Root | None, held: Root) -> None:
    if given is None:
        raise errors.UntrustedKeyError(
            "this device believes a root (edgeq device show), so a publisher's key is not enough"
        )
    if given.root_id != held.root_id:
        raise errors.RootMismatchError(
            f"this device believes root {held.root_id[:16]}…, the one given is root {given.root_id[:16]}…"
        )
    if given != held:
        raise errors.RootVersionError(
            f"this device believes version {held.version} of the root, the one given is version {given.version} "
            "(edgeq root apply takes the next one)"
        )


def _open_signed(source: StoredBundle, trust: Trust) -> Signed:
    signed = bundle.open_signed(source.manifest, source.signature, trust, source.second)
    bundle.check_payload_size(signed, source.payload.size)
    return signed


def _open_plain(source: StoredBundle, request: Request, store: Store | None) -> Opened:
    """The payload of a signed-only bundle: hashed in the buffer that is returned, so nothing can come between."""
    _check(request, store)
    model = source.payload.read()
    bundle.complete(request.signed, hashlib.sha256(model).hexdigest())
    if request.signed.manifest.payload_type == manifests.CODED:
        model = _decoded(model).toreadonly()
    _remember(request, store)
    return Opened(model, _request=request, _store=store)


def _open_encrypted(
    source: StoredBundle, request: Request, held: Grant, device: Identity, store: Store | None
) -> Opened:
    """The decrypted model, if every rule allows it."""
    _check(request, store)
    key = grants.open_key(held, device, request.signed.manifest)
    memory = LockedMemory()
    model = _decrypt(source, request.signed, key, lambda: _remember(request, store), memory)
    shelf = Shelf(key, request.signed.manifest_hash, request.signed.payload_sha256)
    return Opened(model, frozenset(held.operations), memory, shelf, request, store)


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


def _decrypt(
    source: StoredBundle, signed: Signed, key: ContentKey, remember: Callable[[], None], memory: LockedMemory
) -> memoryview:
    """The decrypted model, in `memory`. Nobody looks at the plaintext before every chunk, the digest of the stored bytes and
    the inner signature have turned out right and `remember` has returned.

    What is hashed is what is decrypted, chunk by chunk; on another core the plaintext is hashed behind it.
    """
    # Locals hold views, never the bytes themselves: a traceback that prints local variables prints no model.
    plaintext = memory.take(signed.manifest.plaintext_size)
    model = plaintext[: signed.manifest.payload_size].toreadonly()
    stored = hashlib.sha256()
    with _hashing(model) as (advance, plain):
        chunks = _hashed(source.payload.chunks(stream.SEALED_CHUNK), stored, advance)
        stream.decrypt_into(plaintext, key, signed.manifest_hash, chunks)
        try:
            bundle.check_plaintext(signed, plain(), bytes(plaintext[len(model) :]))
            bundle.complete(signed, stored.hexdigest())
            if signed.manifest.payload_type != manifests.CODED:
                remember()
                return model
            decoded = _decoded(model, memory.take)
        except BaseException:
            stream.wipe(plaintext)
            raise
    stream.wipe(plaintext)
    try:
        remember()
    except BaseException:
        stream.wipe(decoded)
        raise
    return decoded.toreadonly()


def _decoded(coded: memoryview, *take: Callable[[int], memoryview]) -> memoryview:
    """The model that a coded payload stands for."""
    from edgeq import coding

    return coding.decode(coded, *take)


def _hashed(chunks: Iterator[memoryview], digest: Hash, advance: Callable[[int], object]) -> Iterator[memoryview]:
    """The chunks, hashed on their way; `advance` hears how many were used whenever the next one is asked for."""
    for number, chunk in enumerate(chunks, 1):
        digest.update(chunk)
        yield chunk
        advance(number)


@contextmanager
def _hashing(model: memoryview) -> Iterator[tuple[Callable[[int], object], Callable[[], bytes]]]:
    """Two functions: one is told how many chunks of `model` are there, the other returns the SHA-256 of all of it, computed on
    another core meanwhile if that pays."""
    if len(model) < _WORTH_A_THREAD:
        yield lambda number: None, lambda: hashlib.sha256(model).digest()
        return
    from queue import SimpleQueue
    from threading import Thread

    digest, ends = hashlib.sha256(), SimpleQueue[int]()

    def follow() -> None:
        start = 0
        while (end := ends.get()) >= 0:
            digest.update(model[start:end])
            start = end

    def advance(number: int) -> None:
        if number % _AT_ONCE == 0:
            ends.put(min(number * limits.CHUNK, len(model)))

    def finish() -> bytes:
        ends.put(len(model))
        ends.put(-1)
        follower.join()
        return digest.digest()

    follower = Thread(target=follow, name="edgeq-hash")
    follower.start()
    try:
        yield advance, finish
    finally:
        ends.put(-1)
        follower.join()


def _grant(grant: GrantLike) -> bytes:
    return grant if isinstance(grant, bytes) else read_limited(grant, limits.GRANT)


def _device(
    identity: IdentityLike | None, state: StateLike | None, passphrase: bytes | None, path: PathLike
) -> Identity:
    if identity is None and state is not None and not isinstance(state, str | os.PathLike):
        return state.identity
    if identity is None:
        raise errors.NoGrantError(
            f"{path}: no identity (the device's key) was given, which an encrypted bundle, an overlay or a state needs"
        )
    return identities.load(identity, passphrase=passphrase) if isinstance(identity, str | os.PathLike) else identity


def _store(state: StateLike, device: Identity) -> Store:
    if isinstance(state, str | os.PathLike):
        from edgeq.device import Store

        return Store(Path(state), device)
    if state.device != device.public.key_id:
        raise errors.StateDeviceError(
            f"the state is of device {state.device[:16]}…, this is {device.public.key_id[:16]}…"
        )
    return state
