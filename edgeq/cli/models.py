"""Where commands meet models: the options that open a bundle, and running samples through a model."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeq.cli import show
from edgeq.cli.passphrase import with_passphrase
from edgeq.lasting import Lasting

if TYPE_CHECKING:
    from edgeq.dynamic import DynamicModel
    from edgeq.fallback import AnyModel
    from edgeq.graph import Graph
    from edgeq.intake import Local
    from edgeq.opening import Opened
    from edgeq.recipients import Identity
    from edgeq.samples import Array

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")

FARTHER = 16.0
"""Times that samples of a known kind may reach further than an input takes before it is said."""

CHUNK_BYTES = 1 << 24
"""About how many bytes of samples go through a model in one call."""


@dataclass(frozen=True)
class Access:
    """What opens a bundle: paths of the grant, the device's key, the publisher's public key and the device's state; and of the
    overlay that this device made of the model."""

    grant: str | None = None
    identity: str | None = None
    trust: str | None = None
    state: str | None = None
    overlay: str | None = None


def access_options(command: Command) -> Command:
    """Give a command --grant, --identity, --trust, --state and --overlay, and pass them as one `access`."""

    @functools.wraps(command)
    def packed(
        *args: Any,
        grant: str | None,
        identity: str | None,
        trust: str | None,
        state: str | None,
        overlay: str | None,
        **rest: Any,
    ) -> Any:
        return command(*args, access=Access(grant, identity, trust, state, overlay), **rest)

    packed = _path_option("overlay", "O.eqo", "What this device calibrated of the model.")(packed)
    packed = state_option()(packed)
    packed = trust_option()(packed)
    packed = identity_option()(packed)
    packed = _path_option("grant", "G.eqg", "Bundles: what lets this device open it.")(packed)
    return packed  # type: ignore[return-value]


def identity_option(*, required: bool = False) -> Callable[[Command], Command]:
    """--identity, or EDGEQ_IDENTITY."""
    whose = "this device's key: a file, pkcs11:… or tpm2:…."
    return _path_option("identity", "KEY", whose.capitalize() if required else f"Bundles: {whose}", required)


def trust_option(*, required: bool = False) -> Callable[[Command], Command]:
    """--trust, or EDGEQ_TRUST."""
    whom = "whom to believe: a publisher's public key, or a root."
    return _path_option("trust", "K.pub|ROOT", whom.capitalize() if required else f"Bundles: {whom}", required)


def state_option(*, required: bool = False) -> Callable[[Command], Command]:
    """--state, or EDGEQ_STATE."""
    return _path_option("state", "DIR", f"{'W' if required else 'Bundles: w'}here this device remembers.", required)


def _path_option(name: str, metavar: str, what: str, required: bool = False) -> Callable[[Command], Command]:
    variable = f"EDGEQ_{name.upper()}"
    return click.option(
        f"--{name}", metavar=metavar, envvar=variable, required=required, help=f"{what} [env: {variable}]"
    )


def engine_options(command: Command) -> Command:
    """Give a command --rounding and --threads."""
    command = click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)(command)
    return rounding_option(command)


def intake_options(command: Command) -> Command:
    """Give a command --span, --preprocess and --raw, and pass them as one `source`, for edgeq.intake.take."""

    @functools.wraps(command)
    def packed(
        *args: Any, span: tuple[float, float] | None, preprocess: str | None, raw: str | None, **rest: Any
    ) -> Any:
        return command(*args, source={"span": span, "preprocess": preprocess, "raw": raw}, **rest)

    packed = click.option("--raw", metavar="DTYPE", help="Of frames on standard input; by default the model's own.")(
        packed
    )
    packed = click.option("--preprocess", metavar="FILE.py:f", help="What makes the model's input of a sample.")(packed)
    packed = click.option(
        "--span", nargs=2, type=float, metavar="LOW HIGH", help="Map images' 0 to 255, or sound's −1 to 1, to that."
    )(packed)
    return packed  # type: ignore[return-value]


def say_of_frames(where: str, graph: Graph, source: Mapping[str, Any]) -> None:
    """Say what frames on standard input are taken for, where nobody has said it: bytes of a camera fit as well as codes."""
    dtypes = {graph.tensors[i].dtype for i in graph.inputs} - {"float32"}
    if where == "-" and source["raw"] is None and source["span"] is None and dtypes:
        kinds = ", ".join(sorted(dtypes))
        show.note(
            f"frames on standard input are read as {kinds}, the model's own codes; --raw uint8 for pixels, and so on"
        )


def say_of_reach(graph: Graph, local: Local) -> None:
    """Say where numbers that were not mapped reach much further than the model's input, or much less far, as pixels do."""
    from edgeq.feed import quantmod_of

    if local.reach is None:
        return
    low, high = local.reach
    for name, i in zip(graph.input_names(), graph.inputs, strict=True):
        q = quantmod_of(graph.tensors[i])
        if q is None:
            continue
        least, most = (float(v) + 0.0 for v in q.limits)  # no −0
        if not 1 / FARTHER < high / max(most, -least) < FARTHER:
            show.note(
                f"samples reach from {low:g} to {high:g}, input {name!r} takes {least:.4g} to {most:.4g}: "
                "--span LOW HIGH maps them onto what the model was trained on"
            )


