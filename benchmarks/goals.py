"""Measure the project's speed goals: `python benchmarks/goals.py [--json FILE] [--only WORDS] [--turns N]`.

The contenders of a goal work on the same data in one process and take turns; a goal is judged by the median of the
turns' ratios, or differences. So a machine that is busy now and then slows both sides, and a busy turn counts
once.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import timeit
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from harness import FOLDERS, Array, Call, Op, mkl_random, present, threads, torch

sys.path += FOLDERS
from bench_adam import Adam, PolicyAdam
from bench_cem import (
    Generations,
    LargeGenerations,
    LargeNjitGenerations,
    NjitGenerations,
    SmallGenerations,
    numba,
    size_of,
)
from bench_dropout import Dropout
from bench_fused_layer import FusedLayer, FusedLayerBackward
from bench_leaky_relu import LeakyRelu, SmallLeakyRelu
from bench_networks import Act, Backward, Forward
from bench_njit import FirstCall, NjitCall, Training
from bench_optimizers import BFloat16, Chain, EightBit, ManyArrays, PolicyChain, SparseRows
from bench_plan import ColouredPlan, Pendulum, Plan, PlanBatch
from bench_policy import CATEGORICAL, GAE, GAUSSIAN, DiscountedReturns, NormalizeAdvantage
from bench_ppo import CategoricalPPO, GaussianPPO, VTrace
from bench_random import RandomNormal, RandomRaw
from bench_tanh import BiasTanh, Tanh
from bench_torch_nn import FusedLayer as TensorLayer
from bench_torch_nn import Layer as TensorDropout
from bench_torch_nn import Network, SmallWithout
from bench_torch_nn import Small as SmallDropout
from bench_torch_optim import (
    BFloat16Tensors,
    ManyTensors,
    PolicyRMSprop,
    PolicyTensors,
    TensorAdam,
    TensorChain,
    TensorRMSprop,
    Turns,
)

from fastopt import machine

SECONDS_A_TURN = 0.02  # of each contender; a call that takes longer is run once
STREAM = ("stream", "stream_nontemporal")


@dataclass(frozen=True)
class Goal:
    """How many times as fast as each rival fastopt has to be, and how many microseconds a call may take, in all or more
    than a rival does."""

    title: str
    op: type[Op]
    size: int
    threads: int
    at_least: Mapping[str, float] = field(default_factory=dict)  # "stream" is the faster of its two kinds of stores
    at_most: float | None = None
    beyond: Mapping[str, float] = field(default_factory=dict)
    turns: int = 1000  # at most, where a turn takes seconds


GOALS = [
    Goal("Adam, 2^26", Adam, 2**26, 2, at_least={"stream": 0.95, "torch": 1}),
    Goal("Adam, 2^18", Adam, 2**18, 1, at_least={"torch": 1.3}),
    Goal("Adam, six arrays of a 4-64-64-2 policy", PolicyAdam, 4610, 1, at_least={"torch": 20}),
    Goal("Adam, 100 arrays of 64 x 64", ManyArrays, 409_600, 2, at_least={"torch": 4}),
    Goal("clip, AdamW, average, zero, 2^26", Chain, 2**26, 2, {"torch": 1.25, "torch_set_to_none": 0, "stream": 0.9}),
    Goal("clip, AdamW, average, zero, six arrays", PolicyChain, 4610, 1, at_least={"torch": 30}),
    Goal("Adam, 8-bit states, 2^26", EightBit, 2**26, 2, at_least={"float32": 1.15}),
    Goal("Adam, bfloat16 states, 2^26", BFloat16, 2**26, 2, at_least={"float32": 1.25}),
    Goal("Adam, 1,000 of 1,000,000 rows of 64", SparseRows, 1000, 2, at_least={"torch": 12}),
    Goal("torch.optim.Adam, six tensors", PolicyTensors, 4610, 1, at_least={"torch": 12, "torch_foreach": 25}),
    Goal("torch: clip, Adam, zero_grad, six tensors", TensorChain, 4610, 1, at_least={"torch": 20}),
    Goal("torch.optim.Adam, 100 tensors of 64 x 64", ManyTensors, 409_600, 1, at_least={"torch": 3}),
    Goal("torch.optim.Adam, 100 tensors of 64 x 64", ManyTensors, 409_600, 2, at_least={"torch": 3}),
    Goal("torch.optim.RMSprop, six tensors", PolicyRMSprop, 4610, 1, at_least={"torch_foreach": 20, "torch_loop": 20}),
    Goal("torch.optim.RMSprop, 2^24", TensorRMSprop, 2**24, 1, at_least={"torch_foreach": 4, "torch_loop": 4}),
    Goal("torch.optim.Adam, 2^26", TensorAdam, 2**26, 2, at_least={"torch": 1}),
    Goal("torch's products and our step by turns", Turns, 2**18, 2, at_least={"apart": 1 / 1.1}),
    Goal("torch.optim.Adam, bfloat16, 2^24", BFloat16Tensors, 2**24, 2, at_least={"torch": 1}),
    Goal("torch.optim.Adam, bfloat16, 2^26", BFloat16Tensors, 2**26, 2, at_least={"torch": 1}),
    Goal("torch.nn.Dropout, forward and backward, 4096 x 1024", TensorDropout, 2**22, 2, at_least={"torch": 16}),
    Goal("torch.nn: bias, leaky ReLU, dropout, forward and backward", TensorLayer, 2**22, 2, at_least={"torch": 10}),
    Goal("torch.nn.Dropout, 64 elements with gradients", SmallDropout, 64, 1, at_least={"torch": 1}),
    Goal("torch.nn.Dropout, 64 elements without gradients", SmallWithout, 64, 1, at_least={"torch": 2}),
    Goal("torch.nn: training step of 256-1024-1024-10", Network, 2**16, 2, at_least={"torch": 1.5}),
    Goal("leaky_relu with out=, 2^24", LeakyRelu, 2**24, 2, at_least={"stream": 0.9}),
    Goal("leaky_relu with out=, 64", SmallLeakyRelu, 64, 1, at_least={"negative": 1}, at_most=0.15),
    Goal("tanh with out=, 2^16", Tanh, 2**16, 1, at_least={"numpy": 1, "torch": 1}),
    Goal("bias_tanh, 1024 x 64", BiasTanh, 2**16, 1, at_least={"numpy": 1, "torch": 1}),
    Goal("dropout with out=, 2^20", Dropout, 2**20, 2, at_least={"torch": 50}),
    Goal("dropout with out=, 2^20", Dropout, 2**20, 1, at_least={"numpy": 5}),
    Goal("dropout with out=, 2^26", Dropout, 2**26, 2, at_least={"stream": 0.88}),
    Goal("fused layer, 4096 x 1024", FusedLayer, 2**22, 2, at_least={"torch": 20, "stream": 0.85}),
    Goal(
        "fused layer backward, 4096 x 1024", FusedLayerBackward, 2**22, 2, {"torch": 3, "numpy": 5, "numpy_from_y": 5}
    ),
    Goal("normal numbers, 2^20", RandomNormal, 2**20, 1, at_least={"numpy": 10, "mkl": 1 / 0.7}),
    Goal("normal numbers, 2^20", RandomNormal, 2**20, 2, at_least={"torch": 4}),
    Goal("random words, 2^16", RandomRaw, 2**16, 1, at_least={"mkl": 1 / 1.1}),
    Goal("1,000 calls of leaky_relu on 64 elements from njit", NjitCall, 64, 1, beyond={"loop": 20}),
    Goal("training loop in njit, 4-64-64-2", Training, 4610, 1, {"reference": 10, "numpy": 0, "python": 3}, turns=15),
    Goal("first call of a process from njit, cached", FirstCall, 1, 1, beyond={"imports": 0.5e6}, turns=7),
    *(
        Goal(f"{op.name}, 4096 x {actions}", op, 4096 * actions, 1, {"numpy": 5} | by_columns)
        for op in (*CATEGORICAL, *GAUSSIAN)
        for by_columns in ({"numpy_by_columns": 0} if "numpy_by_columns" in op.contenders else {},)
        for actions in (2, 6, 18)
    ),
    Goal("categorical_ppo_loss, 4096 x 4", CategoricalPPO, 4096 * 4, 1, {"numpy": 10, "torch": 10}, at_most=49.2),
    Goal("gaussian_ppo_loss, 4096 x 4", GaussianPPO, 4096 * 4, 1, {"numpy": 5, "torch": 10}),
    Goal("act by one observation, 4-64-64-2 and a critic", Act, 1, 1, {"numpy": 1}, at_most=5.5),
    Goal("perceptron, 64 x 4-64-64-2", Forward, 64, 1, {"numpy": 1}),
    Goal("perceptron_backward, 64 x 4-64-64-2", Backward, 64, 1, {"numpy": 1}),
    Goal("vtrace, 2048 x 8", VTrace, 2048 * 8, 1, at_least={"numpy": 20}),
    Goal("normalize_advantage, 4096", NormalizeAdvantage, 4096, 1, at_least={"numpy": 5}),
    Goal("gae, 2048 x 8", GAE, 2048 * 8, 1, at_least={"numpy": 20, "numba": 1}),
    Goal("discounted_returns, 2048 x 8", DiscountedReturns, 2048 * 8, 1, at_least={"numpy": 20, "numba": 1}),
    Goal("CEM generation, 64 x 10", SmallGenerations, size_of(SmallGenerations), 1, at_least={"numpy": 3}),
    Goal("CEM generation, 1,000 x 100", Generations, size_of(Generations), 2, at_least={"numpy": 6}),
    Goal("CEM generation, 10,000 x 1,000", LargeGenerations, size_of(LargeGenerations), 2, at_least={"numpy": 6}),
    Goal("plan, 30 x 300 x 50", Plan, 1, 1, at_least={"torch": 3.5, "numpy": 5}),
    Goal("64 plans in a batch, 30 x 300 x 50", PlanBatch, 64, 2, at_least={"torch": 15, "torch_one_thread": 15}),
    Goal("plan with coloured noise, 30 x 300 x 30", ColouredPlan, 1, 1, at_least={"white": 1 / 1.5}),
]
if numba is not None:
    GOALS += [
        Goal("CEM, njit, 1,000 x 100", NjitGenerations, size_of(Generations), 2, at_least={"numpy": 10}),
        Goal("CEM, njit, 10,000 x 1,000", LargeNjitGenerations, size_of(LargeGenerations), 2, at_least={"numpy": 10}),
        Goal("plan, Pendulum-v1, 2,000 decisions a second", Pendulum, 100, 1, at_most=500),
    ]

RIVALS = {
    "stream": "the same traffic without arithmetic",
    "torch": "torch",
    "torch_foreach": "torch foreach",
    "torch_loop": "torch without foreach",
    "torch_one_thread": "torch on one thread",
    "white": "white noise",
    "torch_set_to_none": "torch with set_to_none=True",
    "apart": "the same calls, but not by turns",
    "float32": "our own float32 states",
    "numpy": "NumPy",
    "numpy_by_columns": "NumPy by columns and BLAS",
    "numba": "a Numba loop",
    "numpy_from_y": "NumPy from y and a mask",
    "mkl": "MKL",
    "negative": "np.negative(x, out=y)",
    "reference": "the reference",
    "python": "Python over the kernels",
    "loop": "the same loop written in njit",
    "imports": "the imports alone",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure to FILE as well")
    parser.add_argument("--only", metavar="WORDS", default="", help="the goals whose title contains WORDS")
    parser.add_argument("--turns", metavar="N", type=int, default=41, help="turns of each contender (41)")
    options = parser.parse_args()

    results: list[dict[str, object]] = []
    with contextlib.suppress(KeyboardInterrupt):  # what has been measured by then is shown
        for goal in GOALS:
            if options.only in goal.title and (torch is not None or not goal.op.__module__.startswith("bench_torch")):
                print(f"{goal.title}, {goal.threads} thread(s) ...", file=sys.stderr, flush=True)
                results += judged(goal, measured(goal, options.turns))
    host = {**machine.config(), "torch": torch.__version__ if torch is not None else "not installed"}
    if mkl_random is not None:
        host["mkl_random"] = mkl_random.__version__
    print("; ".join(f"{key} {value}" for key, value in host.items()) + f"; {options.turns} turns, float32\n")
    print(table(results))
    if options.json:
        options.json.write_text(
            json.dumps({"machine": host, "turns": options.turns, "goals": results}, indent=1) + "\n"
        )
    return 0 if all(row["verdict"] == "pass" for row in results) else 1


def measured(goal: Goal, turns: int) -> dict[str, Array]:
    """Return the seconds a call of each contender took, turn by turn."""
    turns = min(turns, goal.turns)
    rivals = [*goal.beyond, *(rival for name in goal.at_least for rival in (STREAM if name == "stream" else (name,)))]
    names = ["fastopt", *filter(present, rivals)]
    with threads(goal.threads):
        op = goal.op(np.float32, goal.size)
        for name in names:
            op.check(name)
        timers = [timer(getattr(op, name)()) for name in names]
        numbers = [max(1, round(SECONDS_A_TURN / seconds_a_call(t))) for t in timers]
        seconds = np.empty((len(names), turns))
        order = np.random.default_rng(1)
        for turn in range(turns):
            for k in order.permutation(len(names)):  # so that each contender comes after each other one
                seconds[k, turn] = timers[k].timeit(numbers[k]) / numbers[k]
    return dict(zip(names, seconds, strict=True))


def timer(call: Call) -> timeit.Timer:
    """A timer of the call as a user writes it: a wrapper would cost as much as the shortest calls."""
    if not isinstance(call, functools.partial):
        return timeit.Timer("call()", setup="call = the_call", globals={"the_call": call})
    names = {"function": call.func, **{f"a{k}": value for k, value in enumerate(call.args)}, **call.keywords}
    arguments = [f"a{k}" for k in range(len(call.args))] + [f"{key}={key}" for key in call.keywords]
    setup = f"({', '.join(names)},) = values"
    return timeit.Timer(f"function({', '.join(arguments)})", setup, globals={"values": tuple(names.values())})


def seconds_a_call(t: timeit.Timer) -> float:
    t.timeit(2)
    number = 1
    while (seconds := t.timeit(number)) < SECONDS_A_TURN / 4:
        number *= 4
    return seconds / number


def judged(goal: Goal, seconds: dict[str, Array]) -> list[dict[str, object]]:
    """Return a row for each condition of the goal."""
    ours = seconds["fastopt"]
    rows = []
    for rival, limit in goal.at_least.items():
        present = [name for name in (STREAM if rival == "stream" else (rival,)) if name in seconds]
        fastest = min(present, key=lambda name: float(np.median(seconds[name])), default=None)
        ratios = seconds[fastest] / ours if fastest else None
        rows.append(row(goal, f">= {limit:.3g} times as fast as {RIVALS[rival]}", ratios, limit))
        rows[-1] |= {"ns_per_element": {name: nanoseconds(seconds[name], goal) for name in ("fastopt", *present)}}
    for rival, limit in goal.beyond.items():
        wanted = f"<= {limit:g} us a call beyond {RIVALS[rival]}"
        rows.append(row(goal, wanted, 1e6 * (ours - seconds[rival]), limit, at_least=False))
    if goal.at_most is not None:
        rows.append(row(goal, f"<= {goal.at_most:g} us a call", 1e6 * ours, goal.at_most, at_least=False))
    return rows


def row(goal: Goal, wanted: str, values: Array | None, limit: float, at_least: bool = True) -> dict[str, object]:
    result: dict[str, object] = {"goal": goal.title, "threads": goal.threads, "wanted": wanted, "limit": limit}
    if values is None:
        return result | {"verdict": "not measured"}
    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    met = median >= limit if at_least else median <= limit
    return result | {"median": median, "quartiles": [low, high], "verdict": "pass" if met else "fail"}


def nanoseconds(seconds: Array, goal: Goal) -> float:
    return float(1e9 * np.median(seconds) / goal.size)


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| goal | threads | wanted | measured | quartiles | ns per element | |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        figures = ["", "", ""]
        if "median" in r:
            low, high = r["quartiles"]
            figures = [f"{r['median']:.3g}", f"{low:.3g} - {high:.3g}"]
            figures.append(", ".join(f"{name} {ns:.3g}" for name, ns in r.get("ns_per_element", {}).items()))
        lines.append(f"| {r['goal']} | {r['threads']} | {r['wanted']} | {' | '.join(figures)} | {r['verdict']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
