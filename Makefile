# `make demo` and `make test` need Python 3.11 or later and a C++ compiler; they make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
KERNELS := $(shell find kernels -type f)

.PHONY: demo test lint bench benchmarks-once goals wheel clean

demo: .venv/installed-test
	$(BIN)/fastopt demo

test: .venv/installed-test
	$(BIN)/pytest

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

# An editable install: Python files count at once, a change in kernels/ is compiled by the next make.
.venv/installed-%: pyproject.toml CMakeLists.txt $(KERNELS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -Ccmake.define.FASTOPT_STRICT=ON --editable ".[$*]"
	touch $@

clean:
	rm -rf .venv build dist
