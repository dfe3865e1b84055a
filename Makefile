.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed$(if $(LOCKED),-locked)
SOURCES := cifar_report benchmarks maintenance tests notebooks

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help report test bench lint lock pictures findings notebooks archive verify-code gpu-check docs mutants soak release-check

help:  ## show this help
	@echo 'make report [PROFILE=quick|reference|full] [SEEDS=0,1,2] [ONLY="EXP003 EXP007-EXP010"] [SET="epochs=3 train_limit=1000"] [JOBS=2] [OUTPUT=folder]'
	@echo '             run what is missing and write outputs/<profile>/report/report.html'
	@echo '             LOCKED=1 installs the exact versions of requirements.lock first'
	@echo 'make test    run the tests'
	@echo 'make bench   measure speed and memory, side by side with what people use today (PARTS="training frozen")'
	@echo 'make lint    check style, types, layers and the size of the library'
	@echo 'make lock    write requirements.lock anew'
	@echo 'make notebooks [REPO=owner/name REF=v1.0]  write the cells that notebooks share, and where Colab finds them'
	@echo 'make verify-code ONLY=EXP003 SEEDS=0,1,2  see whether the code gives the bits of the committed records'
	@echo 'make gpu-check  whether training on this GPU keeps what the package promises (on a CPU, what applies there)'
	@echo 'make findings  write docs/findings.md, README'"'"'s tables and the records'"'"' note anew, from the committed records'
	@echo 'make mutants [COUNT=200 SEED=0]  change the code in one small way after another: do the tests notice?'
	@echo 'make soak [COUNT=100 SEED=0]  kill runs at random, fill their disk, damage their files: is anything lost?'
	@echo 'make archive [PROFILE=quick OUTPUT=folder]  pack code, records, report and versions into one file: outputs/cifar-report-quick.zip'
	@echo 'make docs    write the documentation as a site, with the reference report: build/site/index.html'
	@echo 'make release-check [ONLY="wheel colab site quick commands"]  the wheel alone, Colab'"'"'s versions, the site, what the quick journal learns, the commands of the docs that a CPU can run'
	@echo 'make pictures  take the pictures of README and guide anew, from the committed records (needs Chromium)'
	@echo 'Each sets up a virtual environment in $(VENV) first, once; PYTHON=python3.12 chooses its Python.'

# One `make` at a time installs; one that has waited for another finds nothing left to do.
define install
@$(PYTHON) maintenance/one_at_a_time.py $(VENV)/.lock sh -c 'test $@ -nt $< || { $(strip $(1)); }'
endef

# The links of an earlier attempt go first: another Python would keep them. Those of a linked environment are another's.
NOT_LINKED = { test ! -L $(VENV) || { echo "$(VENV) is a link to another environment: remove it, and make sets one up here" >&2; false; }; }
NEW_VENV = $(NOT_LINKED) && rm -f $(BIN)/python $(BIN)/python3 && $(PYTHON) -m venv $(VENV)

# The clone itself is installed, so only a change of what it requires installs anything again.
$(VENV)/.installed: pyproject.toml
	$(call install, $(NEW_VENV) && $(BIN)/python -m pip install --quiet --editable ".[dev]" \
		&& rm -f $(VENV)/.installed-locked && touch $@)

# Exactly the versions and files that were locked, checked by their hashes; nothing else is fetched.
$(VENV)/.installed-locked: requirements.lock
	$(call install, $(NEW_VENV) \
		&& $(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock \
		&& $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable . \
		&& rm -f $(VENV)/.installed && touch $@)

report: $(INSTALLED)
	@$(BIN)/python -m cifar_report report $(ONLY) $(if $(PROFILE),--profile $(PROFILE)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(SET),--set '$(SET)') $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(OUTPUT),--output '$(OUTPUT)')

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

bench: $(INSTALLED)
	@$(BIN)/python benchmarks/bench.py $(PARTS)

lint: $(INSTALLED)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python maintenance/size.py

# Locks what is installed and was tested here; other systems and Pythons get the versions nearest to it.
lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python -m pip freeze --exclude-editable --exclude uv > $(VENV)/constraints.txt
	printf 'hatchling\neditables\n' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate \
		--python-version 3.11.5 --constraints $(VENV)/constraints.txt --custom-compile-command 'make lock' \
		pyproject.toml - --output-file requirements.lock

gpu-check: $(INSTALLED)
	@$(BIN)/python maintenance/gpu_check.py

findings: $(INSTALLED)
	@$(BIN)/python maintenance/write_findings.py

mutants: $(INSTALLED)
	@COUNT=$(or $(COUNT),200) SEED=$(or $(SEED),0) $(BIN)/python maintenance/mutants.py

soak: $(INSTALLED)
	@COUNT=$(or $(COUNT),100) SEED=$(or $(SEED),0) $(BIN)/python maintenance/soak.py

release-check: $(INSTALLED)
	@$(BIN)/python maintenance/release_check.py $(ONLY)

archive: $(INSTALLED)
	@$(BIN)/python maintenance/archive.py '$(or $(OUTPUT),outputs/$(or $(PROFILE),quick))'

docs: $(INSTALLED)
	@$(BIN)/python maintenance/write_site.py

pictures: $(INSTALLED)
	@$(BIN)/python maintenance/pictures.py

notebooks: $(INSTALLED)
	@$(BIN)/python maintenance/write_notebooks.py $(if $(REPO),--repo $(REPO)) $(if $(REF),--ref $(REF))

verify-code: $(INSTALLED)
	@$(BIN)/python maintenance/verify_code.py $(ONLY) --profile $(or $(PROFILE),reference) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(SET),--set '$(SET)') $(if $(OUTPUT),--output '$(OUTPUT)')
