# The door: each target is a command that you can copy into an activated environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
VENV := .venv/.complete

.PHONY: benchmark smoke test
.DELETE_ON_ERROR:

benchmark: $(VENV)  ## the whole embedded benchmark, with config.yaml
	@exec .venv/bin/vbon workflow --cores $(CORES)

smoke: $(VENV)  ## the same graph at toy size, in results-smoke
	@exec .venv/bin/vbon workflow --cores $(CORES) --configfile config/smoke.yaml

test: $(VENV)  ## the test suite
	.venv/bin/python -m pytest -n 2 -q

$(VENV): requirements.lock requirements-slurm.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vbon needs Python 3.11 or later, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --requirement requirements-slurm.lock
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
