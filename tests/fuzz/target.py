"""One reader under a fuzzer, in a process of its own: `python tests/fuzz/target.py READER ENGINE RUNS SECONDS CORPUS`.

ENGINE is `atheris`, which sees what code an input reaches, or `mutator`, which does not and needs nothing installed. The corpus
directory is read, and gets what reached something new. What was done is printed as libFuzzer prints it, in lines that begin
with `stat::`; a stray exception is printed, the input that raised it kept beside the corpus, and the exit status is then not 0.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
MEMORY_MB = 512
LONGEST = 8192
"""Bytes of an input."""

OWN = 0.5
"""Share of the mutations that know what means something to the parsers; the others are libFuzzer's."""


def main() -> int:
    """Fuzz one reader."""
    name, engine, runs, seconds, corpus = (
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        float(sys.argv[4]),
        Path(sys.argv[5]),
    )
    sys.path[:0] = [str(TESTS), str(TESTS / "fuzz")]
    corpus.mkdir(parents=True, exist_ok=True)
    return (with_atheris if engine == "atheris" else with_mutator)(name, runs, seconds, corpus)


def with_mutator(name: str, runs: int, seconds: float, corpus: Path) -> int:
    """Mutations of the sound example and of the corpus, from a fixed seed."""
    from mutator import mutate
    from readers import readers

    from edgeq.errors import EdgeqError

    data, read = readers()[name]
    seeds = [data, *(path.read_bytes() for path in sorted(corpus.iterdir()))]
    rng, start, done = random.Random(name), time.monotonic(), 0
    while done < runs and time.monotonic() - start < seconds:
        mutant = mutate(rng.choice(seeds), rng)[:LONGEST]
        try:
            with suppress(EdgeqError):
                read(mutant)
        except BaseException:
            (corpus.parent / f"crash-{name.replace(' ', '-')}").write_bytes(mutant)
            raise
        done += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"stat::number_of_executed_units: {done}\nstat::peak_rss_mb: {peak}", file=sys.stderr)
    return 0


def with_atheris(name: str, runs: int, seconds: float, corpus: Path) -> int:
    """Mutations that libFuzzer chooses by the code that they reach."""
    import atheris

    with atheris.instrument_imports(include=["edgeq"]):
        from mutator import mutate
        from readers import readers

        from edgeq.errors import EdgeqError
    data, read = readers()[name]
    (corpus / "example").write_bytes(data)
    rng = random.Random(name)

    def once(given: bytes) -> None:
        with suppress(EdgeqError):
            read(given)

    def mutated(given: bytes, longest: int, seed: int) -> bytes:
        rng.seed(seed)
        if rng.random() < OWN:
            return mutate(given, rng)[:longest]
        return atheris.Mutate(given, longest)

    options = [
        f"-runs={runs}",
        f"-max_total_time={max(1, int(seconds))}",
        f"-max_len={max(LONGEST, len(data) + 1024)}",
        f"-rss_limit_mb={MEMORY_MB}",
        "-timeout=5",
        "-seed=1",
        "-print_final_stats=1",
        "-verbosity=0",
        f"-artifact_prefix={corpus.parent}/crash-{name.replace(' ', '-')}-",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], once, custom_mutator=mutated)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
