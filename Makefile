# make demo    the main job: train, attack, certify, plot, export, serve
# make test    lint and the fast tests     make test-all   the slow ones too
# make bench   speed, with PyTorch beside  make test-backends   JAX, PyTorch
# Each target makes the environment that it needs. Another Python:
#   make demo PYTHON=python3.12

PYTHON ?= python3
JOBS ?= 2
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

BIN := .venv/bin
PACKAGING := setup.cfg pyproject.toml
BACKEND_TESTS := tests/backends tests/unit/layers tests/unit/models \
	tests/unit/train_steps tests/unit/trainers tests/unit/test_spectral_norm.py \
	tests/unit/test_constraints.py tests/unit/test_training.py \
	tests/unit/callbacks/test_projection.py tests/conformance/test_layers.py
PYTORCH := torch==2.13.0

.PHONY: demo test test-all test-backends lint format golden bench bench-gpu \
	wheel clean

demo: .venv/.run-time
	$(BIN)/python -m training.demo

lint: .venv/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow"
	KERAS_BACKEND=jax JAX_ENABLE_X64=1 $(BIN)/python -m pytest -n $(JOBS) \
		-m "not slow" tests/conformance/test_layers.py

test-all: lint
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# TensorFlow from the checkout, JAX from the wheel (where TensorFlow is not
# installed), PyTorch from the checkout.
test-backends: .venv/.development .venv-jax/.ready .venv-torch/.ready
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest -m "not slow" $(BACKEND_TESTS)
	KERAS_BACKEND=jax JAX_ENABLE_X64=1 .venv-jax/bin/pytest -o pythonpath= -m "not slow" $(BACKEND_TESTS)
	KERAS_BACKEND=torch .venv-torch/bin/python -m pytest -m "not slow" $(BACKEND_TESTS)

# Writes the list of public names again, to be read before it is committed.
golden: .venv/.development
	$(BIN)/python -m tests.conformance.test_public_names

bench: .venv/.development .venv-torch/.ready
	$(BIN)/python -m benchmarks.run --torch-python .venv-torch/bin/python

# On a machine with an NVIDIA GPU: JAX beside PyTorch, on the GPU. With
# CIFAR10=PATH it trains the full recipes of a table on JAX instead, ROWS of it
# with one seed for SLICE seconds; the same command goes on where it stopped.
# ROWS are the first two of the tables below, else all; PATH is that of
# CIFAR-100 for its tables:
#   make bench-gpu CIFAR10=PATH TABLE=prodpoly-cifar10
SLICE ?= 480
TABLE ?= qresnet-cifar10
ROWS_qresnet-cifar10 := "ResNet20" "QResNet20"
ROWS_prodpoly-cifar10 := "ResNet18" "Prodpoly-ResNet18"
ROWS_prodpoly-cifar100 := "ResNet34" "Prodpoly-ResNet34"
ROWS_prodpoly-cifar100-linear := "ResNet18" "no activations, 2222"
ROWS ?= $(ROWS_$(TABLE))
bench-gpu: .venv-gpu/.ready
ifdef CIFAR10
	KERAS_BACKEND=jax timeout --signal=INT $(SLICE) \
		.venv-gpu/bin/python -m training.reproduce $(TABLE) --seeds 1 \
		--set data.name=$(CIFAR10) $(if $(ROWS),--rows $(ROWS)); \
		status=$$?; [ $$status = 0 ] || [ $$status = 124 ]
else
	KERAS_BACKEND=jax .venv-gpu/bin/python -m benchmarks.run --gpu \
		--torch-python .venv-gpu/bin/python
endif

wheel: .venv/.development
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation

clean:
	rm -rf .venv* build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. A stamp says that one is complete.

define make_environment
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	sys.exit(not (3, 11) <= v[:2] <= (3, 13))' || { \
	echo "keras_polynets needs Python 3.11, 3.12 or 3.13, and PYTHON=$(PYTHON)" \
	"is $$($(PYTHON) --version 2>&1). Choose one:" \
	"make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(@D) || { echo "The environment $(@D) could not be" \
	"made. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
endef

.venv/.run-time: $(PACKAGING)
	$(make_environment)
	@echo "Installing keras_polynets and TensorFlow into .venv (minutes) ..."
	@$(BIN)/pip install --quiet --editable ".[all]"
	@touch $@

.venv/.development: .venv/.run-time
	@echo "Installing the tools of the tests into .venv ..."
	@$(BIN)/pip install --quiet --editable ".[all,dev]"
	@touch $@

.venv-jax/.ready: $(PACKAGING) $(shell find keras_polynets zoo -type f \
		-not -path "*/__pycache__/*" 2>/dev/null) | .venv/.development
	$(make_environment)
	@echo "Installing the wheel and JAX, without TensorFlow, into .venv-jax ..."
	@$(MAKE) --no-print-directory wheel >/dev/null
	@.venv-jax/bin/pip install --quiet --force-reinstall --no-deps dist/*.whl
	@.venv-jax/bin/pip install --quiet "$$(echo dist/*.whl)[jax]" pytest
	@touch $@

.venv-torch/.ready: $(PACKAGING)
	$(make_environment)
	@echo "Installing PyTorch into .venv-torch ..."
	@.venv-torch/bin/pip install --quiet $(PYTORCH)
	@.venv-torch/bin/pip install --quiet --editable . pytest
	@touch $@

.venv-gpu/.ready: $(PACKAGING)
	$(make_environment)
	@echo "Installing JAX and PyTorch for a GPU into .venv-gpu ..."
	@.venv-gpu/bin/pip install --quiet "jax[cuda12]" $(PYTORCH) --editable .
	@touch $@
