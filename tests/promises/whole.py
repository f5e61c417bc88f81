"""Every call that writes, and what it writes, with two ways to have any single request for memory in it fail.

`python -m tests.promises.whole malloc` (or `hooks`) tries each call with its first request failing, then its second,
and so on; `signals` interrupts it at many moments. Each prints a line of JSON for a call. In a process of its own: the
failures reach whatever runs meanwhile.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import operator
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import policy

N = 3000


class Call(NamedTuple):
    """What runs, and what it may have changed when it has: arrays, and what `more` returns."""

    run: Callable[[], Any]
    arrays: list[np.ndarray]
    more: Callable[[], Any] = lambda: None

    def seen(self) -> list[Any]:
        return [*(array.tobytes() for array in self.arrays), self.more()]


def full(value: float, *shape: int) -> np.ndarray:
    return np.full(shape, value)


def strided(value: float, *shape: int) -> np.ndarray:
    array = np.zeros((*shape, 2))[..., 0]
    array[...] = value
    return array


# ---- optimisers ------------------------------------------------------------------------------------------------------

RULES = {
    "Adam": (fastopt.Adam, {"amsgrad": True}),
    "AdamW": (fastopt.AdamW, {}),
    "SGD": (fastopt.SGD, {"momentum": 0.5}),
    "RMSprop": (fastopt.RMSprop, {"momentum": 0.5}),
}
OPTIONS = {
    "plain": {},
    "clipped": {"max_grad_norm": 0.5},
    "all": {"max_grad_norm": 0.5, "skip_nonfinite": True, "ema_decay": 0.5},
    "bfloat16": {"state_dtype": "bfloat16", "rng": 1},
    "8bit": {"state_dtype": "8bit", "rng": 1, "ema_decay": 0.5},
}


def counts(optimizer: Any) -> Callable[[], Any]:
    """All that an optimiser keeps, as something that can be compared."""

    def look() -> Any:
        state = optimizer.state_dict().items()
        held = [value.tobytes() if isinstance(value, np.ndarray) else value for _, value in state]
        return [*held, repr(optimizer.grad_norm), [group.scalars for group in optimizer.param_groups]]

    return look


def nest(value: float, lone: bool = False) -> list[Any]:
    """Arrays in each layout, of which the first two are in two groups."""
    return [
        [full(value, N), full(value, 40, 50).T],
        [strided(value, N), full(value, 7, 5), None if lone else strided(value, 30, 20)],
    ]


def flat(grads: list[Any]) -> list[np.ndarray]:
    return [array for group in grads for array in group if array is not None]


def optimiser(rule: str, options: dict[str, Any]) -> tuple[Any, list[np.ndarray]]:
    make, own = RULES[rule]
    params = nest(1.0)
    optimizer = make([{"params": params[0]}, {"params": params[1], "lr": 0.5}], **(own | options))
    optimizer.step(nest(0.25))
    return optimizer, flat(params)


def step(rule: str, options: dict[str, Any], value: float = 0.5) -> Callable[[], Call]:
    def make() -> Call:
        optimizer, params = optimiser(rule, options)
        grads = nest(value, lone=True)
        run = lambda: optimizer.step(grads, zero_grads=True)  # noqa: E731
        return Call(run, params + flat(grads), counts(optimizer))

    return make


def many() -> Call:
    """So many parameters that their numbers are none of those that Python keeps ready."""
    params, grads = [full(1.0, 1) for _ in range(300)], [full(0.5, 1) for _ in range(300)]
    optimizer = fastopt.SGD(params, momentum=0.5)
    return Call(lambda: optimizer.step(grads), params + grads, counts(optimizer))


def sparse_step() -> Call:
    params = [full(1.0, 400, 50), strided(1.0, 300)]
    optimizer = fastopt.Adam(params, max_grad_norm=1.0)
    values = strided(0.5, 300, 50)
    grads = [fastopt.SparseRows(np.arange(300) // 2 * 2, values), strided(0.5, 300)]
    run = lambda: optimizer.step(grads, zero_grads=True)  # noqa: E731
    return Call(run, [*params, values, grads[1]], counts(optimizer))


def load(rule: str, options: dict[str, Any]) -> Callable[[], Call]:
    def make() -> Call:
        optimizer, params = optimiser(rule, options)
        other, _ = optimiser(rule, options)
        other.lr = 0.125
        other.step(nest(0.75))
        state = other.state_dict()
        return Call(lambda: optimizer.load_state_dict(state), params, counts(optimizer))

    return make


def add_group(rule: str, options: dict[str, Any]) -> Callable[[], Call]:
    def make() -> Call:
        optimizer, params = optimiser(rule, options)
        more = [full(1.0, 40, 50).T, strided(1.0, 30, 20)]
        run = lambda: optimizer.add_param_group({"params": more, "lr": 0.25, "initial_lr": 0.5})  # noqa: E731
        return Call(run, params + more, counts(optimizer))

    return make


def set_lr() -> Call:
    optimizer, params = optimiser("SGD", {})
    return Call(lambda: setattr(optimizer, "lr", 0.125), params, counts(optimizer))


def set_group() -> Call:
    optimizer, params = optimiser("Adam", {})
    return Call(lambda: optimizer.param_groups[0].update({"lr": 0.5, "betas": (0.5, 0.25)}), params, counts(optimizer))


def clip() -> Call:
    grads = {"a": full(1.0, N), "b": [strided(1.0, N), full(1.0, 40, 50).T], "c": strided(1.0, 60, 50)}
    rows = fastopt.SparseRows(np.arange(60) // 2, grads["c"])
    arrays = [grads["a"], *grads["b"], grads["c"]]
    return Call(lambda: fastopt.clip_grad_norm_(grads | {"c": rows}, 0.5), arrays)


def single(name: str, count: int, *rest: Any, make: Callable[..., np.ndarray], **options: Any) -> Callable[[], Call]:
    def case() -> Call:
        arrays = [make(0.5 + k, N) for k in range(count)]
        return Call(lambda: getattr(fastopt, name)(*arrays, *rest, **options), arrays)

    return case


def optimiser_calls() -> Iterator[tuple[str, Callable[[], Call]]]:
    for rule in RULES:
        for name, options in OPTIONS.items():
            yield f"step {rule} {name}", step(rule, options)
            yield f"load_state_dict {rule} {name}", load(rule, options)
            yield f"add_param_group {rule} {name}", add_group(rule, options)
    yield "step skipped", step("Adam", OPTIONS["all"], np.nan)
    yield "step sparse", sparse_step
    yield "step many", many
    yield "lr", set_lr
    yield "update of a group", set_group
    yield "clip_grad_norm_", clip
    for layout in (full, strided):
        yield f"adam_step {layout.__name__}", single("adam_step", 4, 2, lr=0.5, make=layout)
        yield f"sgd_step {layout.__name__}", single("sgd_step", 3, 2, lr=0.5, momentum=0.5, make=layout)
        yield f"rmsprop_step {layout.__name__}", single("rmsprop_step", 5, lr=0.5, momentum=0.5, make=layout)
        yield f"ema_update {layout.__name__}", single("ema_update", 2, 0.75, make=layout)


# ---- what has out= ---------------------------------------------------------------------------------------------------


def layered(name: str, *rest: Any, inputs: int, random: bool = False, make: Callable[..., np.ndarray] = strided):
    """An op on `inputs` arrays of 60 x 50 with an output of that shape."""

    def case() -> Call:
        arrays, out = [make(0.5 + k, 60, 50) for k in range(inputs)], make(9.0, 60, 50)
        rng = fastopt.Philox4x32(1)
        options = {"rng": rng} if random else {}
        run = lambda: getattr(fastopt, name)(*arrays, *rest, out=out, **options)  # noqa: E731
        return Call(run, [*arrays, out], lambda: rng.state)

    return case


def draw(name: str) -> Callable[[], Call]:
    def case() -> Call:
        rng, out = fastopt.Philox4x32(1), full(9.0, 60, 50)
        return Call(lambda: getattr(rng, name)(out=out), [out], lambda: rng.state)

    return case


def categorical_gradient() -> Call:
    logits, out, actions = strided(0.5, 600, 5), strided(9.0, 600, 5), np.arange(600) % 5
    run = lambda: policy.categorical_policy_gradient(logits, actions, strided(1.0, 600), entropy_coef=0.5, out=out)  # noqa: E731
    return Call(run, [logits, out])


def gaussian_gradient() -> Call:
    mean, log_std, actions = strided(0.5, 600, 5), strided(0.25, 5), strided(1.5, 600, 5)
    out = strided(9.0, 600, 5), strided(9.0, 5)
    run = lambda: policy.gaussian_policy_gradient(mean, log_std, actions, full(1.0, 600), entropy_coef=0.5, out=out)  # noqa: E731
    return Call(run, [mean, log_std, actions, *out])


def categorical_ppo() -> Call:
    logits, out, actions = strided(0.5, 600, 5), strided(9.0, 600, 5), np.arange(600) % 5
    batch, dvalues = [strided(0.5 + k, 600) for k in range(4)], strided(9.0, 600)
    run = lambda: policy.categorical_ppo_loss(logits, actions, *batch, entropy_coef=0.5, out=(out, dvalues))  # noqa: E731
    return Call(run, [logits, out, dvalues])


def gaussian_ppo() -> Call:
    mean, log_std, actions = strided(0.5, 600, 5), strided(0.25, 5), strided(1.5, 600, 5)
    batch, out = [strided(0.5 + k, 600) for k in range(4)], (strided(9.0, 600, 5), strided(9.0, 5), strided(9.0, 600))
    run = lambda: policy.gaussian_ppo_loss(mean, log_std, actions, *batch, entropy_coef=0.5, out=out)  # noqa: E731
    return Call(run, [mean, log_std, actions, *out])


def gaussian_sample() -> Call:
    mean, log_std, out, rng = strided(0.5, 600, 5), strided(0.25, 5), strided(9.0, 600, 5), fastopt.Philox4x32(1)
    return Call(lambda: policy.gaussian_sample(mean, log_std, rng, out=out), [mean, out], lambda: rng.state)


def taking_a_stream(run: Callable[[fastopt.Philox4x32], Any]) -> Callable[[], Call]:
    def make() -> Call:
        rng = fastopt.Philox4x32(1)
        rng.state = {"format": 1, "seed": 1, "stream": 1000, "spawned": 1000}  # no numbers that Python keeps ready
        return Call(lambda: run(rng), [], lambda: rng.state)

    return make


def normalize_advantage() -> Call:
    advantages, out = strided(0.5, 60, 50), strided(9.0, 60, 50)
    advantages[::2] = 1.5
    return Call(lambda: policy.normalize_advantage(advantages, out=out), [advantages, out])


def output_calls() -> Iterator[tuple[str, Callable[[], Call]]]:
    mask = fastopt.DropoutMask(1, 2, 0.5, (60, 50))
    for make in (full, strided):
        layout = make.__name__
        yield f"leaky_relu {layout}", layered("leaky_relu", inputs=1, make=make)
        yield f"leaky_relu_backward {layout}", layered("leaky_relu_backward", inputs=2, make=make)
        yield f"tanh {layout}", layered("tanh", inputs=1, make=make)
        yield f"bias_tanh {layout}", layered("bias_tanh", full(0.5, 50), inputs=1, make=make)
        yield f"bias_tanh_backward {layout}", layered("bias_tanh_backward", inputs=2, make=make)
        yield f"dropout {layout}", layered("dropout", inputs=1, random=True, make=make)
        yield f"dropout_backward {layout}", layered("dropout_backward", mask, inputs=1, make=make)
        fused = layered("bias_leaky_relu_dropout", full(0.5, 50), 0.1, 0.5, inputs=1, random=True, make=make)
        yield f"bias_leaky_relu_dropout {layout}", fused
        backward = layered("bias_leaky_relu_dropout_backward", mask, 0.1, inputs=2, make=make)
        yield f"bias_leaky_relu_dropout_backward {layout}", backward
    yield "Philox4x32.random", draw("random")
    yield "Philox4x32.standard_normal", draw("standard_normal")
    yield "categorical_policy_gradient", categorical_gradient
    yield "gaussian_policy_gradient", gaussian_gradient
    yield "categorical_ppo_loss", categorical_ppo
    yield "gaussian_ppo_loss", gaussian_ppo
    yield "gaussian_sample", gaussian_sample
    yield "categorical_sample", taking_a_stream(lambda rng: policy.categorical_sample(strided(0.5, 600, 5), rng))
    yield "Philox4x32.random of one", taking_a_stream(lambda rng: rng.random())
    yield "Philox4x32.spawn", taking_a_stream(lambda rng: rng.spawn(3))
    yield "normalize_advantage", normalize_advantage


def tell(generations: int = 2, **options: Any) -> Callable[[], Call]:
    def case() -> Call:
        search = fastopt.CEM(np.zeros(4), 1.0, rng=1, popsize=20, **options)
        for _ in range(generations):
            search.tell((search.ask() ** 2).sum(axis=1))
        scores = (search.ask() ** 2).sum(axis=1)
        return Call(lambda: search.tell(scores, fun_mean=0.5), [scores], lambda: repr(search.to_dict()))

    return case


CALLS = {
    **dict(optimiser_calls()),
    **dict(output_calls()),
    "CEM.tell": tell(),
    "CEM.tell late": tell(generations=300),  # whose number is none of those that Python keeps ready
    "CEM.tell full": tell(covariance="full", patience=1, restarts=2),
    "CEM.tell equal": tell(weights="equal"),
    "CEM.tell noisy": tell(noisy=True, patience=1, restarts=2),
}


# Of which most is Python, where signals are looked at.
SIGNALLED = [
    "step many",
    "step Adam all",
    "load_state_dict Adam all",
    "load_state_dict SGD 8bit",
    "clip_grad_norm_",
    "lr",
]

# ---- two ways to fail ------------------------------------------------------------------------------------------------

# For every allocation of this thread, by Python, NumPy or us: with PYTHONMALLOC=malloc all come here.
LIBRARY = r"""
#include <errno.h>
#include <stddef.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static __thread long countdown = -1;
static __thread int fired;
void arm(long k) { fired = 0, countdown = k; }
int disarm(void) { countdown = -1; return fired; }
static int fails(void) { return countdown >= 0 && countdown-- == 0 ? (errno = ENOMEM, fired = 1) : 0; }
void *malloc(size_t n) { return fails() ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t n) { return fails() ? NULL : __libc_realloc(p, n); }
"""


class Malloc:
    """The C library's, which is preloaded from LIBRARY."""

    def __init__(self) -> None:
        library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        library.arm.argtypes = [ctypes.c_long]
        self.arm, self.disarm = library.arm, library.disarm


