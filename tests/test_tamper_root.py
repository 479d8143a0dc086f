"""The tamper matrix, rows 8 to 10, 18, 20 to 22 and 27 under a root: who may sign what, and how a root follows another."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from faults import failing_at_every_call, killed_at_every_call
from refusals import refused
from rooted import countersigned, first, following, handed_on, issuer, new_signer, owner, signed, status_key, trusting
from trusted import (
    LATER,
    NOW,
    Case,
    device,
    edit_json,
    good_case,
    granted,
    new_publisher,
    plain,
    publisher,
    sealed,
    signed_again,
    stranger,
    trust,
)

from edgeq import bundle, grant, opening, root, status
from edgeq import device as devices
from edgeq.device import Store
from edgeq.errors import (
    BadSignatureError,
    ClockSetBackError,
    DelegationExpiredError,
    DelegationModelError,
    DelegationOperationError,
    EdgeqError,
    EncodingError,
    EnvelopeError,
    GrantConditionError,
    GrantDeviceError,
    GrantIssuerError,
    GrantOperationError,
    InputError,
    RevokedDeviceError,
    RevokedKeyError,
    RootExpiredError,
    RootMismatchError,
    RootThresholdError,
    RootVersionError,
    SignatureCountError,
    StateDamagedError,
    StatusRollbackError,
    UntrustedKeyError,
    WrappedKeyError,
)
from edgeq.root import Root
from edgeq.trust import Trust

SECOND = timedelta(seconds=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A state directory of the device, which believes the first version of the root."""
    devices.init(tmp_path / "state", device(), now=NOW, root=signed(first(), 0, 1))
    return Store(tmp_path / "state", device())


# --- row 21: thresholds -----------------------------------------------------------------------------------------------


def test_row_21_one_key_twice() -> None:
    """Two signatures by one key are not two: the envelope is refused, not counted."""
    data = signed(first(), 0)
    for change in (
        lambda value: value["signatures"].append(value["signatures"][0]),
        lambda value: value["signatures"].append({**value["signatures"][0], "sig": again(data)}),
    ):
        with refused(SignatureCountError, match="by one key"):
            root.verify(edit_json(data, change))


def again(data: bytes) -> str:
    """Another valid signature by the first owner: ECDSA has many."""
    return root.strict.to_base64(owner(0).sign(root.parse(data).envelope.signed_bytes))


def test_row_21_one_key_by_another_name() -> None:
    """The signature of one owner under the id of another, or of nobody, is not a second one."""
    data = signed(first(), 0)

    def renamed(name: str) -> Callable[[Any], None]:
        def change(value: Any) -> None:
            value["signatures"] = sorted(
                [*value["signatures"], {**value["signatures"][0], "keyid": name}], key=lambda entry: entry["keyid"]
            )

        return change

    with refused(BadSignatureError):
        root.verify(edit_json(data, renamed(owner(1).public.key_id)))
    for name in ("", "00" * 32, owner(0).public.key_id.upper()):
        with refused(RootThresholdError, match="1 of the owners"):
            root.verify(edit_json(data, renamed(name)))


def test_row_21_too_few() -> None:
    """A root with fewer signatures of its owners than its threshold is refused, whoever else has signed it."""
    for data in (
        root.draft(first()),
        signed(first(), 1),
        countersigned(signed(first(), 1), [new_signer(), status_key(), new_signer()]),
    ):
        with refused(RootThresholdError):
            root.verify(data)
    for several in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):
        assert root.verify(signed(first(), *several)) == first()


def test_row_21_lowered_threshold() -> None:
    """Neither threshold nor owners can be edited under the signatures that are there."""
    data = signed(first(), 0, 1)
    weaker = root.draft(replace(first(), threshold=1))
    for other in (weaker, root.draft(following(first()))):
        signatures = root.parse(data).envelope.signatures
        forged = replace(root.parse(other).envelope, signatures=signatures)
        with refused(BadSignatureError):
            root.verify(root.strict.canonical(forged.to_json()))


def test_row_12_stripped_signature() -> None:
    """Taking away one of two signatures that a root needs leaves no root."""
    data = signed(first(), 0, 1)
    for place in (0, 1):
        with refused(RootThresholdError):
            root.verify(edit_json(data, lambda value, place=place: value["signatures"].pop(place)))


