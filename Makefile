.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := cifar_report tests notebooks

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help report test bench lint

help:  ## show this help
	@echo 'make report [PROFILE=quick|cpu|full] [SEEDS=0,1,2] [ONLY="EXP003 EXP007-EXP010"] [SET="epochs=3 lr=0.01"] [JOBS=2]'
	@echo '             run what is missing and write outputs/<profile>/report/report.html'
	@echo 'make test    run the tests'
	@echo 'make bench   measure speed and memory, side by side with what people use today (PARTS="training frozen")'
	@echo 'make lint    check style and types'
	@echo 'Each sets up a virtual environment in $(VENV) first, once; PYTHON=python3.12 chooses its Python.'

# The clone itself is installed, so only a change of what it requires installs anything again.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

report: $(INSTALLED)
	@$(BIN)/python -m cifar_report report $(ONLY) $(if $(PROFILE),--profile $(PROFILE)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(SET),--set '$(SET)') $(if $(JOBS),--jobs $(JOBS))

test: $(INSTALLED)
	$(BIN)/python -m pytest

bench: $(INSTALLED)
	@$(BIN)/python -m cifar_report bench $(PARTS)

lint: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
