# `make help` lists the targets. PYTHON chooses the interpreter (3.10 or newer), VENV the environment's folder.
PYTHON ?= python3
VENV ?= .venv
DEMO := demo
PHOTO := examples/astronaut.jpg
# GPUs of `make engines`.
GPUS ?= sm86 sm89 sm120

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES_OF_INSTALL := pyproject.toml constraints.txt CMakeLists.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench engines clean
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.runtime ## landmarks on the sample photograph and on a short video made from it
	@mkdir -p $(DEMO)
	@$(BIN)/python scripts/demo_video.py $(PHOTO) $(DEMO)/portrait.mp4
	@$(BIN)/keyposs-trt run $(PHOTO) -o $(DEMO)/astronaut.jpg --json $(DEMO)/astronaut.jsonl
	@$(BIN)/keyposs-trt run $(DEMO)/portrait.mp4 -o $(DEMO)/portrait_landmarks.mp4 --json $(DEMO)/portrait_landmarks.jsonl
	@printf 'The pictures are in %s:\n' "$(CURDIR)/$(DEMO)"
	@printf '  %s\n' astronaut.jpg astronaut.jsonl portrait.mp4 portrait_landmarks.mp4 portrait_landmarks.jsonl

test: lint ## linter, type checker and all tests
	@$(MAKE) --no-print-directory $(VENV)/.headers || echo "TensorRT's headers could not be downloaded: the plugin is not tested."
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest

lint: $(VENV)/.dev ## linter and type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright

format: $(VENV)/.dev ## let ruff format and mend the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.build ## milliseconds a face, stage by stage
	@$(BIN)/python benchmarks/stages.py

engines: $(VENV)/.dev ## TensorRT-RTX engines of all shipped models in every precision; needs no GPU
	@$(BIN)/keyposs-trt build face68 --heatmap 64 32 16 8 4 -o engines --backend tensorrt-rtx --precision fp32 fp16 int8 --gpu $(GPUS)

clean: ## remove what was made, but keep the environment
	rm -rf $(DEMO) engines build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "keyposs-trt needs Python 3.10 or newer; give one with PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)

# The stamps keep a second `make` from installing again; pip itself keeps what already fits.
$(VENV)/.runtime: $(SOURCES_OF_INSTALL) | $(BIN)/python
	@echo "Installing keyposs-trt into $(VENV)"
	@$(INSTALL) -e .
	@touch $@

# With onnx the benchmark can tell the decoder's time from the network's.
$(VENV)/.build: $(SOURCES_OF_INSTALL) | $(VENV)/.runtime
	@$(INSTALL) -e ".[build]"
	@touch $@

$(VENV)/.dev: $(SOURCES_OF_INSTALL) | $(VENV)/.runtime
	@echo "Installing the development tools, PyTorch among them, into $(VENV): some minutes"
	@$(INSTALL) -e ".[dev]"
	@touch $@

# TensorRT's headers, to compile and test the plugin where TensorRT is not installed; they are never installed or shipped.
$(VENV)/.headers: cmake/tensorrt-headers.txt | $(BIN)/python
	@rm -rf $(VENV)/headers.tmp $(VENV)/tensorrt-headers
	@$(BIN)/python -m pip download -qq --disable-pip-version-check --no-deps --require-hashes -r $< -d $(VENV)/headers.tmp
	@$(BIN)/python -m zipfile -e $(VENV)/headers.tmp/*.whl $(VENV)/headers.tmp
	@mv $(VENV)/headers.tmp/kernel_lens/include/tensorrt $(VENV)/tensorrt-headers
	@rm -rf $(VENV)/headers.tmp
	@touch $@
