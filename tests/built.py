"""Objects for tests: built once for these kernels and kept in the cache, apart from those that the engine looks for."""

from __future__ import annotations

import platform
from pathlib import Path

from edgeq.targets import build, objects
from edgeq.targets.identity import source_digest
from edgeq.targets.table import TARGETS
from edgeq.targets.target import Target

HERE = {"x86_64": "x86-64-v3", "aarch64": "armv8"}.get(platform.machine())
"""A target that the machine which runs the tests surely runs, None on others."""


def folder_with(*names: str) -> Path:
    """A folder that holds the objects of these targets."""
    targets: list[Target] = [TARGETS[n] for n in names]
    digest = source_digest()
    theirs = objects.built_folder(digest)
    if all(build.is_built(t, theirs) for t in targets):
        return theirs
    folder = objects.cache_folder() / "targets-of-tests" / digest[:32]
    build.build(targets, folder, lambda *_: None)
    return folder
