"""PyTorch programs saved by torch.export (.pt2) → .tflite with litert-torch."""

from __future__ import annotations

import json
import sys


def main(source: str, out: str, options: str) -> int:
    """Convert; the exit status."""
    try:
        import litert_torch
        import torch
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    given = json.loads(options)
    if given["batch"] is not None or given["shapes"]:
        print("ValueError: an exported program has its shapes; export it with others", file=sys.stderr)
        return 1
    program = torch.export.load(source)
    if program.example_inputs is None:
        print("ValueError: the program was saved without example inputs", file=sys.stderr)
        return 1
    arguments, named = program.example_inputs
    litert_torch.convert(program.module(), arguments, named or None).export(out)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
