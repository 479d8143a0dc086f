"""What a start leaves out until somebody asks for it: parts of NumPy, and OpenSSL."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from edgeq import digest
from edgeq.late import PARTS

USES = {
    "a part by attribute": "import numpy as np; assert np.random.default_rng(0).integers(9) < 9",
    "every part": f"import numpy as np; assert all(getattr(np, p).__name__ == 'numpy.' + p for p in {PARTS})",
    "a part by import": "import numpy.fft as f; assert f.fft([1.0, 0.0]).real.tolist() == [1, 1]",
    "a part by from": "from numpy import ma; assert ma.array([1, 2], mask=[0, 1]).sum() == 1",
    "two parts in threads": """
import numpy as np
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda n: getattr(np, ("random", "ma")[n % 2]).__name__, range(64)))
assert set(found) == {"numpy.random", "numpy.ma"}""",
    "all names": "from numpy import *; assert random.__name__ == 'numpy.random' and fft.fft",
    "names are listed": f"import numpy as np; assert {set(PARTS)} <= set(dir(np)) and len(dir(np)) == len(set(dir(np)))",
    "no other name": "import numpy as np; assert not hasattr(np, 'nonsense') and hasattr(np, 'testing')",
    "a pickled generator": """
import pickle, numpy as np
assert pickle.loads(pickle.dumps(np.random.default_rng(3))).integers(100) == np.random.default_rng(3).integers(100)""",
    "the loader is its class's": "import numpy as np; assert 'exec_module' not in vars(np.__spec__.loader)",
    "sources are found": "import inspect, numpy as np; assert 'def __getattr__' in inspect.getsource(np)",
    "nothing is left among the finders": "assert all(type(f).__module__ != 'edgeq.late' for f in sys.meta_path)",
}


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_numpy_is_all_there(use: str) -> None:
    """In a process of edgeq's own every part of NumPy is where it always is."""
    run(
        f"import sys, edgeq.cli, edgeq.quantmod\nassert not any('numpy.' + p in sys.modules for p in {PARTS[1:]})\n{use}"
    )


def test_numpy_that_came_first_is_left_alone() -> None:
    """NumPy that was imported before edgeq's commands has what it had."""
    run(
        "import sys, numpy as np\nbefore = np.__getattr__, np.__dir__, len(sys.modules)\nimport edgeq.cli\n"
        "assert before[:2] == (np.__getattr__, np.__dir__) and all(type(f).__module__ != 'edgeq.late' for f in sys.meta_path)"
    )


def test_an_applications_numpy_is_left_alone() -> None:
    """A library does not change how an application's NumPy is loaded."""
    run(
        "import sys, edgeq\nassert all(type(f).__module__ != 'edgeq.late' for f in sys.meta_path)\nimport edgeq.quantmod"
    )


def test_numpy_is_found_once() -> None:
    """A package that was imported twice, as by tests that drop modules, loads NumPy all the same."""
    run(
        "import sys, edgeq.cli\ndel sys.modules['edgeq.cli']\nimport edgeq.cli, numpy\nassert numpy.random.default_rng(0)"
    )


def test_other_modules_are_found_meanwhile() -> None:
    """A thread that looks for a module while another one loads NumPy finds it."""
    run("""
import sys, edgeq.cli
from importlib.machinery import PathFinder
class Meanwhile:
    def find_spec(self, name, path=None, target=None):
        if name == "colorsys":
            import numpy
sys.meta_path.insert(sys.meta_path.index(PathFinder), Meanwhile())
import colorsys
assert "numpy" in sys.modules""")


def test_numpy_that_fails_says_so() -> None:
    """A NumPy that cannot be loaded raises what it raises, and is not there then."""
    run(
        "import sys, edgeq.cli\nsys.modules['numpy.core'] = sys.modules['numpy._core'] = None\n"
        "try:\n    import numpy\nexcept ImportError:\n    assert 'numpy' not in sys.modules\n"
        "else:\n    raise SystemExit('loaded')"
    )


@pytest.mark.parametrize("size", [0, 1, 64, 1000, digest.LITTLE + 1])
def test_digests(size: int) -> None:
    """Digests are those of hashlib, whoever computes them."""
    data = np.arange(size, dtype=np.uint8).tobytes()
    own = digest._own()
    for made in (digest.sha256, *([own] if own else [])):
        state = made(b"")
        state.update(data)
        assert made(data).digest() == state.digest() == hashlib.sha256(data).digest()
    assert digest.blake2b(data) == hashlib.blake2b(data, digest_size=32).digest()


def test_no_openssl_for_a_start() -> None:
    """Quantizing loads no OpenSSL, where NumPy has not done so."""
    run(
        "import sys, edgeq.cli, edgeq.quantize.run\nassert '_hashlib' not in sys.modules and 'secrets' not in sys.modules"
    )
