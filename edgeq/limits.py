"""Every length that trusted code believes, in one place. A length from a file is compared with these before it is used.

Bytes unless said otherwise. docs/bundle-format.md gives the same numbers.
"""

from __future__ import annotations

from typing import Final

MANIFEST: Final = 16 * 1024
SIGNATURE: Final = 256 * 1024
PAYLOAD: Final = 2**31 - 1
"""Also the limit of a plain .tflite: flatbuffer offsets reach no further."""

PAYLOAD_ALIGNMENT: Final = 4096
GRANT: Final = 16 * 1024
KEY_FILE: Final = 16 * 1024
PASSPHRASE: Final = 1024

CHUNK: Final = 64 * 1024
"""Plaintext in one chunk of the encrypted payload."""

SECTIONS: Final = 4096
"""Tensors of a coded payload that have codebooks."""

JSON_DEPTH: Final = 16
"""Levels of nested objects and arrays."""

INTEGER: Final = 2**53 - 1
"""Largest magnitude of an integer in JSON: what every JSON parser represents exactly (RFC 8259, section 6)."""

MODEL_ID: Final = 128
"""Characters."""

DIRECTORY_FILES: Final = 4096
"""Files in a signed directory that is not a bundle."""

OVERLAY_CONTENT: Final = 16 * 1024 * 1024
"""What a calibration changed: a few bytes per tensor, and a layer's biases."""

OVERLAY: Final = 2 * OVERLAY_CONTENT
"""Base64 of base64: 16/9 of the content, and some fields."""

CHECKPOINT: Final = 256 * 1024 * 1024
"""What an interrupted calibration leaves: histograms, and samples that it keeps."""

KEPT_PLAN: Final = 64 * 1024 * 1024
"""What is kept of a model from start to start: packed parameters, and some words an operation. A larger one is not."""

KEPT_PLANS: Final = 32
KEPT_PLANS_BYTES: Final = 256 * 1024 * 1024
KEPT_PLANS_DAYS: Final = 90
"""Of all models together; those that were used longest ago go when there are more, and what nobody has used for so long."""

STATE: Final = 1024 * 1024
STATE_MODELS: Final = 1024
STATE_GRANTS: Final = 4096
STATE_AUTHORITIES: Final = 16
"""Entries that a device remembers; together they stay below STATE bytes."""

STATUS: Final = 4 * 1024 * 1024
STATUS_MODELS: Final = 1024
STATUS_REVOKED: Final = 16_000
"""Minimum versions, and revoked keys, grants and devices each; together they stay below STATUS bytes."""

ROOT: Final = 512 * 1024
ROOT_KEYS: Final = 64
"""Keys that own a root, and keys that sign statuses."""

ROOT_DELEGATIONS: Final = 256
"""Publishers, and issuers of grants."""

ROOT_MODELS: Final = 64
"""Model ids and prefixes in one delegation."""

ROOT_SIGNATURES: Final = 2 * ROOT_KEYS
"""By the keys of a version and of the version before."""

WRAPPED_KEY: Final = 4096
"""A content key or mask key wrapped for somebody."""

MASK_TERMS: Final = 16_384
"""Masked arrays in one sum."""

MASK_HEADER: Final = 32 * 1024 * 1024
MASK_EXPONENT: Final = 1022
"""Largest magnitude of the exponent of C, so that 2^exponent and its inverse are ordinary numbers."""

STATE_MASKS: Final = 256
"""Owners that a device masks for."""

AUDIT_LINE: Final = 4096
AUDIT_SEGMENT: Final = 1024 * 1024
"""From this size on, the next checkpoint begins a new file. A file grows by less than 64 lines more."""

AUDIT_FILE: Final = AUDIT_SEGMENT + 128 * AUDIT_LINE
AUDIT_SEGMENTS: Final = 64
"""Files; the oldest goes when there are more."""
