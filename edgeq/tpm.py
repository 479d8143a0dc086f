"""Device keys in a TPM 2.0, at a persistent handle. Needs the extra `tpm` (tpm2-pytss, and the system's libtss2).

    tpm2:0x81010007
    tpm2:0x81010007?tcti=swtpm:host=127.0.0.1,port=2321

`tcti` says how the TPM is reached, by default as tss2 finds it; the passphrase is the key's own, if it has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from edgeq.chip import SECRET_SIZE, ChipKey, recipient
from edgeq.errors import InputError, KeyFileError, OutputError, PassphraseError, WrappedKeyError

# Of the owner hierarchy: TCG PC Client Platform TPM Profile, section 3.8.
_HANDLES: Final = range(0x81000000, 0x81800000)
_NAME = re.compile(r"tpm2:(0x[0-9a-fA-F]{8})(?:\?tcti=([A-Za-z0-9:=.,/_-]{1,256}))?")

_LOCKOUT: Final = 0x921  # TPM_RC_LOCKOUT
_TEMPLATE: Final = "ecc:ecdh"
_ATTRIBUTES: Final = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|decrypt"


@dataclass(frozen=True)
class Place:
    """Where a key is: its persistent handle, and how the TPM is reached (None: as tss2 finds it)."""

    handle: int
    tcti: str | None

    @classmethod
    def parse(cls, name: str) -> Place:
        """The place that `tpm2:…` names; raises InputError."""
        found = _NAME.fullmatch(name)
        if found is None or int(found[1], 16) not in _HANDLES:
            raise InputError(f"{name}: expected tpm2:0x81000000 to 0x817fffff, perhaps with ?tcti=…")
        return cls(int(found[1], 16), found[2])


def load(name: str, password: bytes | None) -> ChipKey:
    """The device key at this handle; raises InputError, KeyFileError, PassphraseError."""
    place = Place.parse(name)
    with _tpm(place) as (tss, tpm):
        handle = _handle(tss, tpm, place)
        public = tpm.read_public(handle)[0].publicArea
        if password is None and not int(public.objectAttributes) & int(tss.TPMA_OBJECT.NODA):
            raise PassphraseError(
                f"{name}: the key needs its passphrase"
            )  # not asked of the TPM, which counts failures
        try:
            both = (public.unique.ecc.x, public.unique.ecc.y)
            point = b"\x04" + b"".join(bytes(part).rjust(SECRET_SIZE, b"\x00") for part in both)
            found = recipient(point)
        except (ValueError, AttributeError, TypeError):
            raise KeyFileError(f"{name}: the key at this handle is not on P-256") from None

    def exchange(other: bytes) -> bytes:
        with _tpm(place) as (tss, tpm):
            handle = _handle(tss, tpm, place)
            try:
                tpm.tr_set_auth(handle, password or b"")
                given = tss.TPM2B_ECC_POINT(tss.TPMS_ECC_POINT(x=other[1:33], y=other[33:]))
                shared = tpm.ecdh_zgen(handle, given)
                return bytes(shared.point.x).rjust(SECRET_SIZE, b"\x00")
            except tss.TSS2_Exception as error:
                if (error.rc & 0xBF) in (0x8E, 0xA2):  # TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH
                    raise PassphraseError(f"{name}: the key needs another passphrase") from None
                if error.rc == _LOCKOUT:
                    raise PassphraseError(
                        f"{name}: the TPM is locked after wrong passphrases: try again later"
                    ) from None
                raise WrappedKeyError(f"{name}: the TPM agreed on no secret: {error}") from None

    exchange(point)  # or the passphrase would turn out wrong later, where nobody asks for another
    return ChipKey(found, exchange)


def create(name: str, password: bytes | None) -> ChipKey:
    """A fresh device key, made in the TPM; raises as `load` does, OutputError if the handle is taken or it cannot be made."""
    place = Place.parse(name)
    with _tpm(place) as (tss, tpm):
        if _is_taken(tss, tpm, place):
            raise OutputError(f"{name}: there is a key at this handle already; it was left as it is")
        try:
            parent = tpm.create_primary(None, "ecc", tss.ESYS_TR.OWNER)[0]  # the storage key, the same every time
            sensitive = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(userAuth=password or b""))
            # A passphrase is guarded against guessing by the TPM's lockout; a key without one must not be locked.
            attributes = tss.TPMA_OBJECT.parse(_ATTRIBUTES if password else f"{_ATTRIBUTES}|noda")
            public = tss.TPM2B_PUBLIC.parse(_TEMPLATE, objectAttributes=attributes)
            private, public = tpm.create(parent, sensitive, public)[:2]
            made = tpm.load(parent, private, public)
            tpm.evict_control(tss.ESYS_TR.OWNER, made, place.handle)
            tpm.flush_context(made)
            tpm.flush_context(parent)
        except tss.TSS2_Exception as error:
            raise OutputError(f"{name}: the TPM made no key: {error}") from None
    return load(name, password)


def _is_taken(tss: Any, tpm: Any, place: Place) -> bool:
    _, found = tpm.get_capability(tss.TPM2_CAP.HANDLES, place.handle, 1)
    handles = list(found.data.handles)
    return bool(handles) and int(handles[0]) == place.handle


def _handle(tss: Any, tpm: Any, place: Place) -> Any:
    if not _is_taken(tss, tpm, place):
        raise KeyFileError(f"tpm2: there is no key at handle {place.handle:#x} (edgeq keys new device makes one)")
    return tpm.tr_from_tpmpublic(place.handle)


@contextmanager
def _tpm(place: Place) -> Iterator[tuple[Any, Any]]:
    """tpm2_pytss and a connection to the TPM: opened for each use, so that the TPM is not kept from others."""
    try:
        import tpm2_pytss
    except ImportError:
        raise InputError("tpm2: tpm2-pytss is not installed (pip install 'edgeq[tpm]'; it needs libtss2)") from None
    try:
        connection = tpm2_pytss.ESAPI(place.tcti)
    except tpm2_pytss.TSS2_Exception as error:
        raise KeyFileError(f"tpm2: the TPM cannot be reached: {error}") from None
    with connection:
        yield tpm2_pytss, connection
