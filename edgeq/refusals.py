"""The errors that few processes raise, and none needs before; had from edgeq.errors, which says what they have in common."""

from __future__ import annotations

from typing import Final

from edgeq.errors import DecryptError, EdgeqError, FormatError, SignatureError, TrustError

# --- models -----------------------------------------------------------------------------------------------------------


class ConvertError(EdgeqError):
    """A converter for another format is missing, or failed."""


class QuantizeError(EdgeqError):
    """A model cannot be quantized or calibrated as asked."""


# --- deployment -------------------------------------------------------------------------------------------------------


class DeployError(EdgeqError):
    """A device could not be reached, or something there failed; what ran on it before still does."""


class HostKeyError(DeployError):
    """The host's key is not the one that is known for it, so nothing was sent."""


class DeviceFullError(DeployError):
    """The device's disk has no room for what was to be copied."""


class SelfCheckError(DeployError):
    """The device has the new release, but could not open and run it; it was not made the current one."""


class IntegrityError(EdgeqError):
    """A model's parameters in memory, or the results of its arithmetic, are not what they were."""


# --- trust: bundles, signatures, keys, grants -------------------------------------------------------------------------


class ContainerError(TrustError):
    """The bundle's framing is wrong: magic, reserved fields, padding, or the set of files in its directory."""


class NotAModelError(ContainerError, FormatError):
    """The file is neither a .tflite model nor a bundle."""


class LengthError(ContainerError):
    """A length field is outside its limit or contradicts the size of what it describes."""


class TruncatedError(LengthError):
    """The data ends before what its header announces."""


class CodingError(ContainerError):
    """A payload that codes a model contradicts itself, or does not give the model that it was made of."""


class FileSetError(ContainerError):
    """A signed directory lacks a file, has one that is not signed, or holds something that is not a regular file."""


class DocumentError(TrustError):
    """A manifest, statement or grant lacks a field, has an unknown one, or one with a value out of bounds."""


class SuiteError(TrustError):
    """The format version or the cryptographic suite is not the one that this edgeq knows."""


class EnvelopeError(SignatureError):
    """The signature's media type, payload type, predicate type or verification material is not the expected one."""


class SignatureCountError(SignatureError):
    """There is not exactly one signature."""


class MissingSignatureError(SignatureError):
    """A second signature is required, and it is not there."""


class UntrustedKeyError(SignatureError):
    """The signature names a key that the trust given does not include."""


class UnsignedError(SignatureError):
    """Trust was asked for, but the model has no signature."""


class DigestError(TrustError):
    """A file's bytes are not those that were signed."""


class WrappedKeyError(DecryptError):
    """The wrapped content key does not open: another private key, or it was wrapped for another document."""


class KeyCommitmentError(DecryptError):
    """The content key is not the one that the bundle was sealed with."""


class ChunkError(DecryptError):
    """A chunk of the payload was altered, moved, repeated or dropped."""


class InnerSignatureError(DecryptError):
    """The plaintext is not the one that the publisher sealed."""


class GrantError(TrustError):
    """The grant does not allow what was asked for."""


class NoGrantError(GrantError):
    """The bundle is encrypted, and no grant or no device identity was given."""


class GrantIssuerError(GrantError):
    """The grant was signed by another key than the bundle."""


class GrantDeviceError(GrantError):
    """The grant is for another device."""


class GrantModelError(GrantError):
    """The grant is for another model."""


class GrantVersionError(GrantError):
    """The grant does not cover this version of the model."""


class GrantPayloadError(GrantError):
    """The grant is for another bundle of this model: the payload's digest differs."""


class GrantOperationError(GrantError):
    """The grant does not allow this operation."""


class GrantNotYetValidError(GrantError):
    """The grant is not valid yet, or the clock is wrong."""


class GrantExpiredError(GrantError):
    """The grant has expired."""


class GrantConditionError(GrantError):
    """The grant sets a condition that needs a device state, and none was given."""


class GrantLoadsError(GrantError):
    """The grant's number of loads is used up."""


class GrantStatusError(GrantError):
    """The grant asks for a newer status than this device has applied."""


class GrantOfflineError(GrantError):
    """The grant asks for a fresher status than this device has applied."""


class KeyFileError(TrustError):
    """A key file is malformed or holds another kind of key than was asked for."""