class Hooks:
    """Python's own allocators. They do not say whether one has failed: it is over when many in a row did not show."""

    def __init__(self) -> None:
        import _testcapi

        self.set, self.remove = _testcapi.set_nomemory, _testcapi.remove_mem_hooks

    def arm(self, k: int) -> None:
        self.set(k, k + 1)

    def disarm(self) -> bool:
        self.remove()
        return False


def nested(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from nested(constant)


def inner_code() -> list[CodeType]:
    """The code of each function that is made by a function, with more references than there are attempts.

    Python 3.12 and 3.13 give one up too many where the memory for such a function is missing: the only one, and at some
    later moment the process ends by a segmentation fault. So a call that is to happen whole makes no functions.
    """
    functions = [found for found in gc.get_objects() if isinstance(found, FunctionType)]
    codes = [code for function in functions for code in nested(function.__code__)]
    spare = codes * 10_000
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(spare))  # for good: what has been given up is not to be freed
    return codes


# What others make of it: "can't allocate lock" Python, "error return without exception set" NumPy's comparisons.
OUT_OF_MEMORY = MemoryError, RuntimeError, SystemError


def attempt(way: Any, run: Callable[[], Any], k: int) -> tuple[bool, bool]:
    """Run it with request number k failing: whether it raised one of those, and whether the request was made."""
    raised = True
    try:
        way.arm(k)
        run()
        raised = False
    except OUT_OF_MEMORY:
        pass
    finally:
        try:
            fired = way.disarm()
        except MemoryError:  # in the call of disarm itself
            fired = way.disarm() and False
    return raised, fired or raised


