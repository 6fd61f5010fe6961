# GenOT notebooks: everything a reader, analyst or teacher starts from the shell.
# `make` alone lists the targets. Everything lives in the checkout: .venv/ and results/.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV   ?= .venv
BIN    := $(VENV)/bin
# The first of these that is here (the pins were made with 3.11); PYTHON=... chooses another one.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
# Where pip looks for torch; empty means pip's own setting. A machine without a GPU can
# save gigabytes with the CPU index that https://pytorch.org/get-started/locally shows.
TORCH_INDEX ?=
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
SEED      ?= 0
NOTEBOOK  ?= 01
PARAMS    ?=
TABLE     ?= workflow/example.yaml
PROFILE   ?= local
CORES     ?= 2
SWEEP     ?= results/sweeps/$(basename $(notdir $(TABLE)))
JOBS      ?= 2
SITE_PARAMS ?=
PYTEST    ?= -n auto --dist loadfile

# Without this, installing rpy2 needs R and a C compiler even when R is never used.
export RPY2_CFFI_MODE := ABI
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONHASHSEED := 0

# $(call pip,ARGUMENTS): one line for each large package that is fetched, instead of minutes of silence
# or a thousand lines. All that pip says is in $(PIP_LOG); its errors are shown as well.
PIP_LOG    := $(VENV)/install.log
NEEDED     := .[r,io]
EVERYTHING := .[r,io,sweeps,site,teaching,test]
define pip
{ $(BIN)/python -m pip install $(1) 2>&1; echo "pip ended with $$?"; } | tee -a "$(PIP_LOG)" | { \
	code=1; n=0; \
	while IFS= read -r line; do case "$$line" in \
		*Downloading*"("[0-9][0-9]*" MB)"*|*Downloading*" GB)"*|*"Using cached"*"("[0-9][0-9]*" MB)"*) \
			echo "  $${line#"$${line%%[! ]*}"}" ;; \
		Collecting*|Processing*) n=$$((n + 1)); test $$((n % 40)) -ne 0 || echo "  $$n packages found ..." ;; \
		"Installing collected packages:"*,*) echo "  Unpacking them all (a minute or two) ..." ;; \
		ERROR*|*Retrying*) echo "$$line" >&2 ;; \
		"pip ended with "*) code=$${line#pip ended with } ;; \
	esac; done; \
	test "$$code" = 0 || echo "pip has failed. Everything it said: $(PIP_LOG)" >&2; \
	exit "$$code"; }
endef

.PHONY: help install demo run sweep test check lab notebooks site site-serve bench lint student instructor live offline-bundle clean

help: ## Show this list
	@echo "GenOT notebooks. Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(BIN)/.installed ## Make the virtual environment with the pinned packages

$(BIN)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found. Install it, or say where: make PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { echo "Could not make a virtual environment with $(PYTHON). On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing about 230 packages in pinned versions into $(VENV)/ (some minutes the first time)."
	@echo "  Asking which are needed; the large ones are listed as they come ..."
	@$(call pip,--upgrade pip)
	@if test -n "$(TORCH_INDEX)"; then $(call pip,-c constraints.txt --index-url "$(TORCH_INDEX)" torch); fi
	@$(call pip,-c constraints.txt -e "$(NEEDED)")
	@touch $@

# What only tests, sweeps, the site and the course need comes on top, when first asked for.
$(BIN)/.installed-all: $(BIN)/.installed
	@echo "Installing what tests, sweeps, site and course need ..."
	@$(call pip,-c constraints.txt -e "$(EVERYTHING)")
	@touch $@

demo: install ## Notebook 01 on embedded (simulated) data: scores and an HTML page, about 2 minutes
	@$(BIN)/python -m genot_helpers run 01 --output-dir results/demo seed=$(SEED)

run: install ## One notebook with parameters: make run NOTEBOOK=01 PARAMS="section=151674"
	@$(BIN)/python -m genot_helpers run "$(NOTEBOOK)" $(PARAMS)

sweep: $(BIN)/.installed-all ## A table of runs with Snakemake: make sweep TABLE=table.csv [PROFILE=slurm] [CORES=2]
	@$(BIN)/python -m genot_helpers sweep "$(TABLE)" --output-dir "$(SWEEP)" --profile "$(PROFILE)" --cores $(CORES)

test: $(BIN)/.installed-all ## The whole test suite, notebooks included (set GENOT_DATA_DIR for the real slices)
	@$(BIN)/python -m pytest $(PYTEST)

# Left out: notebooks, measured slices, and tests that start other programs.
OTHER := sweeps install slurm site teaching runs run_folder operating_systems bench_peers attack
check: $(BIN)/.installed-all lint ## Style, and the tests that need no notebook (some two minutes)
	@$(BIN)/python -m pytest $(PYTEST) -m "not notebook and not slow and not real_data" $(OTHER:%=--ignore=tests/test_%.py)

lab: install ## JupyterLab in this environment
	@$(BIN)/jupyter lab notebooks

notebooks: install ## Run every notebook headless on embedded data, JOBS at a time
	@printf '%s\n' $(NOTEBOOKS) | OMP_NUM_THREADS=1 xargs -n 1 -P $(JOBS) $(BIN)/python -m genot_helpers run

# Only notebooks that are missing or out of date run first; SITE_PARAMS="quick=True" runs them short.
site: $(BIN)/.installed-all ## The executed notebooks and the API reference as one static site, in site/
	@$(BIN)/python docs/executed.py $(SITE_PARAMS) | OMP_NUM_THREADS=1 xargs -r -I {} -P $(JOBS) \
		$(BIN)/python -m genot_helpers run {} $(SITE_PARAMS)
	@$(BIN)/python docs/build.py

site-serve: site ## The site in your browser: http://127.0.0.1:8000
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8000

bench: $(BIN)/.installed-all ## Benchmarks on the real slices of GENOT_DATA_DIR (long); not the peers, which need environments
	@for script in $(filter-out %/bench_peers.py,$(wildcard benchmarks/bench_*.py)); do \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

lint: $(BIN)/.installed-all ## Style and docstring checks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

student: $(BIN)/.installed-all ## Notebooks without solutions, with their checks: one zip in dist/
	@$(BIN)/python -m teaching.editions student

instructor: $(BIN)/.installed-all ## Notebooks with solutions and notes for teachers, and a course folder for nbgrader
	@$(BIN)/python -m teaching.editions instructor

live: $(BIN)/.installed-all ## Notebooks to code along with: text kept, code cells empty but for their first comment
	@$(BIN)/python -m teaching.editions live

offline-bundle: $(BIN)/.installed-all ## A folder for a USB stick: wheels, student edition, install script
	@$(BIN)/python -m teaching.bundle $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)")

clean: ## Remove the environment, results and caches (downloaded data stays)
	rm -rf $(VENV) results site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
