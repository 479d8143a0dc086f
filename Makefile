# One command to set up, one to check. Every target works as the first one on a fresh checkout: it makes .venv when it is
# missing or older than pyproject.toml.
#
#   make demo     calibrate, quantize, seal, grant and run the model that comes with edgeq
#   make test     the tests (ARGS="tests/test_demo.py -k flipped" narrows them)
#   make arm      every target on a processor of its own, emulated where this machine is another (ARGS as for the tests)
#   make tamper   the tamper matrix: what was damaged how often, and how it was refused
#   make fuzz     every reader of files under a fuzzer, then damaged models (MINUTES=5 for each)
#   make lint     ruff, mypy, import-linter
#   make bench    timings of the demo's models beside the other runtimes that are installed
#   make setup    the environment for all of the above
#   make clean    remove everything that the targets made

# tflite-runtime, the oracle of many tests, stops at Python 3.11; without it those tests are skipped.
PYTHON ?= $(shell for p in python3.11 python3; do command -v $$p && break; done)
VENV   := .venv
RUN    := $(VENV)/bin
PIP    := $(RUN)/python -m pip --quiet --disable-pip-version-check
ARGS   ?=
MINUTES ?= 5
PEERS  := 'from importlib.util import find_spec as f; \
	print(",".join(n for n, m in (("litert", "ai_edge_litert"), ("tflite", "tflite_runtime"), ("openvino", "openvino")) if f(m)))'

.PHONY: setup demo test arm tamper fuzz lint bench clean

setup: $(VENV)/.develop

demo: $(VENV)/.run
	@$(RUN)/edgeq demo $(ARGS)

test: $(VENV)/.develop
	$(RUN)/python -m pytest $(ARGS)

arm: $(VENV)/.develop
	@$(RUN)/python -m tests.arm.fetch > /dev/null
	$(RUN)/edgeq targets build
	$(RUN)/python -m pytest tests/arm -n 2 --dist loadgroup $(ARGS)

tamper: $(VENV)/.develop
	@$(RUN)/python tests/tamper.py $(ARGS)

# atheris has no wheels for some machines; the seeded mutator takes its place there.
fuzz: $(VENV)/.develop
	@$(RUN)/python -c 'import atheris' 2>/dev/null || $(PIP) install 'atheris>=2.3' || echo "no atheris here: the seeded mutator it is"
	@$(RUN)/python tests/fuzz/run.py --minutes $(MINUTES) $(ARGS)
	@$(RUN)/python benchmarks/mutations.py --minutes $(MINUTES) --seed $$(date +%s)

lint: $(VENV)/.develop
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports

bench: $(VENV)/.develop
	rm -rf build/bench
	$(RUN)/edgeq demo --keep build/bench
	for model in digits digits_int8; do \
		$(RUN)/edgeq bench build/bench/$$model.tflite --against "$$($(RUN)/python -c $(PEERS))" $(ARGS) || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What running needs, and nothing else: the demo does not wait for the tools.
$(VENV)/.run: pyproject.toml
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --editable .
	@touch $@

$(VENV)/.develop: pyproject.toml
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	extras=$$($(RUN)/python -c 'import sys; print("dev,litert,targets" + ",tflite" * (sys.version_info < (3, 12)))') && \
	$(PIP) install --editable ".[$$extras]"
	@touch $@ $(VENV)/.run