FORGED: list[tuple[str, Callable[[dict[str, Any]], object], type[EdgeqError], int]] = [
    ("empty signature", lambda value: value["signatures"][0].update(sig=""), SignatureCountError, 9),
    ("signature of zeros", lambda value: value["signatures"][0].update(sig="AAAAAAAA"), BadSignatureError, 9),
    ("no signatures", lambda value: value.update(signatures=[]), RootThresholdError, 9),
    ("signatures out of order", lambda value: value["signatures"].reverse(), EdgeqError, 9),
    (
        "a status's type",
        lambda value: value.update(payloadType="application/vnd.edgeq.status.v1+json"),
        EnvelopeError,
        10,
    ),
    ("base64 with a line end", lambda value: value.update(payload=value["payload"] + "\n"), EncodingError, 13),
]


@pytest.mark.parametrize(("change", "error", "row"), [pytest.param(c, e, r, id=name) for name, c, e, r in FORGED])
def test_forged_root(change: Callable[[Any], object], error: type[EdgeqError], row: int) -> None:
    """A root whose envelope was changed in any way is refused."""
    with refused(error, row=row):
        root.verify(edit_json(signed(first(), 0, 1), change))


# --- row 20: rotation -------------------------------------------------------------------------------------------------


def renewed() -> Root:
    """A second version with other owners: the first one's owner 2 stays, 3 and 4 are new."""
    made = root.next_version(first(), now=NOW, threshold=1, remove=frozenset(owner(i).public.key_id for i in (0, 1)))
    return replace(root.with_owner(root.with_owner(made, owner(3).public), owner(4).public), threshold=2)


def test_row_20_rotation_takes_both(store: Store) -> None:
    """A version with other owners is followed if enough of the old and enough of the new owners signed it."""
    assert store.apply_root(signed(renewed(), 0, 1, 3, 4), now=NOW) == renewed()
    assert store.read().root.version == 2


SIGNERS = [
    ("only new", (3, 4), "of version 1"),
    ("only old", (0, 1), "of version 2"),
    ("all new, one old", (2, 3, 4), "of version 1"),
    ("one of both", (2,), "of version 1"),
    ("nobody", (), "of version 1"),
    ("strangers", (7, 8, 9), "of version 1"),
]


@pytest.mark.parametrize(("owners", "text"), [pytest.param(o, t, id=name) for name, o, t in SIGNERS])
def test_row_20_rotation_by_one_side(store: Store, owners: tuple[int, ...], text: str) -> None:
    """A version that only the new, only the old, or too few of either have signed is not followed."""
    with refused(RootThresholdError, match=text):
        store.apply_root(signed(renewed(), *owners), now=NOW)
    assert store.read().root.version == 1


def test_row_20_one_that_stays_counts_for_both(store: Store) -> None:
    """An owner of both versions signs once, for both."""
    assert store.apply_root(signed(renewed(), 0, 2, 3), now=NOW).version == 2


def test_row_20_skipped_version(store: Store) -> None:
    """A version is not skipped, even if the owners of all versions have signed."""
    second, third = following(first()), following(following(first()))
    for skipping in (third, replace(second, version=2**53 - 1)):
        with refused(RootVersionError, match="expected version 2"):
            store.apply_root(signed(skipping, 0, 1, 2), now=NOW)
    store.apply_root(signed(second, 0, 1), now=NOW)
    assert store.apply_root(signed(third, 0, 1), now=NOW).version == 3


def test_row_20_older_and_other_versions(store: Store) -> None:
    """A device does not go back to a version, nor to another root of the same version."""
    second = signed(following(first()), 0, 1)
    store.apply_root(second, now=NOW)
    other = replace(following(first()), publishers={})
    other = replace(other, keys={name: other.keys[name] for name in other.named()})
    for data in (signed(first(), 0, 1), signed(first(), 0, 1, 2), signed(other, 0, 1)):
        with refused(RootVersionError, match="expected version 3"):
            store.apply_root(data, now=NOW)
    assert store.apply_root(second, now=NOW).version == 2


def test_row_20_another_root(store: Store) -> None:
    """Another root, were it by the same owners, does not take the place of the one that a device believes."""
    other = replace(following(first()), root_id="ab" * 32)
    with refused(RootMismatchError):
        store.apply_root(signed(other, 0, 1, 2), now=NOW)


def test_row_20_expired_and_future_roots(tmp_path: Path, store: Store) -> None:
    """A root that has expired, or whose date the clock has not reached, is not taken."""
    ending = replace(following(first()), expires=int(LATER.timestamp()))
    with refused(RootExpiredError):
        store.apply_root(signed(ending, 0, 1), now=LATER)
    future = replace(following(first()), issued=int(LATER.timestamp()))
    with refused(ClockSetBackError):
        store.apply_root(signed(future, 0, 1), now=NOW)
    store.apply_root(signed(ending, 0, 1), now=NOW)
    case = good_case().but(trust=None, state=store)
    assert case.but(now=LATER - SECOND).load(tmp_path)
    with refused(RootExpiredError):
        case.but(now=LATER).load(tmp_path)


