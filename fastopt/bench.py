"""``fastopt bench``: each op against NumPy, and against moving the same bytes without any arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import _core, machine, reference

Array = NDArray[Any]
Call = Callable[[], object]

_NOTES = """
reference  the plain NumPy definition in fastopt.reference, which gives the same bits
numpy      where the reference pays for its bits, what one writes without them: NumPy's own generator, np.vdot
GB/s       counts the bytes that the op must read and write
limit      the time to move the same arrays without arithmetic, divided by the op's: 100% is this machine's memory, a
           little more is noise. Random numbers are only written; theirs is the time to read as many.
float32; medians of calls made in turns
"""

# What each op reads and writes, as (outputs, inputs) of kernels/core/stream.hpp.
_ARRAYS = {
    "leaky_relu": ("y", "g"),
    "leaky_relu_backward": ("y", "gp"),
    "dropout": ("y", "g"),
    "random": ("", "y"),
    "adam_step": ("pmv", "pmvg"),
    "sgd_step, momentum": ("pm", "pmg"),
    "l2_penalty": ("", "p"),
}


def bench(sizes: Sequence[int] = (2**16, 2**24), budget: float = 1.0) -> int:
    """Print the table; `budget` is the time in seconds for one op and size, though each call is made three times."""
    for key, value in machine.config().items():
        print(f"{key:>16}: {value}")
    for size in sizes:
        unit, scale = ("us", 1e6) if size < 2**20 else ("ms", 1e3)
        columns = ("reference", "numpy", "fastopt")
        print(f"\n{f'{size:,} elements':<22}" + "".join(f"{f'{name}, {unit}':>15}" for name in columns), end="")
        print(f"{'/ reference':>14}{'/ numpy':>10}{'GB/s':>8}{'limit':>8}")
        arrays = make_arrays(size)
        own, plain, naive = op_calls(fastopt, arrays), numpy_calls(arrays), op_calls(reference, arrays)
        for name, (outs, ins) in _ARRAYS.items():
            contenders = {"reference": naive[name], "fastopt": own[name]}
            for store, around in (("ordinary stores", False), ("non-temporal stores", True)):
                contenders[store] = stream_call([arrays[k] for k in outs], [arrays[k] for k in ins], around)
            if name in plain:
                contenders["numpy"] = plain[name]
            seconds = time_in_turns(contenders, budget)
            fast = seconds["fastopt"]
            times = [f"{seconds[c] * scale:.2f}" if c in seconds else "" for c in columns]
            ratios = [f"{seconds[c] / fast:.1f} x" if c in seconds else "" for c in columns[:2]]
            speed = 4 * (len(outs) + len(ins)) * size / fast / 1e9
            limit = min(seconds["ordinary stores"], seconds["non-temporal stores"]) / fast
            print(f"{name:<22}" + "".join(f"{time:>15}" for time in times), end="")
            print(f"{ratios[0]:>14}{ratios[1]:>10}{speed:>8.1f}{limit:>8.0%}", flush=True)
    print(_NOTES, end="")
    return 0


def make_arrays(size: int) -> dict[str, Array]:
    """Parameter, gradient, two averages and an output."""
    arrays = {name: fastopt.Philox4x32(k).random(size, dtype=np.float32) for k, name in enumerate("pgmvy")}
    for name in "pgm":
        arrays[name] -= np.float32(0.5)
    return arrays


def op_calls(ops: ModuleType, arrays: dict[str, Array]) -> dict[str, Call]:
    p, g, m, v, y = arrays.values()
    rng = ops.Philox4x32(seed=0)
    return {
        "leaky_relu": lambda: ops.leaky_relu(g, out=y),
        "leaky_relu_backward": lambda: ops.leaky_relu_backward(g, p, out=y),
        "dropout": lambda: ops.dropout(g, 0.25, rng=rng, out=y),
        "random": lambda: rng.random(dtype=np.float32, out=y),
        "adam_step": lambda: ops.adam_step(p, g, m, v, step=1000),
        "sgd_step, momentum": lambda: ops.sgd_step(p, g, m, step=1000, momentum=0.9),
        "l2_penalty": lambda: ops.l2_penalty(p, 1e-4),
    }


def numpy_calls(arrays: dict[str, Array]) -> dict[str, Call]:
    p, g, _, _, y = arrays.values()
    rng = np.random.default_rng(0)

    def dropout() -> None:
        np.multiply(g, rng.random(g.shape, dtype=np.float32) >= 0.25, out=y)
        np.multiply(y, np.float32(1 / 0.75), out=y)

    return {
        "dropout": dropout,
        "random": lambda: rng.random(dtype=np.float32, out=y),
        "l2_penalty": lambda: 0.5 * 1e-4 * np.vdot(p, p),
    }


def stream_call(outs: list[Array], ins: list[Array], around_cache: bool) -> Call:
    return lambda: _core.stream(outs, ins, around_cache)


def time_in_turns(calls: dict[str, Call], budget: float) -> dict[str, float]:
    """Return the median seconds of each call. In turns, so that a change of the machine's speed meets all alike."""
    repeats = {}
    for name, call in calls.items():
        timed(call, 1)  # the first call touches new memory
        repeats[name] = 1 if (once := timed(call, 1)) > 1e-3 else round(1e-3 / once) + 1
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(25):
        for name, call in calls.items():
            if turn < 2 or sum(samples[name]) * repeats[name] < budget / len(calls):
                samples[name].append(timed(call, repeats[name]))
    return {name: median(times) for name, times in samples.items()}


def timed(call: Call, repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats
