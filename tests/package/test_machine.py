"""What the process may use: instruction sets by FASTOPT_ISA; threads by FASTOPT_NUM_THREADS, affinity and cgroup."""

from __future__ import annotations

import math
import os
import sys

import pytest

import fastopt
from fastopt import _core
from fastopt.machine import _cgroup_cpus, config

from ..support import run_python

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")

# Prints what a fresh import has chosen, or its ImportError.
IMPORT = """
try:
    import fastopt
except ImportError as error:
    print("ImportError:", error)
else:
    print(fastopt.get_isa(), fastopt.get_num_threads())
"""

# ---- instruction sets ------------------------------------------------------------------------------------------------


def test_the_instruction_set_is_the_best_unless_chosen():
    assert _core.available_isas()[0] == "baseline"
    assert fastopt.get_isa() == (os.environ.get("FASTOPT_ISA") or _core.available_isas()[-1])
    for nothing in (None, ""):
        assert run_python(IMPORT, FASTOPT_ISA=nothing).split()[0] == _core.available_isas()[-1]


@pytest.mark.parametrize("isa", _core.available_isas())
def test_each_instruction_set_can_be_chosen(isa):
    assert run_python(IMPORT, FASTOPT_ISA=isa).split()[0] == isa


@pytest.mark.parametrize("isa", ["avx2", "BASELINE", "x86-64-v5", " ", "baseline,x86-64-v3", "é", os.fsdecode(b"\xff")])
def test_an_unknown_instruction_set_is_an_import_error(isa):
    output = run_python(IMPORT, FASTOPT_ISA=isa, PYTHONIOENCODING="utf-8:backslashreplace")
    assert output.startswith("ImportError: FASTOPT_ISA: ")
    assert "is not an instruction set of this build; expected one of " in output
    assert all(name in output for name in _core.available_isas())


@pytest.mark.parametrize("isa", ["x86-64-v3", "x86-64-v4"])
def test_an_instruction_set_that_the_cpu_lacks_is_an_import_error(isa):
    if isa in _core.available_isas():
        pytest.skip("this CPU has it")
    output = run_python(IMPORT, FASTOPT_ISA=isa)
    assert output.startswith(f"ImportError: FASTOPT_ISA: '{isa}' is not ")
    assert all(name in output for name in _core.available_isas())


def test_show_config(capsys):
    fastopt.show_config()
    printed = capsys.readouterr().out
    for key, value in config().items():
        assert f"{key}: {value}\n" in printed
    assert fastopt.__version__ in printed
    assert fastopt.get_isa() in printed
    assert f"{fastopt.get_num_threads()} (of " in printed


# ---- number of threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 7, 1024])
def test_the_environment_sets_the_number_of_threads(number):
    assert run_python(IMPORT, FASTOPT_NUM_THREADS=str(number)).split()[1] == str(number)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1025", "2 ", "²", "99999999999999999999"])
def test_a_wrong_number_in_the_environment_is_an_import_error(text):
    output = run_python(IMPORT, FASTOPT_NUM_THREADS=text, PYTHONIOENCODING="utf-8", PYTHONUTF8="1")
    assert output == f"ImportError: FASTOPT_NUM_THREADS: expected a number from 1 to 1024, got {text!r}\n"


@linux_only
def test_the_default_is_within_the_cpu_affinity():
    one = min(os.sched_getaffinity(0))
    script = f"import os\nos.sched_setaffinity(0, {{{one}}})\n" + IMPORT
    for nothing in (None, ""):
        assert run_python(script, FASTOPT_NUM_THREADS=nothing).split()[1] == "1"
    default = int(run_python(IMPORT, FASTOPT_NUM_THREADS=None).split()[1])
    assert 1 <= default <= len(os.sched_getaffinity(0))


# (lines of /proc/self/cgroup, files below /sys/fs/cgroup, CPUs)
CGROUPS = {
    "no cgroups": (None, {}, math.inf),
    "nothing said": ("0::/\n", {}, math.inf),
    "v2 none": ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
    "v2 root": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "v2": ("0::/a.slice\n", {"a.slice/cpu.max": "300000 100000\n"}, 3),
    "v2 other period": ("0::/a\n", {"a/cpu.max": "50000 200000\n"}, 0.25),
    "v2 parent": ("0::/a/b/c\n", {"a/b/c/cpu.max": "max 100000\n", "a/b/cpu.max": "200000 100000"}, 2),
    "v2 smallest": (
        "0::/a/b\n",
        {"a/b/cpu.max": "400000 100000", "a/cpu.max": "100000 100000", "cpu.max": "800000 100000"},
        1,
    ),
    "v2 in a container": (
        "0::/docker/1f\n",
        {"cpu.max": "250000 100000\n"},
        2.5,
    ),  # its group is mounted at the root
    "v2 another group": ("0::/a\n", {"b/cpu.max": "100000 100000\n"}, math.inf),
    "v2 nonsense": ("0::/a\n", {"a/cpu.max": "a few\n", "cpu.max": ""}, math.inf),
    "v1 none": (
        "3:cpu,cpuacct:/a\n",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "v1": (
        "4:memory:/m\n3:cpu,cpuacct:/a\n1:name=systemd:/s\n",
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
        1.5,
    ),
    "v1 by its own name": (
        "3:cpu,cpuacct:/a\n",
        {"cpu/a/cpu.cfs_quota_us": "50000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
        0.5,
    ),
    "v1 alone": ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "700000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 7),
    "v1 nested": (
        "2:cpu:/a/b\n",
        {
            "cpu/a/b/cpu.cfs_quota_us": "-1\n",
            "cpu/a/b/cpu.cfs_period_us": "100000\n",
            "cpu/a/cpu.cfs_quota_us": "200000\n",
            "cpu/a/cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "v1 in a container": (
        "2:cpu:/docker/1f\n",
        {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        2,
    ),
    "v1 of another controller": (
        "2:cpuset:/a\n",
        {"cpuset/a/cpu.cfs_quota_us": "200000\n", "cpuset/a/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "both": (
        "2:cpu:/a\n0::/b\n",
        {"b/cpu.max": "300000 100000", "cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"},
        3,
    ),
    "colon in a name": ("0::/a:b\n", {"a:b/cpu.max": "300000 100000"}, 3),
}


@pytest.mark.parametrize(("membership", "files", "cpus"), CGROUPS.values(), ids=CGROUPS.keys())
def test_the_limit_of_the_cgroup(tmp_path, membership, files, cpus):
    if membership is not None:
        (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        file = tmp_path / "root" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert _cgroup_cpus(tmp_path / "membership", tmp_path / "root") == cpus