def test_row_20_removed_owners_sign_nothing_more(store: Store) -> None:
    """Once owners are gone, versions that they sign are not followed, even in the old version's name."""
    store.apply_root(signed(renewed(), 0, 1, 3, 4), now=NOW)
    with refused(RootThresholdError):
        store.apply_root(signed(following(renewed()), 0, 1), now=NOW)
    with refused(RootVersionError):
        store.apply_root(signed(following(first()), 0, 1), now=NOW)


def test_row_20_root_file_in_the_state(tmp_path: Path, store: Store) -> None:
    """The root's file in the state directory cannot be replaced, emptied or deleted."""
    (path,) = store.folder.glob("root-*.json")
    good, case = path.read_bytes(), good_case().but(trust=None, state=store.folder)
    assert case.load(tmp_path)
    for content in (signed(following(first()), 0, 1), b"", good[:-1]):
        path.write_bytes(content)
        with refused(StateDamagedError):
            case.load(tmp_path)
    path.unlink()
    with refused(StateDamagedError):
        case.load(tmp_path)


def test_row_20_root_replaced_while_opening(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root that is applied while a model is being decrypted is not passed over: the opening is made anew."""
    remember = Store.remember

    def replace_first(self: Store, request: Any) -> None:
        monkeypatch.setattr(Store, "remember", remember)
        Store(store.folder, device()).apply_root(signed(following(first()), 0, 1), now=NOW)
        remember(self, request)

    monkeypatch.setattr(Store, "remember", replace_first)
    case = good_case().but(trust=None, state=store)
    with refused(RootVersionError, match="try again"):
        case.load(tmp_path)
    assert case.load(tmp_path)


# --- a device that believes a root believes nothing else --------------------------------------------------------------


def test_row_18_older_root_is_given(tmp_path: Path, store: Store) -> None:
    """--trust with an older version of the root than the device has is refused, as is a newer one that it has not taken."""
    second = following(first())
    case = good_case().but(state=store)
    assert case.but(trust=trusting()).load(tmp_path)
    with refused(RootVersionError, match="edgeq root apply"):
        case.but(trust=trusting(second)).load(tmp_path)
    store.apply_root(signed(second, 0, 1), now=NOW)
    with refused(RootVersionError):
        case.but(trust=trusting()).load(tmp_path)
    assert case.but(trust=trusting(second)).load(tmp_path)
    assert case.but(trust=None).load(tmp_path)


def test_row_08_bare_key_beside_a_root(tmp_path: Path, store: Store) -> None:
    """Where the device believes a root, naming a publisher's key does not widen it: neither a stranger's nor its own."""
    theirs = good_case().but(trust=Trust((stranger().public,)), state=store)
    for given in (theirs, theirs.but(trust=trust())):
        with refused(UntrustedKeyError, match="believes a root"):
            given.load(tmp_path)
    with refused(RootMismatchError):
        theirs.but(trust=trusting(replace(first(), root_id="cd" * 32))).load(tmp_path)


# --- rows 8 and 22: delegations ---------------------------------------------------------------------------------------


def test_a_root_opens_what_it_delegates(tmp_path: Path) -> None:
    """Under a root, bundles of its publishers open, granted by the publisher or by an issuer, encrypted or not."""
    assert good_case().but(trust=trusting()).load(tmp_path)
    assert good_case().but(trust=trusting(), grant=handed_on()).load(tmp_path)
    assert Case(plain().to_bytes(), trust=trusting()).load(tmp_path)


def test_row_08_not_a_publisher(tmp_path: Path) -> None:
    """Owners, issuers and status keys sign no bundles, and a publisher that was removed does not any more."""
    gone = root.next_version(first(), now=NOW, remove=frozenset({publisher().public.key_id}))
    with refused(UntrustedKeyError):
        good_case().but(trust=trusting(gone)).load(tmp_path)
    source = opening.bundle.parse(good_case().data)
    for key in (issuer(), stranger()):
        with refused(UntrustedKeyError):
            good_case().but(data=signed_again(source, key).to_bytes(), trust=trusting()).load(tmp_path)


@pytest.mark.parametrize("models", [("acme/other",), ("acme/spotter/*",), ("acme/spotte",), ("b/*", "other")])
@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_22_publisher_of_other_models(tmp_path: Path, models: tuple[str, ...], encrypt: bool) -> None:
    """A publisher's signature counts for the models that the root gave it, and for no other."""
    narrow = root.with_publisher(first(), publisher().public, frozenset(models), LATER)
    case = good_case() if encrypt else Case(plain().to_bytes())
    with refused(DelegationModelError, match="'acme/spotter'"):
        case.but(trust=trusting(narrow)).load(tmp_path)
    path = tmp_path / "case.eqb"
    with refused(DelegationModelError):
        opening.verify(path, trust=trusting(narrow), now=NOW)


def test_row_24_publisher_until(tmp_path: Path) -> None:
    """A publisher's signature counts until the root's end for it, for opening and verifying alike."""
    case = good_case().but(trust=trusting())
    assert case.but(now=LATER - SECOND).load(tmp_path)
    opening.verify(tmp_path / "case.eqb", trust=trusting(), now=LATER - SECOND)
    with refused(DelegationExpiredError):
        case.but(now=LATER).load(tmp_path)
    with refused(DelegationExpiredError):
        opening.verify(tmp_path / "case.eqb", trust=trusting(), now=LATER)


@pytest.mark.parametrize("year", [1, 1970, 2029])
@pytest.mark.parametrize("encrypt", [True, False], ids=["encrypted", "signed only"])
def test_row_24_clock_before_the_root(tmp_path: Path, year: int, encrypt: bool) -> None:
    """Without a state too, a clock behind the root's own date lets nothing through that may have come to its end."""
    case = good_case() if encrypt else Case(plain().to_bytes())
    then = NOW.replace(year=year)
    with refused(ClockSetBackError, match="set the clock"):
        case.but(trust=trusting(), now=then).load(tmp_path)
    with refused(ClockSetBackError):
        opening.verify(tmp_path / "case.eqb", trust=trusting(), now=then)


def test_row_22_directory_without_a_model_id(tmp_path: Path) -> None:
    """A signed directory that is no bundle is a publisher's only if the root gave it every model."""
    folder = tmp_path / "any"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"weights")
    digest = bundle.hashlib.sha256(b"weights").hexdigest()
    (folder / "model.sig").write_bytes(opening.oms.sign(publisher(), {"weights.bin": digest}, "any"))
    with refused(DelegationModelError, match="without a model id"):
        opening.verify(folder, trust=trusting(), now=NOW)
    wide = root.with_publisher(first(), publisher().public, frozenset({"*"}), LATER)
    assert opening.verify(folder, trust=trusting(wide), now=NOW).manifest is None


