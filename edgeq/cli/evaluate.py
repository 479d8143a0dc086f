"""`edgeq eval`: how good a model is on labelled samples, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import figures, models, show
from edgeq.cli.models import Access
from edgeq.errors import InputError

if TYPE_CHECKING:
    from edgeq.engine import Port
    from edgeq.fallback import AnyModel
    from edgeq.samples import Array


@click.command("eval")
@click.argument("model", metavar="MODEL")
@click.option("-d", "--data", required=True, metavar="NPZ", help="Samples in x (or by input), labels in y.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
@models.engine_options
@models.backend_option
@models.access_options
def evaluate(model: str, data: str, as_json: bool, rounding: str, threads: int, backend: str, access: Access) -> None:
    """Measure accuracy and latency on labelled samples.

    \b
    What is computed follows from the labels y and the output:
      integer y, one score per class     top-1 accuracy, and top-5 with more than five classes
      0/1 y, one score                   area under the ROC curve (AUC)
      0/1 y, an output like the input    AUC of the reconstruction error (1 = anomaly)
      y shaped like the output           mean squared error (MSE)
      no y, an output like the input     MSE of the reconstruction
    """
    import statistics
    from time import perf_counter

    import numpy as np

    from edgeq.samples import Samples, inputs_for

    samples = Samples(data)
    with models.open_model(model, access, rounding, threads, backend) as engine:
        inputs = inputs_for(engine.inputs, samples)
        models.reshaped(inputs, samples)
        step = models.batch(engine)
        total = len(next(iter(inputs.values())))
        port = engine.outputs[0]
        first = {name: array[:step] for name, array in inputs.items()}
        next(models.predictions(engine, first, step))  # the first call may compile the kernels: it is not timed
        pieces, times = [], []
        with show.progress("evaluating", total) as advance:
            start = perf_counter()
            for piece in models.predictions(engine, inputs, step):
                times.append(perf_counter() - start)
                pieces.append(piece[port.name])
                advance(min(len(pieces) * step, total))
                start = perf_counter()
    output = np.concatenate(pieces)
    figure = _figures(output, _real(port, output), _reconstructed(engine, inputs, output), samples)
    report: dict[str, Any] = {
        "model": model,
        "data": data,
        "samples": total,
        "rounding": rounding,
        "threads": threads,
        "output": port.name,
        **figure,
        "latency_ms": {
            "batch": step,
            "median": round(1e3 * statistics.median(times), 6),
            "p95": round(1e3 * float(np.quantile(times, 0.95)), 6),
        },
    }
    if as_json:
        show.as_json(report)
        return
    show.facts(
        [
            ("samples", total),
            *((_LABELS[name], _written(name, value)) for name, value in figure.items()),
            ("latency", f"{figures.duration(statistics.median(times))} a batch of {step} (median, 95 % below "
                        f"{figures.duration(float(np.quantile(times, 0.95)))})"),
        ]
    )  # fmt: skip


_LABELS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "auc": "AUC of the score",
    "auc_reconstruction": "AUC of the reconstruction error",
    "mse": "MSE against y",
    "mse_reconstruction": "MSE of the reconstruction",
}


def _written(name: str, value: float) -> str:
    return figures.percent(value) if name.startswith("top") else f"{value:.6g}"


def _real(port: Port, values: Array) -> Array:
    """The values of an input or output as real numbers."""
    if port.quantmod is None or values.dtype.kind == "f":
        return values
    return port.quantmod.dequantize(values)


def _reconstructed(model: AnyModel, inputs: Mapping[str, Array], output: Array) -> Array | None:
    """What a model whose output has its input's shape was meant to give back (N, …), or None for other models."""
    if len(inputs) != 1 or len(model.outputs) != 1:
        return None
    (x,) = inputs.values()
    return _real(model.inputs[0], x) if x.shape == output.shape else None


def _figures(output: Array, values: Array, wanted: Array | None, samples: Mapping[str, Array]) -> dict[str, float]:
    """What can be computed from the output, as it came and as real numbers (N, …), by the table of the command's help."""
    import numpy as np

    from edgeq import metrics

    if "y" not in samples:
        if wanted is not None:
            return {"mse_reconstruction": float(metrics.errors(values, wanted).mean())}
        raise InputError(
            "expected labels in 'y': without them only a model that reconstructs its input can be measured"
        )
    y = samples["y"]
    if len(y) != len(output):
        raise InputError(f"expected one label per sample, found {len(y)} labels and {len(output)} samples")
    whole = y.dtype.kind in "iub" and y.ndim == 1
    binary = whole and bool(np.isin(y, (0, 1)).all())
    scores = output.reshape(len(output), -1)
    if binary and wanted is not None:
        return {"auc_reconstruction": metrics.auc(metrics.errors(values, wanted), y != 0)}
    if whole and scores.shape[1] > 1:
        labels = y.astype(np.int64)
        top = {"top1": metrics.top_k(scores, labels)}
        return {**top, "top5": metrics.top_k(scores, labels, 5)} if scores.shape[1] > 5 else top
    if binary and scores.shape[1] == 1:
        return {"auc": metrics.auc(scores[:, 0], y != 0)}
    if y.shape == output.shape:
        return {"mse": float(metrics.errors(values, y).mean())}
    raise InputError(
        f"expected labels y that fit the output {output.shape}: integers (N,) or real numbers of its shape; found "
        f"{y.dtype} {y.shape}"
    )
