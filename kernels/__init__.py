"""Numba kernels: plain loops over flat arrays, no objects, no checks; the plan validates and wraps."""
