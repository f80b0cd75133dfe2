# The door: each target is a command that you can copy into an activated environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
VENV := .venv/.complete
VLLM := .venv/.vllm
DOCS := .venv/.docs

.PHONY: benchmark smoke real tuning test docs test-docs test-vllm vllm workflows faults figures record restore publish sentences
.DELETE_ON_ERROR:

benchmark: $(VENV)  ## the whole embedded benchmark, with config.yaml
	@exec .venv/bin/vbon workflow --cores $(CORES)

smoke: $(VENV)  ## the same graph at toy size, in results-smoke
	@exec .venv/bin/vbon workflow --cores $(CORES) --configfile config/smoke.yaml

real: $(VENV)  ## a pretrained model on real English, in results-real; fetches the model (93 MB) once
	@.venv/bin/python real/fetch.py
	@exec .venv/bin/vbon workflow --cores $(CORES) --configfile config/real.yaml

tuning: $(VENV)  ## compare budgets of each method on held-out training prompts, in results-tuning
	@exec .venv/bin/vbon workflow --cores $(CORES) --configfile config/tuning.yaml

figures: $(VENV)  ## redraw every figure and table from what is in results, or in published
	@exec .venv/bin/vbon workflow -s workflow/figures.smk -F --cores $(CORES)

record: $(VENV)  ## run what is not done, and record everything with DVC
	@git rev-parse --git-dir > /dev/null 2>&1 \
	    || .venv/bin/dvc config core.no_scm 2> /dev/null | grep -qi true \
	    || { echo 'DVC needs a Git repository, and this folder is none: run `git init`, or' \
	    '`.venv/bin/dvc config core.no_scm true`, and again `make record`' >&2; exit 1; }
	@PATH="$(CURDIR)/.venv/bin:$$PATH" exec .venv/bin/dvc repro

restore: $(VENV)  ## after `dvc pull`: continue from what came, without retraining
	@exec .venv/bin/vbon restore

publish: $(VENV)  ## copy what figures and tables are drawn from, and what README shows, into published
	@cd results && find */points.csv */costs.csv */pareto.csv */metrics.json */tables */figures \
	    */studies/*/points.csv */studies/*/costs.csv -type f ! -name '*.pdf' ! -path '*/.*' ! -path '*/figures/figure3.csv' ! -name 'prompt_means.*' -print0 \
	    | tar -cf - --null -T - | tar -xf - -C ../published
	@if [ -d results-tuning ]; then mkdir -p published/tuning; cp results-tuning/sentiment/tables/trials.* published/tuning; fi
	.venv/bin/python docs/sentences.py

sentences: $(VENV)  ## write the results in README and docs from the tables in published
	.venv/bin/python docs/sentences.py

test: $(VENV)  ## the unit suite
	.venv/bin/python -m pytest -n 2 -q

workflows: $(VENV)  ## small workflows end to end: a part of faults
	.venv/bin/python -m pytest -n 2 --dist worksteal -q -m "(workflow or slow) and not long"

faults: $(VENV)  ## whole workflows: what reruns after a change, what survives kills and damage; slow tests
	.venv/bin/python -m pytest -n 2 --dist worksteal -q -m "workflow or faults or slow"

vllm: $(VLLM)  ## add vLLM for processors to .venv, for `backend: vllm`

test-vllm: $(VLLM)  ## the sampling backends against each other, on a processor
	VLLM_CPU_KVCACHE_SPACE=1 .venv/bin/python -m pytest -q -m vllm

docs: $(DOCS)  ## the documentation as pages, docs/_build/html/index.html; a broken link is an error
	.venv/bin/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

test-docs: $(DOCS)  ## the documentation, its commands, and the report in a headless Chromium
	.venv/bin/python -m pytest -n 2 --dist loadscope -q -m docs

$(DOCS): $(VENV) requirements-docs.lock
	.venv/bin/python -m pip install --quiet --no-deps --requirement requirements-docs.lock
	@touch $@

$(VLLM): $(VENV) requirements-vllm.lock
	.venv/bin/python -m pip install --quiet --no-deps --requirement requirements-vllm.lock
	@touch $@

$(VENV): requirements.lock requirements-slurm.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vbon needs Python 3.11 or later, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	@# What torch needs depends on the build that pip finds, with CUDA or without: no lock file can list it.
	.venv/bin/python -m pip install --quiet --constraint requirements.lock torch
	.venv/bin/python -m pip install --quiet --no-deps --requirement requirements.lock --requirement requirements-slurm.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
