# make sweep   set up, run the sweep of config.yaml, print the answer, both tables and where the report is
# make why     what a sweep would run again, and which input, setting or code has changed
# make test    set up, lint, run every test
# make compare BASE=<folder or entry>   whether results/ got worse than that
# Everything is installed into .venv, from envs/requirements.lock, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup doctor sweep compare why test lint bench bench-scale report lock clean

PYTHON ?= python3.11
CORES ?= all

VENV_PYTHON := .venv/bin/python
SNAKEMAKE := $(VENV_PYTHON) -m snakemake

help:
	@sed -n '1,5s/^# //p' Makefile
	@echo "make doctor (what this host has for Ascend), make lint, make bench, make report, make lock, make clean, make clean-<stage>; CORES=$(CORES) CONFIG=<file>"

# Checks the environment against the lock, and mends it if it is broken or half made. It is quick if nothing is wrong.
setup:
	@PYTHON="$(PYTHON)" envs/setup.sh

doctor: setup
	@$(VENV_PYTHON) scripts/doctor.py $(if $(CONFIG),--config "$(CONFIG)")

sweep: setup
	@$(SNAKEMAKE) --cores $(CORES) $(if $(CONFIG),--configfile "$(CONFIG)")
	@echo; $(VENV_PYTHON) scripts/show.py results/tables/answer.md results/tables/accuracy.md results/tables/throughput.md
	@echo "Report: $(CURDIR)/results/tables/report.html"

# BASE: results, an entry of a history or a folder of entries. HEAD: what to judge. FLAGS: more, such as --remeasure.
# Ends with an error if anything got worse.
BASE ?= results/history
HEAD ?= results
compare: setup
	@$(VENV_PYTHON) scripts/compare.py "$(BASE)" "$(HEAD)" $(FLAGS)

why: setup
	@$(VENV_PYTHON) scripts/why.py --cores $(CORES) $(if $(CONFIG),--configfile "$(CONFIG)")

# Whole sweeps and everything else at the same time: each leaves a processor idle half of the time. `set -m`: what runs in
# the background would ignore Ctrl-C, and so would the commands that its tests interrupt.
# Sweeps that copy a finished one (fixtures of tests/workflow/conftest.py) stay together.
BESIDE := tests/workflow/test_slurm.py
SWEEPS := tests/workflow $(BESIDE:%=--ignore=%)
OTHERS := --ignore=tests/workflow
test: lint
ifdef PYTEST_FLAGS
	@$(VENV_PYTHON) -m pytest $(PYTEST_FLAGS)
else
	@set -m; log=$$(mktemp); status=0; \
	{ $(VENV_PYTHON) -m pytest $(BESIDE) || status=$$?; \
	  $(VENV_PYTHON) -m pytest $(OTHERS) || status=$$?; exit $$status; } > "$$log" 2>&1 & others=$$!; \
	trap 'kill -- -$$others 2> /dev/null || true; rm -f "$$log"' EXIT; \
	$(VENV_PYTHON) -m pytest $(SWEEPS) || status=$$?; \
	wait $$others || status=$$?; \
	cat "$$log"; exit $$status
endif

lint: setup
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m snakefmt --check --compact-diff Snakefile rules
	@$(SNAKEMAKE) --lint

bench: setup
	@for script in preprocess measure engines rerun compare; do $(VENV_PYTHON) bench/$$script.py; done

# What takes longer: minutes, and gigabytes of disk.
bench-scale: setup
	@for script in layouts scale kills; do $(VENV_PYTHON) bench/$$script.py; done

report: setup
	@$(SNAKEMAKE) --cores 1 $(if $(CONFIG),--configfile "$(CONFIG)") --report results/tables/snakemake-report.html

lock: setup
	@$(VENV_PYTHON) -m pip install --quiet --upgrade -r envs/requirements.txt
	@{ sed -n 1p envs/requirements.lock; $(VENV_PYTHON) -m pip freeze | sed 's/+cpu$$//'; } > envs/requirements.lock.new
	@mv envs/requirements.lock.new envs/requirements.lock

# The history stays: nothing can make it again. To remove it too: rm -r results/history
clean:
	@rm -rf .snakemake
	@if [ -d results/history ]; then find results -mindepth 1 -maxdepth 1 ! -name history -exec rm -rf {} +; else rm -rf results; fi

# What a stage made, with its logs and times. Snakemake makes again only what is still needed: finished results need
# nothing of what they were made from, so removing bins costs nothing until something has to read them.
STAGES := $(filter-out common,$(patsubst rules/%.smk,%,$(wildcard rules/*.smk)))
clean-%:
	@case " $(STAGES) " in *" $* "*) ;; *) echo "error: no stage $*; one of $(STAGES)" >&2; exit 1;; esac
	@rm -rf results/$(if $(filter tabulate,$*),tables results/tables.outdated,$*) results/logs/$* results/logs/$*.log results/benchmarks/$* results/benchmarks/$*.tsv
