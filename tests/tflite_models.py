"""Small models that tests build: each holds the parts of a file that it is named for, and runs where edgeq has its ops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeq.graph import Graph, Metadata, Op, Quantization, Signature, SubGraph, Table, Tensor
from edgeq.tflite.schema import table

SHARED_MODELS = Path(__file__).resolve().parents[1].parent / "shared" / "models"
"""Real models, where the checkout lies beside them."""


def real_models() -> list[Path]:
    """Every real model that is there, in order of its path; none on a lone checkout."""
    return sorted(SHARED_MODELS.rglob("*.tflite"))


def q(scale: object, zero_point: int = 0, axis: int = 0) -> Quantization:
    """Quantization by one scale or one per channel, all with the same zero point."""
    s = np.atleast_1d(np.asarray(scale, np.float32))
    return Quantization(s, np.full(len(s), zero_point, np.int64), axis)


def float_mlp() -> Graph:
    """float32 [1, 8] → FULLY_CONNECTED with ReLU → FULLY_CONNECTED → SOFTMAX [1, 3]."""
    rng = np.random.default_rng(1)
    w0, w1 = rng.standard_normal((5, 8)).astype(np.float32), rng.standard_normal((3, 5)).astype(np.float32)
    tensors = (
        Tensor("x", (1, 8), "float32", shape_signature=(-1, 8)),
        Tensor("dense/w", (5, 8), "float32", w0, buffer=1),
        Tensor("dense/b", (5,), "float32", np.zeros(5, np.float32), buffer=2),
        Tensor("hidden", (1, 5), "float32"),
        Tensor("dense_1/w", (3, 5), "float32", w1, buffer=3),
        Tensor("logits", (1, 3), "float32"),
        Tensor("y", (1, 3), "float32"),
    )
    ops = (
        Op("FULLY_CONNECTED", (0, 1, 2), (3,), table("FullyConnectedOptions", fused_activation_function=1)),
        Op("FULLY_CONNECTED", (3, 4, -1), (5,), table("FullyConnectedOptions")),
        Op("SOFTMAX", (5,), (6,), table("SoftmaxOptions", beta=1.0)),
    )
    return Graph((SubGraph(tensors, ops, (0,), (6,), "main"),), "edgeq test model")


def int8_cnn() -> Graph:
    """int8 [1, 8, 8, 2] → CONV_2D (per channel) → AVERAGE_POOL_2D → RESHAPE → FULLY_CONNECTED → SOFTMAX [1, 3]."""
    rng = np.random.default_rng(2)
    conv_scale = np.array([0.01, 0.02, 0.015, 0.005], np.float32)
    conv_w = rng.integers(-127, 128, (4, 3, 3, 2)).astype(np.int8)
    fc_w = rng.integers(-127, 128, (3, 64)).astype(np.int8)
    tensors = (
        Tensor("x", (1, 8, 8, 2), "int8", quantization=q(0.05, -3)),
        Tensor("conv/w", conv_w.shape, "int8", conv_w, q(conv_scale), buffer=1),
        Tensor("conv/b", (4,), "int32", rng.integers(-200, 200, 4).astype(np.int32), q(conv_scale * 0.05), buffer=2),
        Tensor("conv", (1, 8, 8, 4), "int8", quantization=q(0.1, -128)),
        Tensor("pool", (1, 4, 4, 4), "int8", quantization=q(0.1, -128)),
        Tensor("flat_shape", (2,), "int32", np.array([1, 64], np.int32), buffer=3),
        Tensor("flat", (1, 64), "int8", quantization=q(0.1, -128)),
        Tensor("dense/w", fc_w.shape, "int8", fc_w, q(0.01), buffer=4),
        Tensor("dense/b", (3,), "int32", np.array([5, -7, 0], np.int32), q(0.001), buffer=5),
        Tensor("logits", (1, 3), "int8", quantization=q(0.2, 4)),
        Tensor("y", (1, 3), "int8", quantization=q(1 / 256, -128)),
    )
    conv = table("Conv2DOptions", stride_w=1, stride_h=1, fused_activation_function=1)
    pool = table("Pool2DOptions", stride_w=2, stride_h=2, filter_width=2, filter_height=2)
    ops = (
        Op("CONV_2D", (0, 1, 2), (3,), conv, version=3),
        Op("AVERAGE_POOL_2D", (3,), (4,), pool, version=2),
        Op("RESHAPE", (4, 5), (6,), table("ReshapeOptions", new_shape=(1, 64))),
        Op("FULLY_CONNECTED", (6, 7, 8), (9,), table("FullyConnectedOptions"), version=4),
        Op("SOFTMAX", (9,), (10,), table("SoftmaxOptions", beta=1.0), version=2),
    )
    return Graph(
        (SubGraph(tensors, ops, (0,), (10,), "main"),),
        signatures=(Signature("serving_default", 0, (("image", 0),), (("scores", 10),)),),
        metadata=(Metadata("min_runtime_version", b"1.14.0\0\0\0\0\0\0\0\0\0\0", 6),),
    )


def uint8_residual() -> Graph:
    """uint8 [1, 6, 6, 4] → DEPTHWISE_CONV_2D → ADD with the input, → two outputs."""
    rng = np.random.default_rng(3)
    w = rng.integers(0, 256, (1, 3, 3, 4)).astype(np.uint8)
    tensors = (
        Tensor("x", (1, 6, 6, 4), "uint8", quantization=q(0.02, 127)),
        Tensor("dw/w", w.shape, "uint8", w, q(0.01, 121, 3), buffer=1),
        Tensor("dw/b", (4,), "int32", rng.integers(-500, 500, 4).astype(np.int32), q(0.0002), buffer=2),
        Tensor("dw", (1, 6, 6, 4), "uint8", quantization=q(0.03, 110)),
        Tensor("sum", (1, 6, 6, 4), "uint8", quantization=q(0.04, 120)),
    )
    dw = table("DepthwiseConv2DOptions", stride_w=1, stride_h=1, depth_multiplier=1)
    ops = (
        Op("DEPTHWISE_CONV_2D", (0, 1, 2), (3,), dw),
        Op("ADD", (0, 3), (4,), table("AddOptions")),
    )
    return Graph((SubGraph(tensors, ops, (0,), (4, 3)),))


def shared_weights() -> Graph:
    """Two subgraphs with a signature each; their weights are one buffer of the file."""
    w = np.arange(12, dtype=np.float32).reshape(3, 4)
    subgraphs = []
    for k in range(2):
        tensors = (
            Tensor(f"x{k}", (1, 4), "float32"),
            Tensor(f"w{k}", (3, 4), "float32", w, buffer=1),
            Tensor(f"y{k}", (1, 3), "float32"),
        )
        op = Op("FULLY_CONNECTED", (0, 1, -1), (2,), table("FullyConnectedOptions", fused_activation_function=k))
        subgraphs.append(SubGraph(tensors, (op,), (0,), (2,), f"g{k}"))
    signatures = tuple(Signature(f"s{k}", k, (("x", 0),), (("y", 2),)) for k in range(2))
    return Graph(tuple(subgraphs), signatures=signatures)


def exotic() -> Graph:
    """What edgeq carries without running it: other types, custom and StableHLO operations, sparsity, variables, every extra."""
    packed = np.array([0x21, 0x43, 0x05], np.uint8)
    text = np.frombuffer(b"\x01\0\0\0\x0c\0\0\0\x0f\0\0\0abc", np.uint8)
    blockwise = Quantization(
        np.empty(0, np.float32),
        np.empty(0, np.int64),
        1,
        details=table("BlockwiseQuantization", scales=3, zero_points=-1, block_size=2),
    )
    csr = table("DimensionMetadata", format=1, array_segments=table("Uint8Vector", values=b"\0\2"))
    sparsity = table("SparsityParameters", traversal_order=(0, 1), dim_metadata=(table("DimensionMetadata"), csr))
    ranges = table("QuantizationParameters", min=np.zeros(1, np.float32), max=np.ones(1, np.float32))
    variant = (table("VariantSubType", shape=(2, -1), type=9, has_rank=True),)
    tensors = (
        Tensor("x", (5,), "float32", has_rank=True, extra=Table("Tensor", {"quantization": ranges})),
        Tensor("nibbles", (5,), "int4", packed, blockwise, buffer=3),
        Tensor("words", (1,), "string", text, buffer=4),
        Tensor("scales", (3,), "float16", np.ones(3, np.float16), buffer=5),
        Tensor("sparse", (2, 3), "float32", np.zeros(8, np.uint8), sparsity=sparsity, buffer=6),
        Tensor("state", (2,), "float32", is_variable=True),
        Tensor("switch", (3,), "bool", np.array([True, False, True]), buffer=7),
        Tensor("nothing", (0, 4), "int32", np.empty((0, 4), np.int32)),
        Tensor("list", (), "variant", variant_tensors=variant),
        Tensor("a", (5,), "float32"),
        Tensor("b", (5,), "float32"),
        Tensor("y", (5,), "float32"),
    )
    composite = table("StableHLOCompositeOptions", name="odml.norm", composite_attributes=b"\1\2", version=2)
    ops = (
        Op("CUSTOM", (0, 1, 2, -1), (9,), custom_code="Mine", custom_options=b"\x00\xff options", version=7),
        Op("STABLEHLO_COMPOSITE", (9,), (10,), composite, extra=Table("Operator", {"debug_metadata_index": 4})),
        Op(
            "SVDF",
            (10, 4, 3, -1, 5),
            (11,),
            table("SVDFOptions", rank=1),
            version=3,
            intermediates=(6, 7),
            mutating_variable_inputs=(False, False, False, False, True),
        ),
    )
    main = SubGraph(tensors, ops, (0, 8), (11, 8), None, Table("SubGraph", {"debug_metadata_index": 0}))
    body = SubGraph((Tensor("", (), "int64"),), (), (0,), (0,), "body")
    extra = {"metadata_buffer": (8, 9), "buffers": ((9, np.frombuffer(b"kept", np.uint8)),)}
    return Graph(
        (main, body),
        "ünïcode",
        metadata=(Metadata("one", b"first", 8), Metadata(None, b"")),
        extra=Table("Model", extra),
    )


SMALL_MODELS: dict[str, Callable[[], Graph]] = {
    "float mlp": float_mlp,
    "int8 cnn": int8_cnn,
    "uint8 residual": uint8_residual,
    "shared weights": shared_weights,
    "exotic": exotic,
}
