# `make demo` and `make test` need Python 3.11 or later and a C++ compiler; they make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin
QUIETLY := install --quiet --disable-pip-version-check
KERNELS := $(shell find kernels -type f)
# Another name whenever a module comes or goes: an editable install finds those that were there when it was made.
MODULES := .venv/modules-$(shell find fastopt -name '*.py' | LC_ALL=C sort | cksum | cut -d ' ' -f 1)

.PHONY: demo test fuzz tsan soak emulate lint bench benchmarks-once goals wheel clean

demo: .venv/installed-test
	$(BIN)/fastopt demo

# make test FAMILY=masking: the tests of one family, in its folder and in promises/, on this machine's instruction set.
ONE_FAMILY = tests/$(FAMILY) tests/promises -k $(FAMILY) --ignore tests/promises/test_same_bits_isa.py
test: .venv/installed-test
	$(BIN)/pytest -n 2 --dist worksteal $(if $(FAMILY),$(ONE_FAMILY))

# A minute with other inputs each time, unless there is a SEED=; what the sanitizers of GCC find ends it.
fuzz: .venv-san/installed
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  .venv-san/bin/python -m tests.promises.fuzz --seconds 60 --seed $(or $(SEED),$$(date +%s))

# The thread pool alone, driven by a million jobs, and by a million under the thread sanitizer (some minutes each).
tsan: build/tsan/pool build/tsan/plain
	build/tsan/plain $(or $(JOBS),1000000)
	TSAN_OPTIONS="halt_on_error=1 die_after_fork=0" build/tsan/pool $(or $(JOBS),1000000)

build/tsan/%: tests/promises/pool.cpp kernels/core/thread_pool.cpp $(filter %.h %.hpp,$(KERNELS))
	mkdir -p $(@D)
	$(CXX) -std=c++17 -O1 -g $(if $(filter pool,$*),-fsanitize=thread) -Wall -Wextra -Ikernels $(filter %.cpp,$^) -pthread -o $@

# Twenty minutes of everything at once, unless there is another number of MINUTES=.
soak: .venv/installed-test
	$(BIN)/python -m tests.promises.soak --minutes $(or $(MINUTES),20)

# The bits of other machines, by qemu, zig and Wine, as far as they are installed (some minutes).
emulate: .venv/installed-test
	$(PYTHON) packaging/emulate.py $(CURDIR)/$(BIN)/python

# Whose declarations are compared with what there is. A CEM refuses the names of its settings, which none declares: of
# it, what is declared is compared.
STUBS = fastopt._core $(addprefix fastopt.,activations machine masking optimizers policy random)
lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --concise --mypy-config-file pyproject.toml $(STUBS)
	$(BIN)/python -m mypy.stubtest --concise --mypy-config-file pyproject.toml --ignore-missing-stub fastopt.cem
	$(BIN)/pyright tests/package/typed_client.py

bench: .venv/installed-dev
	$(BIN)/pytest benchmarks --benchmark-json benchmarks/results.json
	$(BIN)/python benchmarks/report.py benchmarks/results.json --plot benchmarks/results.png

benchmarks-once: .venv/installed-dev
	$(BIN)/pytest benchmarks --benchmark-disable -q

goals: .venv/installed-dev
	$(BIN)/python benchmarks/goals.py

# One for each Python of packaging/support.toml that is here, or for those in PYTHONS=; with the tests in TESTS=, if not all;
# of the kernels in ARCHIVE=, a build/*/libfastopt_kernels.a, if they are not to be compiled.
wheel:
	$(PYTHON) packaging/wheels.py $(PYTHONS) $(if $(TESTS),--tests $(TESTS)) $(if $(ARCHIVE),--kernels $(ARCHIVE))
	$(PYTHON) kernels/sizes.py $(if $(ARCHIVE),$(dir $(ARCHIVE)),build/wheels)

# $(call install,ENVIRONMENT,OPTIONS,WHAT): an editable install. A change of a Python file counts at once, one in kernels/
# is compiled by the next make. Without an isolated environment for the build, whose new path each time would have
# everything compiled again.
define install
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -c "import tomllib; \
	  print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" > $(1)/build-requires
	$(1)/bin/pip $(QUIETLY) -r $(1)/build-requires cmake ninja
	$(1)/bin/pip $(QUIETLY) --no-build-isolation $(2) --editable "$(3)"
	touch $@
endef

.venv/installed-%: pyproject.toml CMakeLists.txt $(KERNELS) $(MODULES)
	$(call install,.venv,--config-settings=cmake.define.FASTOPT_STRICT=ON --config-settings=build-dir=build/{wheel_tag},.[$*])

.venv-san/installed: pyproject.toml CMakeLists.txt $(KERNELS) $(MODULES)
	$(call install,.venv-san,--config-settings=cmake.define.FASTOPT_SANITIZE=ON --config-settings=build-dir=build/sanitize,.)

$(MODULES):
	mkdir -p .venv
	rm -f .venv/modules-*
	touch $@

clean:
	rm -rf .venv .venv-san build dist