def test_row_22_issuer_that_the_root_does_not_name(tmp_path: Path) -> None:
    """A grant that was handed on counts only from an issuer of the root, and never under a publisher's bare key."""
    other = new_publisher()
    case = good_case().but(trust=trusting())
    with refused(UntrustedKeyError):
        case.but(grant=handed_on(key=other)).load(tmp_path)
    with refused(UntrustedKeyError):
        case.but(grant=handed_on(), trust=trust()).load(tmp_path)
    both = Trust((publisher().public, issuer().public))
    with refused(GrantIssuerError):
        case.but(grant=handed_on(), trust=both).load(tmp_path)


def test_row_22_another_publisher_as_issuer(tmp_path: Path) -> None:
    """A publisher of the root grants with its own bundles only, unless the root names it as an issuer too."""
    other = new_publisher()
    two = root.with_publisher(first(), other.public, frozenset({"*"}), LATER)
    case = good_case().but(grant=handed_on(key=other))
    with refused(GrantIssuerError):
        case.but(trust=trusting(two)).load(tmp_path)
    named = root.with_issuer(two, other.public, frozenset({"*"}), frozenset({"load"}), LATER)
    assert case.but(trust=trusting(named)).load(tmp_path)


ISSUERS: list[tuple[str, dict[str, Any], timedelta, type[EdgeqError]]] = [
    ("other models", {"models": frozenset({"acme/other"})}, timedelta(0), DelegationModelError),
    ("other operations", {"operations": frozenset({"export"})}, timedelta(0), DelegationOperationError),
    ("until", {}, timedelta(days=90), DelegationExpiredError),
]


