# The commands of autocron-web. Each one makes the virtual environment it needs, with nothing but Python ≥ 3.11
# and a package index, and installs into it again only after pyproject.toml has changed.
#
#   make demo   [ARGS=--check]   the example newsletter, to look at; with --check it tries itself and ends
#   make test   [ARGS="-k cron"] the tests, on this Python; what may differ between Pythons on the others found
#   make test-3.13               the latter on one of them
#   make matrix                  all Pythons, servers, frameworks and endings, of which make test tries some: half an hour
#   make check                   ruff, mypy and pyright; no tests
#   make bench  [ARGS=--quick]   how fast it is, beside others
#   make docs    [ARGS=serve]    the site of the documentation, into site/; or shown while it is written
#   make clean                   remove all environments, builds and caches
#
# Many tests wait, so JOBS=6 of them run at a time; JOBS=0 is for -s and --pdb.
#
# An environment is made with python3 if that is new enough, else with the newest of python3.15 to python3.11;
# `make clean` and then `make PYTHON=/path/to/python …` choose another one.

JOBS ?= 6

# Without compiled files each process would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test matrix check docs bench clean
.PRECIOUS: .venv/for-% .venv-%/for-test .venv-%/for-versions

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/for-demo
	.venv/bin/python examples/newsletter/run.py $(ARGS)

test: .venv/for-test-once
	.venv/bin/python -m pytest -n $(JOBS) --dist worksteal -m "not matrix" $(ARGS)
	@for version in $(others); do $(MAKE) --no-print-directory test-$$version || exit 1; done

# What may differ between Pythons: processes, forks, threads, signals. (5: ARGS choose none of these.)
test-%: .venv-%/for-versions
	$(not_once) tests/pool $(ARGS) || [ $$? -eq 5 ]

# Without the pool's: `make test` runs these there.
matrix-%: .venv-%/for-test
	$(not_once) --ignore=tests/pool

not_once = .venv-$*/bin/python -m pytest -n $(JOBS) --dist worksteal -m "not once and not matrix"

matrix: .venv/for-matrix
	.venv/bin/python -m pytest -n $(JOBS) --dist worksteal -m matrix
	@for version in $(others); do $(MAKE) --no-print-directory matrix-$$version || exit 1; done
	.venv/bin/python tests/servers/table.py $(ARGS)

check: .venv/for-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pyright

docs: .venv-docs/for-docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs $(or $(ARGS),build --quiet)

bench: .venv-bench/for-bench
	.venv-bench/bin/python benchmarks/bench.py $(ARGS)
	.venv-bench/bin/python benchmarks/alone.py $(filter --quick,$(ARGS))
	.venv-bench/bin/python benchmarks/import_time.py

clean:
	rm -rf .venv .venv-* build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find autocron_web integrations tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

# -- environments ---------------------------------------------------------------------------------

.venv/for-%: pyproject.toml
	$(call install,.venv,$(python),$*)

.venv-bench/for-bench: pyproject.toml
	$(call install,.venv-bench,$(python),bench)

.venv-docs/for-docs: pyproject.toml
	$(call install,.venv-docs,$(python),docs)

.venv-%/for-versions: pyproject.toml
	$(call install,.venv-$*,$(call needed,$*),versions)

.venv-%/for-test: pyproject.toml
	$(call install,.venv-$*,$(call needed,$*),test)

# $(call install,FOLDER,PYTHON,EXTRA): what is there is used; a venv without pip is one that could not be completed.
# Modules are compiled by all cores, as pip does not, and those of the tests once for all processes that run them.
# `compat` is the folder itself on the path, with its links: setuptools' other way is a module that is imported at
# the start of each of many thousand processes.
define install
@echo "Installing autocron-web[$(3)] into $(1), once, with $(2)"
@test -x $(1)/bin/pip || $(2) -m venv $(1)
@$(1)/bin/python -m pip install $(quietly) --no-compile --config-settings editable_mode=compat --editable '.[$(3)]'
@$(1)/bin/python -m compileall -q -j 0 $(1)/lib >/dev/null || true
@test ! -x $(1)/bin/pytest || $(1)/bin/python -m pytest --collect-only -q >/dev/null 2>&1 || true
@touch $(1)/for-$(3)
endef
quietly = --quiet --disable-pip-version-check

candidates = $(or $(PYTHON),python3 python3.15 python3.14 python3.13 python3.12 python3.11)
if_new_enough = $(shell $(1) -c 'import sys; print("$(1)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)
python = $(or $(firstword $(foreach name,$(candidates),$(call if_new_enough,$(name)))),$(error \
	autocron-web needs Python 3.11 or newer, which none of these is: $(candidates). \
	Install one, or name it: make PYTHON=/path/to/python $(MAKECMDGOALS)))

# $(call found,VERSION): python3.12 for 3.12, if it starts (a shim of pyenv's may not)
found = $(shell for python in python$(1) $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$(1).*/bin/python$(1); do \
	"$$python" -c "" 2>/dev/null && echo "$$python" && break; done)
needed = $(or $(call found,$(1)),$(error There is no python$(1) on the PATH and none among pyenv's versions))
# the versions that are found, without that of .venv
version = $(shell .venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
others = $(foreach other,$(filter-out $(version),3.11 3.12 3.13 3.14 3.15),$(if $(call found,$(other)),$(other)))
