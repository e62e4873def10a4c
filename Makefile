# make demo    install what is needed, run the small campaign, print the result
# make test    install what is needed, run the tests
# make install install what is needed
# make bench   measure cost and accuracy anew, into results/bench: about an hour on one idle core
# make soak    2000 tiny particles under random kills: the data must be an undisturbed run's; 9 minutes on two cores
# make ci      everything that must hold before a merge
# make clean   remove the environment and caches; results stay
#
# PYTHON=python3.12 make demo    chooses another interpreter (3.11 to 3.13)

PYTHON ?= python3
VENV := .venv
SNAKEMAKE := $(VENV)/bin/snakemake
LOCK_STAMP := $(VENV)/.installed-lock
READY := $(VENV)/.installed-package
CAMPAIGN := workflow/campaigns/demo.yaml
BENCHMARKS := potential_band convergence slices coherence transforms hrtem_engine gate_values pair_style table_length plan_scale fan_in status_scale melting two_processes md_chunk md_cost zarr_store
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: install demo test bench soak ci clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(SNAKEMAKE) --profile profiles/local --configfile $(CAMPAIGN)
	@echo
	@cat results/demo/report/summary.txt
	@echo
	@echo "Report: $(CURDIR)/results/demo/report/index.html"

install: $(READY)

test: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -q -n 2 --dist loadgroup --no-loadscope-reorder --durations=40

bench: $(READY)
	for name in $(BENCHMARKS); do OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/$$name.py || exit 1; done

soak: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/soak.py

ci:
	.ci/run

clean:
	rm -rf $(VENV) .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(LOCK_STAMP): envs/requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(not (3, 11) <= v < (3, 14) and "alloyscope needs Python 3.11 to 3.13; \
	$(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12" % v[:2])'
	@echo "Installing the packages of envs/requirements.lock into $(VENV); this takes two to three minutes."
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-compile -r envs/requirements.lock
	@# on both cores, and also where PYTHONDONTWRITEBYTECODE would leave every start to compile anew
	@$(VENV)/bin/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	@touch $@

$(READY): pyproject.toml $(LOCK_STAMP)
	$(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
