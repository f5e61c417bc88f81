# `make demo` and `make test` need Python 3.11 or later and a C++ compiler; they make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
KERNELS := $(shell find kernels -type f)
# Another name whenever a module comes or goes: an editable install finds those that were there when it was made.
MODULES := .venv/modules-$(shell find fastopt -name '*.py' | LC_ALL=C sort | cksum | cut -d ' ' -f 1)

.PHONY: demo test lint bench benchmarks-once goals wheel clean

demo: .venv/installed-test
	$(BIN)/fastopt demo

# make test FAMILY=masking: the tests of one family, in its folder and in promises/.
test: .venv/installed-test
	$(BIN)/pytest -n 2 --dist worksteal $(if $(FAMILY),tests/$(FAMILY) tests/promises -k $(FAMILY))

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev
	$(BIN)/pytest benchmarks --benchmark-json benchmarks/results.json
	$(BIN)/python benchmarks/report.py benchmarks/results.json --plot benchmarks/results.png

benchmarks-once: .venv/installed-dev
	$(BIN)/pytest benchmarks --benchmark-disable -q

goals: .venv/installed-dev
	$(BIN)/python benchmarks/goals.py

wheel: .venv/installed-dev
	$(BIN)/pip wheel --no-deps --wheel-dir dist .

# An editable install: a change of a Python file counts at once, one in kernels/ is compiled by the next make. Without an
# isolated environment for the build, whose new path each time would have everything compiled again.
.venv/installed-%: pyproject.toml CMakeLists.txt $(KERNELS) $(MODULES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -c "import tomllib; \
	  print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" > .venv/build-requires
	$(PIP) -r .venv/build-requires cmake ninja
	$(PIP) --no-build-isolation -Ccmake.define.FASTOPT_STRICT=ON --editable ".[$*]"
	touch $@

$(MODULES):
	mkdir -p .venv
	rm -f .venv/modules-*
	touch $@

clean:
	rm -rf .venv build dist