def rounding_option(command: Command) -> Command:
    """Give a command --rounding."""
    return click.option(
        "--rounding",
        type=click.Choice(["xnnpack", "tflite"]),
        default="xnnpack",
        show_default=True,
        help="Whose integers: LiteRT's default, or TFLite's reference kernels and TFLM.",
    )(command)


def backend_option(command: Command) -> Command:
    """Give a command --backend."""
    return click.option(
        "--backend",
        type=click.Choice(["auto", "native"]),
        default="auto",
        show_default=True,
        help="Let another runtime run what edgeq lacks, or refuse it.",
    )(command)


def opened(access: Access, load: Callable[[Any], Result]) -> Result:
    """`load(identity)` with the device's key: its path, or the key itself where it needed a passphrase."""
    path = access.identity
    if path is None:
        return load(None)

    def with_key(passphrase: bytes | None) -> Result:
        if passphrase is None:
            return load(path)
        from edgeq import identities

        return load(identities.load(path, passphrase=passphrase))

    return with_passphrase(path, with_key)


def open_identity(name: str) -> Identity:
    """The device's key in a file or chip, with its passphrase or PIN if it needs one."""
    from edgeq import identities

    return with_passphrase(name, lambda passphrase: identities.load(name, passphrase=passphrase))


def model_bytes(path: str, access: Access, *operations: str) -> bytes | memoryview:
    """The .tflite bytes behind a model file or bundle; a bundle must be granted for all of `operations`."""
    return open_bytes(path, access, *operations).data


def open_bytes(path: str, access: Access, *operations: str) -> Opened:
    """As `model_bytes`, and what else may be done with them."""
    from edgeq import opening

    return opened(
        access,
        lambda identity: opening.open_bytes(
            path,
            grant=access.grant,
            identity=identity,
            trust=access.trust,
            state=access.state,
            operation=operations,
        ),
    )


def read_graph(path: str, access: Access, *operations: str) -> Graph:
    """The checked graph behind a model file or bundle."""
    from edgeq.check import sound
    from edgeq.tflite import read

    if (content := _plain(path, access)) is not None:
        return sound(read(content))
    opened_bytes = open_bytes(path, access, *operations)
    return overlaid(sound(read(opened_bytes.data)), opened_bytes, access)


def _plain(path: str, access: Access) -> bytes | None:
    """The bytes of a .tflite file that nothing is asked of, without importing what opens bundles; None for all else."""
    from edgeq import limits
    from edgeq.errors import InputError
    from edgeq.files import open_regular
    from edgeq.tflite.schema import FILE_IDENTIFIER

    if any((access.grant, access.trust, access.state, access.overlay)) or os.path.isdir(path):
        return None
    try:
        with open_regular(path) as (file, size):
            if file.read(8)[4:] != FILE_IDENTIFIER or size > limits.PAYLOAD:
                return None
            file.seek(0)
            content = file.read()
            return content if len(content) == size else None
    except (InputError, OSError):  # is said where all else is opened
        return None


def exported_graph(path: str, access: Access, hint: str = "") -> Graph:
    """As `read_graph`, for a command whose result is a plain .tflite; `hint`: what is behind the refusal of a grant."""
    from edgeq.errors import GrantOperationError

    try:
        return read_graph(path, access, "calibrate", "export")
    except GrantOperationError as error:
        raise GrantOperationError(
            f"{error}; the result is a plain .tflite file, so the bundle must be granted for calibrate and export{hint}"
        ) from None