@pytest.mark.parametrize(
    ("changes", "late", "error"), [pytest.param(c, late, e, id=name) for name, c, late, e in ISSUERS]
)
def test_row_22_issuer_beyond_its_delegation(
    tmp_path: Path, changes: dict[str, Any], late: timedelta, error: type[EdgeqError]
) -> None:
    """An issuer's grants count for the models, the operations and the time that the root gave it."""
    terms: dict[str, Any] = {
        "models": frozenset({"acme/*"}),
        "operations": frozenset({"load"}),
        "until": LATER,
        **changes,
    }
    made = root.with_issuer(first(), issuer().public, **terms)
    made = root.with_publisher(made, publisher().public, frozenset({"*"}), LATER + timedelta(days=999))
    with refused(error):
        good_case().but(trust=trusting(made), grant=handed_on(), now=NOW + late).load(tmp_path)


def test_row_22_issuer_adds_an_operation(tmp_path: Path) -> None:
    """A grant with one operation more than the root lets its issuer grant opens nothing, not even for the others."""
    narrow = root.with_issuer(first(), issuer().public, frozenset({"*"}), frozenset({"load"}), LATER)
    wide = handed_on(allow=("export", "load"))
    for operation in ("load", "export"):
        with refused(DelegationOperationError):
            good_case().but(trust=trusting(narrow), grant=wide, operation=operation).load(tmp_path)


def test_row_23_an_issuers_own_grant(tmp_path: Path) -> None:
    """The grant that a publisher gave an issuer opens nothing on a device, and its key does not fit another grant."""
    verified = bundle.verify(sealed(), trust())
    own = grant.issue(verified, publisher(), issuer().identity.public, ["load"], now=NOW)
    case = good_case().but(trust=trusting())
    with refused(GrantDeviceError):
        case.but(grant=own).load(tmp_path)
    moved = replace(grant.unverified(handed_on()), wrapped_key=grant.unverified(own).wrapped_key)
    with refused(WrappedKeyError):
        case.but(grant=grant.sign(moved, issuer())).load(tmp_path)


def hand_on(held: bytes, **terms: Any) -> bytes:
    """The issuer hands on this grant of the publisher's."""
    verified = bundle.verify(sealed(), trust())
    more: dict[str, Any] = {"allow": ["load"], "now": NOW, **terms}
    return grant.issue(verified, issuer(), device().public, held=grant.verify(held, trust()), **more)


def test_row_22_issuer_gives_what_it_has_not() -> None:
    """An issuer cannot hand on an operation, a time or a bundle that its own grant does not have, nor another's grant."""
    verified = bundle.verify(sealed(), trust())

    def own(**terms: Any) -> bytes:
        more: dict[str, Any] = {"allow": ["load"], "now": NOW, **terms}
        return grant.issue(verified, publisher(), issuer().identity.public, **more)

    with refused(GrantOperationError):
        hand_on(own(), allow=["load", "export"])
    for expires in (None, LATER + SECOND):
        with refused(InputError, match="no later"):
            hand_on(own(expires=LATER), expires=expires)
    with refused(GrantConditionError):
        hand_on(own(max_loads=3))
    with refused(GrantDeviceError):
        hand_on(granted(sealed()))
    with refused(GrantIssuerError):
        grant.issue(verified, issuer(), device().public, ["load"], now=NOW)
    assert grant.unverified(hand_on(own(expires=LATER), expires=LATER)).expires == int(LATER.timestamp())


# --- row 27, and statuses under a root --------------------------------------------------------------------------------


def statement(**changes: Any) -> status.Status:
    """A first status of the root, with changes."""
    return replace(status.first(first().root_id, now=NOW, expires=LATER), **changes)


def test_a_roots_status(tmp_path: Path, store: Store) -> None:
    """A status by a status key of the root is applied, and speaks for what all of its publishers signed."""
    store.apply_status(status.sign(statement(), status_key()), trusting(), now=NOW)
    case = good_case().but(trust=None, state=store, grant=granted(sealed(), min_status_epoch=1, max_offline_days=1))
    assert case.load(tmp_path)


@pytest.mark.parametrize(
    "key", [publisher, issuer, lambda: owner(0), stranger], ids=["publisher", "issuer", "owner", "x"]
)
def test_row_08_status_by_another_role(store: Store, key: Callable[[], Any]) -> None:
    """No other key of the root signs a status, and none for itself."""
    for authority in (first().root_id, key().public.key_id):
        with refused(UntrustedKeyError):
            store.apply_status(status.sign(statement(authority=authority), key()), trusting(), now=NOW)