def tried(way: Any, make: Callable[[], Call]) -> dict[str, Any]:
    """How often the call failed in each of its requests, and in which of them not wholly."""
    wanted = make()
    wanted.run()
    after, failed, quiet, k, half = wanted.seen(), 0, 0, 0, []
    while quiet < (1 if isinstance(way, Malloc) else 30):
        call = make()
        before = call.seen()
        raised, fired = attempt(way, call.run, k)
        if call.seen() != (before if raised else after):
            half.append(k)
        failed += raised
        quiet = 0 if fired else quiet + 1
        k += 1
    return {"failed": failed, "half": half}


# ---- interrupts ------------------------------------------------------------------------------------------------------


class Interrupted(BaseException):
    """Raised by the signal's handler, as Ctrl-C raises KeyboardInterrupt."""


def interrupted(make: Callable[[], Call], times: int = 100) -> dict[str, Any]:
    """How often a signal came before the call was over, of `times` at moments from its beginning to its end."""

    within: list[bool] = []  # not empty while the call is at work: a signal may be handled when it is over

    def handler(*_: Any) -> None:
        if within:
            raise Interrupted

    wanted = make()
    start = time.perf_counter()
    wanted.run()
    took, after = time.perf_counter() - start, wanted.seen()
    half, failed = [], 0
    signal.signal(signal.SIGALRM, handler)
    for k in range(times):
        call = make()
        before = call.seen()
        try:
            within.append(True)
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + took * 1.2 * k / times)
            call.run()
            within.clear()
        except Interrupted:
            within.clear()
            failed += 1
        finally:  # of another error, the timer still runs
            signal.setitimer(signal.ITIMER_REAL, 0)
        if call.seen() not in (before, after):
            half.append(k)
    return {"failed": failed, "half": half}


def main(kind: str, names: list[str]) -> None:
    fastopt.set_num_threads(1)
    gc.disable()
    codes = inner_code()
    way = None if kind == "signals" else {"malloc": Malloc, "hooks": Hooks}[kind]()
    for name in names or (SIGNALLED if way is None else CALLS):
        before = list(map(sys.getrefcount, codes))
        try:
            outcome = tried(way, CALLS[name]) if way is not None else interrupted(CALLS[name])
        except Exception as error:
            outcome = {"failed": -1, "half": [], "error": repr(error)}
        gone = map(operator.lt, map(sys.getrefcount, codes), before)
        lost = [code.co_qualname for code in itertools.compress(codes, gone)]
        print(json.dumps({"call": name, "lost": lost, **outcome}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