def overlaid(graph: Graph, found: Opened, access: Access) -> Graph:
    """The checked graph as the overlay that was named makes it; as it is without one."""
    named = access.overlay
    if named is None:
        return graph
    from edgeq import changes, opening
    from edgeq.check import check

    content = opened(
        access, lambda identity: opening.overlay_content(named, found.base, identity=identity, state=access.state)
    )
    graph = changes.apply(graph, changes.from_bytes(content))
    check(graph)
    return graph


def open_model(
    path: str, access: Access, rounding: str, threads: int, backend: str, *, drift: bool = False,
    drift_every: int | None = None,
) -> AnyModel:  # fmt: skip
    """The model, ready to run; says so if another runtime runs it. drift: watched, with `drift_every` inferences to a look."""
    import warnings

    from edgeq.loader import load

    with warnings.catch_warnings(record=True) as caught:
        model = opened(
            access,
            lambda identity: load(
                path,
                grant=access.grant,
                identity=identity,
                trust=access.trust,
                state=access.state,
                rounding=rounding,
                threads=threads,
                backend=backend,
                overlay=access.overlay,
                drift=drift,
                drift_every=drift_every,
            ),
        )
    context = click.get_current_context(silent=True)
    if context is not None and (start := context.find_object(Lasting)) is not None:
        start.end()
    for warning in caught:
        show.note(f"warning: {warning.message}")
    return model


def predictions(model: AnyModel, inputs: Mapping[str, Array], samples_at_once: int) -> Iterator[dict[str, Array]]:
    """The outputs by name for `inputs` (N, …), in order, some samples at a time; one where shapes depend on values."""
    from edgeq.dynamic import DynamicModel

    if isinstance(model, DynamicModel):
        yield from _one_by_one(model, inputs)
        return
    n = len(next(iter(inputs.values())))
    for start in range(0, n, samples_at_once):
        piece = {name: array[start : start + samples_at_once] for name, array in inputs.items()}
        outputs = model(piece if len(piece) > 1 else next(iter(piece.values())))
        named = outputs if isinstance(outputs, dict) else {model.outputs[0].name: outputs}
        yield {port.name: named[port.name].reshape(-1, *port.shape[1:]) for port in model.outputs}


def _one_by_one(model: DynamicModel, inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The outputs of each sample behind a new axis; raises InputError where they have other shapes than the first one's."""
    from edgeq.errors import InputError

    first: dict[str, tuple[int, ...]] = {}
    lengths = {p.name: p.shape[0] if p.shape else 1 for p in model.inputs}
    for k in range(min(len(a) // max(lengths[name], 1) for name, a in inputs.items())):
        piece = {name: a[k * lengths[name] : (k + 1) * lengths[name]] for name, a in inputs.items()}
        outputs = model(piece if len(piece) > 1 else next(iter(piece.values())))
        named = outputs if isinstance(outputs, dict) else {model.outputs[0].name: outputs}
        for name, found in named.items():
            if first.setdefault(name, found.shape) != found.shape:
                raise InputError(
                    f"sample {k} gives {name!r} shape {list(found.shape)}, the first one {list(first[name])}: "
                    "outputs of different shapes do not go into one array"
                )
        yield {name: found[None] for name, found in named.items()}


def batch(model: AnyModel) -> int:
    """How many samples the model takes at least: the leading dimension of its inputs."""
    return max((int(port.shape[0]) for port in model.inputs if port.shape), default=1)


def chunk(model: AnyModel, inputs: Mapping[str, Array]) -> int:
    """How many samples to give at once: about CHUNK_BYTES, a multiple of the model's batch."""
    one = sum(array[:1].nbytes for array in inputs.values())
    return max(1, CHUNK_BYTES // max(one, 1) // batch(model)) * batch(model)


def reshaped(inputs: Mapping[str, Array], samples: Mapping[str, Array]) -> None:
    """Say when samples are read in another shape than they have in their file."""
    for name, array in inputs.items():
        given = samples["x" if name not in samples else name]
        if given.shape != array.shape:
            show.note(f"samples of shape {given.shape[1:]} are read as {array.shape[1:]} for input {name!r}")
