"""Before anything is quantized: the float graph said in the plainest way, and what the recipe asks for in vain."""

from __future__ import annotations

from collections import Counter

from edgeq.graph import Graph
from edgeq.quantize.canonical import fold_dequantize, fold_weights, fuse_activations, prune
from edgeq.quantize.folding import fold_batch_norm, fold_pads
from edgeq.quantize.layout import INTEGERS, arrange
from edgeq.quantize.probe import runs
from edgeq.quantize.rules import RULES, hybrid_kernel
from edgeq.recipe import Recipe


def prepare(graph: Graph, recipe: Recipe) -> Graph:
    """The float graph that is quantized: the same values, said in the plainest way."""
    graph = fold_dequantize(graph)
    if recipe.fuse:
        graph = fuse_activations(fold_batch_norm(fold_pads(graph)))
    return prune(graph)[0]


def foreseen(graph: Graph, recipe: Recipe) -> tuple[str, ...]:
    """What the recipe asks for that the format or the runtimes have no form for, a line each, before anything is done.

    An operation that only moves what is float anyway is not spoken of.
    """
    ready = prepare(graph, recipe)
    ready = fold_weights(ready, stored_already(ready, recipe))
    layout = arrange(ready, recipe, runs)
    stays: Counter[tuple[str, str]] = Counter()
    for n, op in enumerate(ready.ops):
        wanted = recipe.treatment(op.code, ready.tensors[op.outputs[0]].name).precision
        rule = RULES.get(op.code)
        moves = rule is not None and rule.same_scale
        reals = any(ready.tensors[i].dtype == "float32" and ready.tensors[i].data is None for i in op.inputs if i >= 0)
        if wanted in INTEGERS and n not in layout.rules and reals and not moves:
            stays[op.code, wanted] += 1
    lines = [f"{count} × {code} stays float: it has no {wanted} form here" for (code, wanted), count in stays.items()]
    if any(how == "weights" or not hybrid_kernel(ready.ops[n], ready.tensors) for n, how in layout.stored.items()):
        lines.append("weights behind a DEQUANTIZE of channels: not for tflite-runtime 2.14's reference resolver")
    for name, i in zip(graph.input_names(), graph.inputs, strict=True):
        t = graph.tensors[i]
        if t.shape_signature is not None and min(t.shape_signature[1:], default=0) < 0:
            lines.append(
                f"input {name!r} leaves its shape open and is taken as {list(t.shape)}: edgeq convert --shape makes it another"
            )
    return tuple(lines)


def stored_already(graph: Graph, recipe: Recipe) -> list[int]:
    """The layers of a dynamic-range model that are what the recipe wants: rounding their weights again would only add to
    what was lost.
    """
    found = []
    for n, op in enumerate(graph.ops):
        rule = RULES.get(op.code)
        if rule is None or rule.weights is None or rule.weights >= len(op.inputs):
            continue
        w = graph.tensors[op.inputs[rule.weights]]
        wanted = recipe.treatment(op.code, graph.tensors[op.outputs[0]].name).precision
        if w.data is not None and w.dtype == "int8" and wanted in ("dynamic", "weights"):
            found.append(n)
    return found