def test_row_08_status_under_a_bare_key(store: Store) -> None:
    """A device that believes a root takes no status under a publisher's key, were it its own publisher's."""
    own = status.first(publisher().public.key_id, now=NOW, expires=LATER)
    with refused(RootVersionError):
        store.apply_status(status.sign(own, publisher()), trust(), now=NOW)


def test_row_08_status_for_another_authority(store: Store) -> None:
    """A status key of the root speaks for the root alone."""
    for authority in ("ab" * 32, publisher().public.key_id, status_key().public.key_id):
        with refused(UntrustedKeyError, match="does not speak for"):
            store.apply_status(status.sign(statement(authority=authority), status_key()), trusting(), now=NOW)


def test_row_19_status_key_until(store: Store) -> None:
    """A status key signs statuses until the root's end for it."""
    late = statement(issued=int(LATER.timestamp()), expires=int(LATER.timestamp()) + 5)
    with refused(DelegationExpiredError):
        store.apply_status(status.sign(late, status_key()), trusting(), now=LATER)


@pytest.mark.parametrize("key", [publisher, issuer], ids=["publisher", "issuer"])
def test_row_27_revoked_key_under_a_root(tmp_path: Path, store: Store, key: Callable[[], Any]) -> None:
    """What a revoked publisher or issuer has signed does not open, whatever the root says."""
    case = good_case().but(trust=None, state=store, grant=handed_on())
    assert case.load(tmp_path)
    taken = status.revoking(statement(), keys=frozenset({key().public.key_id}))
    store.apply_status(status.sign(taken, status_key()), trusting(), now=NOW)
    with refused(RevokedKeyError):
        case.load(tmp_path)


def test_recovery_from_a_stolen_status_key(tmp_path: Path, store: Store) -> None:
    """What a thief of a status key did, up to the last epoch and the next key's revocation, ends with the next root."""
    fresh = new_signer()
    stolen = status.revoking(
        statement(epoch=2**53 - 1), keys=frozenset({fresh.public.key_id}), devices=frozenset({device().public.key_id})
    )
    store.apply_status(status.sign(stolen, status_key()), trusting(), now=NOW)
    after = root.next_version(first(), now=NOW, remove=frozenset({status_key().public.key_id}))
    after = root.with_status_key(after, fresh.public, LATER)
    store.apply_root(signed(after, 0, 1), now=NOW)
    case = good_case().but(trust=None, state=store)
    with refused(RevokedDeviceError, row=27):
        case.load(tmp_path)
    with refused(UntrustedKeyError, row=27):
        store.apply_status(status.sign(statement(epoch=2**53 - 1), status_key()), trusting(after), now=NOW)
    store.apply_status(status.sign(statement(epoch=7), fresh), trusting(after), now=NOW)
    assert case.load(tmp_path)
    with refused(StatusRollbackError, row=19):
        store.apply_status(status.sign(statement(epoch=6), fresh), trusting(after), now=NOW)


# --- taking a root is all or nothing ----------------------------------------------------------------------------------


def test_killed_while_taking_a_root(tmp_path: Path, store: Store) -> None:
    """A process that is killed at any disk call of taking a root leaves the old version or the new one, whole."""
    version, case = [first()], good_case().but(trust=None, state=store.folder)

    def work() -> None:
        Store(store.folder, device()).apply_root(signed(following(version[0]), 0, 1), now=NOW)

    def check(_: int) -> None:
        found = Store(store.folder, device()).root()
        assert found in (version[0], following(version[0]))
        version[0] = found
        assert case.load(tmp_path)

    assert killed_at_every_call(work, check) > 8


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
def test_disk_that_refuses_a_root(tmp_path: Path, store: Store, reason: int) -> None:
    """With a disk that is full or broken, at whichever step, the old version or the new one is believed."""
    case = good_case().but(trust=None, state=store.folder)

    def work() -> None:
        held = store.root()
        assert held is not None
        store.apply_root(signed(following(held), 0, 1), now=NOW)

    for raised in failing_at_every_call(work, reason):
        if raised is not None:
            assert isinstance(raised, EdgeqError), raised
        assert case.load(tmp_path)


def test_init_with_a_bad_root(tmp_path: Path) -> None:
    """A state is not made for a root that its owners have not signed, or that has expired."""
    ending = replace(first(), expires=int(LATER.timestamp()))
    for data, error in ((root.draft(first()), RootThresholdError), (signed(ending, 0, 1), RootExpiredError)):
        with pytest.raises(error):
            devices.init(tmp_path / "state", device(), now=LATER, root=data)
    devices.init(tmp_path / "state", device(), now=NOW, root=signed(first(), 0, 1))
