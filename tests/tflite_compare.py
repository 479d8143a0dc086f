"""Deep comparison of graphs: what "read → write → read is the identity" means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import numpy as np


def difference(a: object, b: object, path: str = "graph") -> str | None:
    """Where two values first differ, None where they are the same.

    Arrays are the same when dtype, shape and every bit agree; NaN is the same as NaN; True is not 1.
    """
    if type(a) is not type(b):
        return f"{path}: {a!r} and {b!r}"
    if isinstance(a, np.ndarray):
        same = a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        return None if same else f"{path}: arrays {a!r} and {b!r}"
    if is_dataclass(a):
        pairs = [(f".{f.name}", getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    elif isinstance(a, Mapping):
        if a.keys() != b.keys():
            return f"{path}: keys {sorted(a)} and {sorted(b)}"
        pairs = [(f"[{k!r}]", a[k], b[k]) for k in a]
    elif isinstance(a, tuple | list):
        if len(a) != len(b):
            return f"{path}: {len(a)} and {len(b)} elements"
        pairs = [(f"[{k}]", x, y) for k, (x, y) in enumerate(zip(a, b, strict=True))]
    else:
        return None if a == b or (a != a and b != b) else f"{path}: {a!r} and {b!r}"
    return next((found for name, x, y in pairs if (found := difference(x, y, path + name))), None)
