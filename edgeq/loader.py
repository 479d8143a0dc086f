"""From a path to a model: the one door through which model bytes enter.

The order never changes: cap the size, verify the signature, check the grant, decrypt (all of it in edgeq.opening), parse with
bounds, check, plan.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from edgeq.bytecode import until_done
from edgeq.errors import DataDependentError, InputError, UnsupportedError
from edgeq.files import PathLike
from edgeq.opening import (
    GrantLike,
    IdentityLike,
    OverlayLike,
    StateLike,
    TrustLike,
    believe,
    inspect_bundle,
    open_bytes,
    overlay_content,
    verify,
)

if TYPE_CHECKING:
    from edgeq.fallback import AnyModel
    from edgeq.graph import Graph

__all__ = [
    "BACKENDS",
    "GrantLike",
    "IdentityLike",
    "OverlayLike",
    "StateLike",
    "TrustLike",
    "believe",
    "check_backend",
    "inspect_bundle",
    "load",
    "open_tflite",
    "read_model",
    "verify",
]

BACKENDS: Final = ("auto", "native")
"""auto: another runtime runs what edgeq cannot. native: it is refused."""


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

    A bundle must be signed by a publisher in `trust`, or one that the root in `trust` or `state` names. An encrypted one
    is opened by `grant`, which must allow `operation` (one of edgeq.grant.OPERATIONS, or several), for `identity`, whose
    file may need `passphrase`; one that is only signed needs neither. `now` is the clock, by default the system's.

    `state` is what the device with this `identity` remembers (edgeq.device). With it, an older version and a clock that
    was set back are refused, the grant's conditions are held, and the opening is remembered before the model is
    returned. Without it, a grant with such a condition is refused.

    With `trust`, `grant` or `state` given, a plain model is refused: otherwise whoever can replace a bundle could drop
    its signature by putting a plain model in its place.

    Raises InputError, NotAModelError, TrustError and its kinds, and OutputError if the state cannot be written.
    """
    return open_bytes(
        path,
        grant=grant,
        identity=identity,
        trust=trust,
        state=state,
        operation=operation,
        passphrase=passphrase,
        now=now,
    ).data


@until_done
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
    overlay: OverlayLike | None = None,
    drift: bool = False,
    drift_every: int | None = None,
    passphrase: bytes | None = None,
    selfcheck: int | None = None,
) -> AnyModel:
    """A model that runs, from a .tflite file or a bundle.

    `grant`, `identity`, `trust`, `state` and `passphrase` are those of `read_model`. `rounding` is "xnnpack" (what LiteRT
    gives by default) or "tflite" (TFLite's reference kernels, TFLM). `shapes` gives inputs, by name, other shapes than the
    file's.

    A model with an operation that edgeq lacks is run by ai-edge-litert or tflite-runtime, if one is installed: a
    FallbackWarning says so, and the result is an edgeq.fallback.FallbackModel. Its plain bytes leave edgeq with that, so
    an encrypted bundle must be granted for `export`. With backend="native" such a model is refused instead.

    A model whose shapes depend on the values that it is fed is planned while it runs: the result is then an
    edgeq.dynamic.DynamicModel.

    With `selfcheck` = N, every N inferences a part of the parameters is hashed again and a layer's result checked
    (edgeq.selfcheck); IntegrityError if something is not what it was.

    What was decrypted lies in memory of its own, out of swap and core dumps where the system allows it, and so do the packed
    parameters; closing the model wipes both, its graph's data too.

    `overlay` is what calibration on this device made of this model (`edgeq calibrate -o FILE.eqo`); opening it needs
    `identity`. With `drift`, the result is an edgeq.drift.WatchedModel, which says whether its inputs still look like those
    that it was calibrated on; `drift_every` inferences to a look, by default as many as keep its cost at 2 %.

    Raises what `read_model` raises, OverlayError and its kinds, and ModelError and its kinds for a model that is malformed,
    unsound or not supported.
    """
    check_backend(backend)
    if drift and selfcheck is not None:
        raise InputError("expected drift or selfcheck, found both: a model is watched in one way")
    opened = open_bytes(path, grant=grant, identity=identity, trust=trust, state=state, passphrase=passphrase)
    # Imported here: verifying and granting need neither NumPy nor the kernels; further down, what few models need.
    from edgeq import resume

    shelf = None if overlay is not None or shapes or drift or selfcheck is not None else opened.shelf
    if shelf is not None and opened.memory is not None:
        data = opened.data
        kept = resume.take(shelf, opened.memory, lambda: _sound(data), rounding, threads)
        if kept is not None:
            return kept
    from edgeq.check import check
    from edgeq.engine import build

    graph = _sound(opened.data)
    baseline: Mapping[str, Any] = {}
    if overlay is not None:
        from edgeq import changes

        content = overlay_content(overlay, opened.base, identity=identity, state=state, passphrase=passphrase)
        changed = changes.from_bytes(content)
        graph, baseline = changes.apply(graph, changed), changed.baseline
        check(graph)
    given: dict[int, Sequence[int]] = {}
    try:
        whole = graph
        if shapes:
            from edgeq.shapes import by_index, resize

            given = by_index(graph, shapes)
            whole = resize(graph, given)
        if selfcheck is not None:
            from edgeq.selfcheck import CheckedModel

            return CheckedModel(whole, every=selfcheck, rounding=rounding, threads=threads, memory=opened.memory)
        if drift:
            from edgeq.drift import WatchedModel

            return WatchedModel(
                whole, baseline, rounding=rounding, threads=threads, every=drift_every, memory=opened.memory
            )
        model = build(whole, rounding=rounding, threads=threads, memory=opened.memory, checked=whole is graph)
        if shelf is not None:
            model.kept = resume.keep(shelf, model, rounding, threads)
        return model
    except UnsupportedError as error:
        if isinstance(error, DataDependentError) and selfcheck is None and not drift:
            from edgeq.dynamic import DynamicModel, is_dynamic  # few models need it

            if is_dynamic(graph, rounding):
                return DynamicModel(
                    graph, rounding=rounding, threads=threads, memory=opened.memory, shapes=given, checked=True
                )
        from edgeq import fallback

        findings = fallback.lacking(graph, rounding) or (fallback.because(error),)
    if selfcheck is not None:
        raise InputError(f"{path}: selfcheck is for models that edgeq runs itself: {findings[0]}")
    runtime = fallback.choose(findings, rounding, backend, "export" in opened.allowed)
    opened.export()
    other = fallback.FallbackModel(
        graph, bytes(opened.data), findings, runtime, rounding=rounding, threads=threads, shapes=given
    )
    warnings.warn(f"{path}: {fallback.why(findings, runtime)}", fallback.FallbackWarning, stacklevel=2)
    return other


def _sound(data: bytes | memoryview) -> Graph:
    """The graph of a model's bytes, checked."""
    from edgeq.check import sound
    from edgeq.tflite import read

    return sound(read(data))


def check_backend(backend: str) -> None:
    """Raise InputError unless there is a backend of this name."""
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}, 'auto' or 'native' is expected")


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
