"""What instructions look like: the words of each kernel's, and the kernels' numbers.

Plain constants, so that a plan can be made, and run by a ready object, where Numba is not installed.
"""

KERNELS = (
    "conv_u8",
    "conv_u8_sum",
    "conv_hybrid",
    "conv_s16",
    "conv_f32",
    "depthwise_u8",
    "depthwise_runs",
    "depthwise_s16",
    "depthwise_f32",
    "add_u8",
    "mul_u8",
    "binary_s16",
    "binary_f32",
    "average_u8",
    "average_s16",
    "average_f32",
    "maximum_u8",
    "maximum_s16",
    "maximum_f32",
    "mean_u8",
    "mean_s16",
    "mean_f32",
    "softmax_u8",
    "softmax_s16",
    "softmax_f32",
    "table_u8",
    "rescale",
    "quantize_f32",
    "dequantize_f32",
    "unary_f32",
    "dynamic_u8",
    "copy_nd",
    "fill_bytes",
    "pad_image",
)
"""Every kernel's function name; its place here is its opcode."""

OPCODES = {name: i for i, name in enumerate(KERNELS)}
