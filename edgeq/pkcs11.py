"""Device keys in a PKCS#11 token: a smart card, a secure element, SoftHSM. Needs the extra `pkcs11` (python-pkcs11).

    pkcs11:token=fleet;object=gate-7?module-path=/usr/lib/softhsm/libsofthsm2.so

Token, object and module are named as in RFC 7512; the PIN is the passphrase.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from edgeq.chip import POINT_SIZE, SECRET_SIZE, ChipKey, recipient
from edgeq.errors import InputError, KeyFileError, OutputError, PassphraseError, WrappedKeyError

_PART = re.compile(r"[a-z-]+=[^;?&]*")
_OCTETS = b"\x04\x41"  # CKA_EC_POINT is a DER OCTET STRING of the point


@dataclass(frozen=True)
class Place:
    """Where a key is: the library that reaches the token, the token's label, the key's label."""

    module: str
    token: str
    label: str

    @classmethod
    def parse(cls, uri: str) -> Place:
        """The place that a URI names; raises InputError for one that says less or more."""
        path, _, query = uri.removeprefix("pkcs11:").partition("?")
        parts = [*path.split(";"), *query.split("&")]
        given = dict(part.split("=", 1) for part in parts if _PART.fullmatch(part))
        if len(given) != len(parts) or given.keys() != {"token", "object", "module-path"}:
            raise InputError(f"{uri}: expected pkcs11:token=…;object=…?module-path=…, each once")
        return cls(*(unquote(given[name]) for name in ("module-path", "token", "object")))


def load(uri: str, pin: bytes | None) -> ChipKey:
    """The device key that is there; raises InputError, KeyFileError, PassphraseError."""
    return _key(Place.parse(uri), pin)


def create(uri: str, pin: bytes | None) -> ChipKey:
    """A fresh device key, made in the token; raises as `load` does, OutputError if the label is taken or it cannot be made."""
    place = Place.parse(uri)
    with _session(place, pin, write=True) as (p, session):
        if list(session.get_objects({p.Attribute.LABEL: place.label})):
            raise OutputError(f"{uri}: there is an object of this label already; it was left as it is")
        curve = p.util.ec.encode_named_curve_parameters("secp256r1")
        parameters = session.create_domain_parameters(p.KeyType.EC, {p.Attribute.EC_PARAMS: curve}, local=True)
        never = {p.Attribute.SENSITIVE: True, p.Attribute.EXTRACTABLE: False}
        try:
            parameters.generate_keypair(
                store=True,
                label=place.label,
                capabilities=p.MechanismFlag.DERIVE,
                private_template=never,
            )
        except p.exceptions.PKCS11Error as error:
            raise OutputError(f"{uri}: the token made no key: {type(error).__name__}") from None
    return _key(place, pin)


def _key(place: Place, pin: bytes | None) -> ChipKey:
    with _session(place, pin) as (p, session):
        try:
            public = session.get_key(object_class=p.ObjectClass.PUBLIC_KEY, label=place.label)
            session.get_key(object_class=p.ObjectClass.PRIVATE_KEY, label=place.label)
            point = bytes(public[p.Attribute.EC_POINT])
        except p.exceptions.PKCS11Error as error:
            raise KeyFileError(
                f"pkcs11: no key pair {place.label!a} in token {place.token!a}: {type(error).__name__}"
            ) from None
        try:
            found = recipient(point.removeprefix(_OCTETS) if len(point) > POINT_SIZE else point)
        except ValueError:
            raise KeyFileError(f"pkcs11: the key {place.label!a} is not on P-256") from None

    def exchange(other: bytes) -> bytes:
        with _session(place, pin) as (p, session):
            try:
                private = session.get_key(object_class=p.ObjectClass.PRIVATE_KEY, label=place.label)
                shared = private.derive_key(
                    p.KeyType.GENERIC_SECRET,
                    8 * SECRET_SIZE,
                    mechanism_param=(p.KDF.NULL, None, other),
                    template={p.Attribute.SENSITIVE: False, p.Attribute.EXTRACTABLE: True},
                )
                return bytes(shared[p.Attribute.VALUE])
            except p.exceptions.PKCS11Error as error:
                raise WrappedKeyError(f"pkcs11: the token agreed on no secret: {type(error).__name__}") from None

    return ChipKey(found, exchange)


@contextmanager
def _session(place: Place, pin: bytes | None, *, write: bool = False) -> Iterator[tuple[Any, Any]]:
    """python-pkcs11 and a session with the token: opened for each use, so that none is inherited by another process."""
    try:
        import pkcs11
        import pkcs11.util.ec
    except ImportError:
        raise InputError("pkcs11: python-pkcs11 is not installed (pip install 'edgeq[pkcs11]')") from None
    if pin is None:
        raise PassphraseError(f"pkcs11: the token {place.token!a} needs its PIN")
    try:
        token = pkcs11.lib(place.module).get_token(token_label=place.token)
        session = token.open(user_pin=pin.decode("utf-8", "replace"), rw=write)
    except (pkcs11.exceptions.PinIncorrect, pkcs11.exceptions.PinLenRange, pkcs11.exceptions.PinLocked) as error:
        raise PassphraseError(f"pkcs11: the PIN of token {place.token!a} is refused: {type(error).__name__}") from None
    except (pkcs11.exceptions.PKCS11Error, RuntimeError, OSError) as error:
        raise KeyFileError(f"pkcs11: {place.module} has no token {place.token!a}: {type(error).__name__}") from None
    with session:
        yield pkcs11, session
