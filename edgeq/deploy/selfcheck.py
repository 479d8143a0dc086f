"""Run on a device, as an app of the release would run: open the bundle, run it twice on the same input, time it.

Sent by edgeq.deploy.steps and started by the agent with the release's environment; uses edgeq's public interface alone.
"""

import json
import os
import resource
import sys
import time
from typing import Any

MARK = "edgeq-agent-1 "


def main() -> dict[str, object]:
    """What was found, for people."""
    import numpy as np

    import edgeq

    started = time.perf_counter()
    found = os.environ
    model = edgeq.load(
        found["EDGEQ_BUNDLE"],
        grant=found.get("EDGEQ_GRANT"),
        identity=found.get("EDGEQ_IDENTITY") if "EDGEQ_GRANT" in found or "EDGEQ_STATE" in found else None,
        trust=found["EDGEQ_TRUST"],
        state=found.get("EDGEQ_STATE"),
    )
    opened = time.perf_counter()
    draw = np.random.default_rng(0)
    given = {}
    for port in model.inputs:
        wide = np.issubdtype(port.dtype, np.integer) and np.iinfo(port.dtype)
        whole = (
            draw.integers(wide.min, wide.max, port.shape, endpoint=True) if wide else draw.standard_normal(port.shape)
        )
        given[port.name] = np.asarray(whole).astype(port.dtype)
    first, second = (as_arrays(model(given)) for _ in range(2))
    if any(
        not np.array_equal(first[name], second[name], equal_nan=np.issubdtype(first[name].dtype, np.floating))
        for name in first
    ):
        raise SystemExit("two inferences on the same input differ")
    times: list[float] = []
    until = time.perf_counter() + 0.5
    while len(times) < 3 or (len(times) < 100 and time.perf_counter() < until):
        begin = time.perf_counter()
        model(given)
        times.append(time.perf_counter() - begin)
    return {
        "edgeq": edgeq.__version__,
        "kernels": kernels(),
        "open_s": opened - started,
        "inference_s": sorted(times)[len(times) // 2],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "numba": "numba" in sys.modules,
    }


def as_arrays(outputs: Any) -> dict[str, Any]:
    """Outputs by name, of models with one output, too."""
    return outputs if isinstance(outputs, dict) else {"": outputs}


def kernels() -> str:
    """Which kernels run here, and where they came from."""
    from edgeq import machine

    loaded = machine.get()
    return f"{loaded.isa.name}, {loaded.source}"


if __name__ == "__main__":
    print(MARK + json.dumps(main()))