class PassphraseError(KeyFileError):
    """A key file needs a passphrase, or the one given is wrong."""


# --- trust: what a device changed -------------------------------------------------------------------------------------


class OverlayError(TrustError):
    """An overlay cannot be applied to this model on this device."""


class OverlayDeviceError(OverlayError):
    """The overlay was made by another device."""


class OverlayModelError(OverlayError):
    """The overlay was made for another model, or another version of it."""


class OverlayDamagedError(OverlayError):
    """The overlay's content is not what the device sealed, or does not fit the model."""


# --- trust: what a device remembers -----------------------------------------------------------------------------------


class RollbackError(TrustError):
    """The model is older than one that this device has opened."""


class VersionReuseError(TrustError):
    """The model has the version of one that this device has opened, but another payload."""


class ClockError(TrustError):
    """The clock cannot be right."""


class ClockUnsetError(ClockError):
    """The clock was never set: it shows a time before edgeq's first release."""


class ClockSetBackError(ClockError):
    """The clock shows an earlier time than this device has seen."""


class StateError(TrustError):
    """The device's state cannot be used, so nothing that needs it is opened."""


class StateMissingError(StateError):
    """There is no device state where one was expected."""


class StateDamagedError(StateError):
    """The device state is not one that this device wrote."""


class StateDeviceError(StateError):
    """The device state belongs to another device."""


class StateBusyError(StateError):
    """Another process keeps the device state locked."""


class StateRolledBackError(StateError):
    """The device state is older than the audit log beside it: somebody put an old state back."""


class StateFullError(StateError):
    """The device state has no room for another model, grant or status."""


# --- trust: what was taken back ---------------------------------------------------------------------------------------


class StatusError(TrustError):
    """A status cannot be applied, or the one that was applied does not hold any more."""


class StatusRollbackError(StatusError):
    """The status is no newer than the one that this device has applied."""


class StatusExpiredError(StatusError):
    """The status has expired: there must be a newer one."""


class RevokedError(TrustError):
    """Something was revoked by the status that this device has applied."""


class RevokedKeyError(RevokedError):
    """The key that signed this was revoked."""


class RevokedGrantError(RevokedError):
    """The grant was revoked."""


class RevokedDeviceError(RevokedError):
    """This device was revoked."""


class MinimumVersionError(RevokedError):
    """The version of the model is below the minimum."""


# --- trust: the root --------------------------------------------------------------------------------------------------


class RootError(TrustError):
    """A root of trust cannot be believed."""


class RootThresholdError(RootError):
    """A root is not signed by as many of its keys as it, or the version before, asks for."""


class RootMismatchError(RootError):
    """The root is not a version of the one that this device believes."""


class RootVersionError(RootError):
    """The root's version is not the one that comes next."""


class RootExpiredError(RootError):
    """The root has expired: there must be a newer version."""


class DelegationError(TrustError):
    """A trusted key did what the root does not let it do."""


class DelegationExpiredError(DelegationError):
    """The root let this key do that until a time that has passed."""


class DelegationModelError(DelegationError):
    """The root lets this key do that for other models."""


class DelegationOperationError(DelegationError):
    """The root lets this issuer grant other operations."""


# --- masks ------------------------------------------------------------------------------------------------------------


class MaskError(TrustError):
    """A masked array is for somebody else, is not what was masked, or cannot be added to another."""


class NonceReusedError(MaskError):
    """A nonce would be used a second time, which would show the difference of two arrays."""


# --- trust: the audit log ---------------------------------------------------------------------------------------------


class AuditError(TrustError):
    """The audit log is not what the device wrote."""


class AuditLineError(AuditError):
    """A line of the audit log is malformed."""


class AuditChainError(AuditError):
    """A line of the audit log was edited, removed, inserted or moved."""


class AuditCutError(AuditError):
    """The audit log ends before the device's last line, or a file of it is missing."""


class AuditSignatureError(AuditError):
    """A checkpoint of the audit log is missing, or was not signed by this device."""


NAMES: Final = frozenset(
    name for name, kind in vars().items() if isinstance(kind, type) and kind.__module__ == __name__
)
for _name in NAMES:
    globals()[_name].__module__ = "edgeq.errors"  # where everybody has them from
