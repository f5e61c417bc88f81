"""What the tests share: the comparison of bits, arrays in every layout, one run of every op, and scripts run apart.

Scripts that :func:`run_python` starts import this file as ``support``, so it needs NumPy and fastopt alone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import fastopt
from fastopt import reference

DTYPES = (np.float32, np.float64)

# The work for which a second thread is woken (kernels/elementwise.pxi, kernels/optimizers.pxi): chunks are cut there.
ELEMENTWISE_GRAIN, RANDOM_GRAIN, OPTIMIZER_GRAIN, SUM_GRAIN = 1 << 16, 1 << 14, 1 << 14, 16 * 4096
NONTEMPORAL_BYTES = 1 << 25

# ---- bits ------------------------------------------------------------------------------------------------------------


def assert_same_bits(actual: Any, expected: Any, what: str = "") -> None:
    """Same dtype and shape, NaN in the same places, everything else equal as unsigned integers."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    unsigned = np.dtype(f"u{actual.dtype.itemsize}")
    different = np.ascontiguousarray(actual).view(unsigned) != np.ascontiguousarray(expected).view(unsigned)
    if not different.any():
        return
    if actual.dtype.kind == "f":  # a NaN's sign and payload are left open
        different &= ~(np.isnan(actual) & np.isnan(expected)).reshape(different.shape)
    if different.any():
        where = np.flatnonzero(different)
        got, wanted = actual.ravel()[where[0]], expected.ravel()[where[0]]
        raise AssertionError(
            f"{what}: {len(where)} of {actual.size} differ, first at {where[0]}: got {got!r}, expected {wanted!r}"
        )


def results(returned: Any) -> list[Any]:
    """What a call returned, as a flat list."""
    if isinstance(returned, list | tuple) and not isinstance(returned, fastopt.DropoutMask):
        return [one for item in returned for one in results(item)]
    return [] if returned is None else [returned]


def assert_same_results(actual: Any, expected: Any, what: str = "") -> None:
    """Two calls returned the same: arrays bit for bit, numbers and masks equal."""
    actual, expected = results(actual), results(expected)
    assert len(actual) == len(expected), what
    for one, other in zip(actual, expected, strict=True):
        if isinstance(other, np.ndarray | float):
            assert type(one) is type(other), what
            assert_same_bits(one, other, what)
        else:
            assert one == other, what


def run_reference(run: Callable[..., Any], arrays: Any) -> tuple[Any, list[np.ndarray]]:
    """What `run` of the reference returns on plain copies of the arrays, and the copies after it."""
    plain = [np.array(array, order="C") for array in arrays]
    with np.errstate(all="ignore"):
        return run(reference, *plain), plain


def assert_equals_reference(run: Callable[..., Any], arrays: Any, what: str = "") -> None:
    """`run(fastopt, *arrays)` returns and leaves in the arrays the bits that `run(reference, *copies)` does.

    So an input that an op must not touch is compared too.
    """
    returned, after = run_reference(run, arrays)
    assert_same_results(run(fastopt, *arrays), returned, what)
    for k, (array, wanted) in enumerate(zip(arrays, after, strict=True)):
        assert_same_bits(array, wanted, f"{what}, array {k}")


# ---- values ----------------------------------------------------------------------------------------------------------


def special_values(dtype: Any) -> np.ndarray:
    """Signed zeros, subnormal numbers, the ends of the range, infinities and NaN, and a few plain numbers."""
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny / 2, info.tiny, info.eps, 0.75, 1.0, 3.0, info.max, np.inf]
    return np.array([*positive, *(-np.array(positive, dtype)), np.nan], dtype)


def values(seed: int, shape: Any, dtype: Any) -> np.ndarray:
    """Numbers of both signs over thirty binary orders of magnitude, one in sixteen of them special."""
    rng = np.random.default_rng(seed)
    x = np.ldexp(rng.standard_normal(shape), rng.integers(-20, 10, shape))
    return np.where(rng.random(shape) < 1 / 16, rng.choice(special_values(dtype), shape), x.astype(dtype))


# ---- layouts ---------------------------------------------------------------------------------------------------------


def _shifted(shape: Any, dtype: Any, shift: int) -> np.ndarray:
    size = int(np.prod(shape))
    return np.empty(size + shift, dtype)[shift:].reshape(shape)


def _unaligned(shape: Any, dtype: Any) -> np.ndarray:
    size = int(np.prod(shape))
    buffer = bytearray(size * np.dtype(dtype).itemsize + 1)
    return np.frombuffer(buffer, dtype, count=size, offset=1 if size else 0).reshape(shape)


LAYOUTS: dict[str, Callable[[Any, Any], np.ndarray]] = {
    "C": np.empty,
    "Fortran": lambda shape, dtype: np.empty(shape, dtype, order="F"),
    "reversed": lambda shape, dtype: np.empty(shape, dtype)[(slice(None, None, -1),) * len(shape) or ...],
    "every other": lambda shape, dtype: np.empty([2 * n + 1 for n in shape], dtype)[
        (slice(1, None, 2),) * len(shape) or ...
    ],
    "transposed": lambda shape, dtype: (
        np.moveaxis(np.empty((*shape[1:], *shape[:1]), dtype), -1, 0) if shape else np.empty(shape, dtype)
    ),
    "columns": lambda shape, dtype: np.empty((*shape, 3), dtype)[..., 1],
    "shifted": lambda shape, dtype: _shifted(shape, dtype, 1),
    "unaligned": _unaligned,
}


def laid_out(x: np.ndarray, layout: str | int) -> np.ndarray:
    """A writeable array of the values of x in that layout, or that many elements into a buffer."""
    y = _shifted(x.shape, x.dtype, layout) if isinstance(layout, int) else LAYOUTS[layout](x.shape, x.dtype)
    assert y.flags.writeable
    y[...] = x
    return y


# ---- every op, on arrays of one shape and dtype ----------------------------------------------------------------------


class Case(NamedTuple):
    """One way to call an op: ``run(fastopt, *arrays)`` and ``run(reference, *arrays)`` must give the same bits."""

    run: Callable[..., Any]
    arrays: int
    grain: int
    nontemporal: bool = False


def _optimizer(name: str, zero_grads: bool = False, **options: Any) -> Callable[..., Any]:
    """Five steps on two parameters in two groups; the second has no gradient in the second step."""

    def run(ops: ModuleType, w: np.ndarray, b: np.ndarray, grad_w: np.ndarray, grad_b: np.ndarray) -> Any:
        optimizer = getattr(ops, name)([{"params": {"w": w}}, {"params": [b], "lr": 0.25}], lr=0.01, **options)
        for grad in (grad_b, None, grad_b, grad_b):
            optimizer.step([{"w": grad_w}, [grad]], grad_multiplier=0.5)
        optimizer.lr = 0.125
        optimizer.step([{"w": grad_w}, [grad_b]], zero_grads=zero_grads)
        return list(optimizer.state_dict().values())

    return run


def _call(name: str, *rest: Any, out: int | None = None, **options: Any) -> Callable[..., Any]:
    """The op of either module on all arrays; with `out`, that array takes the result, and -1 is for nothing else."""

    def run(ops: ModuleType, *arrays: np.ndarray) -> Any:
        if out is None:
            return getattr(ops, name)(*arrays, *rest, **options)
        inputs = arrays[:-1] if out == -1 else arrays
        return getattr(ops, name)(*inputs, *rest, out=arrays[out], **options)

    return run


@functools.cache  # the reference asks first: a processor that flushes subnormal numbers would make other ones
def _bias(columns: int, dtype: Any) -> np.ndarray:
    return values(9, columns, dtype)


def _fused(slope: float, p: float, arrays: int = 1, out: int | None = None, **options: Any) -> Callable[..., Any]:
    """The fused layer on arrays of any shape: those without a dimension are taken as one unit."""

    def run(ops: ModuleType, *given: np.ndarray) -> Any:
        x, *rest = [np.reshape(a, a.shape or 1, copy=False) for a in given]
        bias = _bias(x.shape[-1], x.dtype)
        to = {} if out is None else {"out": [x, *rest][out]}
        return ops.bias_leaky_relu_dropout(x, bias, slope, p, **options, **to)

    return run


def _fused_backward(slope: float, p: float, out: int | None = None) -> Callable[..., Any]:
    def run(ops: ModuleType, *given: np.ndarray) -> Any:
        grad, y = [np.reshape(a, a.shape or 1, copy=False) for a in given]
        to = {} if out is None else {"out": (grad, y)[out]}
        mask = fastopt.DropoutMask(1, 2, p, y.shape)
        return ops.bias_leaky_relu_dropout_backward(grad, y, mask, slope, **to)

    return run


def _cases() -> Iterator[tuple[str, Case]]:
    for slope in (0.01, 0.0, -1.5):
        yield f"leaky_relu {slope}", Case(_call("leaky_relu", slope), 1, ELEMENTWISE_GRAIN, slope == 0.01)
        run = _call("leaky_relu_backward", slope)
        yield f"leaky_relu_backward {slope}", Case(run, 2, ELEMENTWISE_GRAIN, slope == 0.01)
    yield "leaky_relu out", Case(_call("leaky_relu", out=-1), 2, ELEMENTWISE_GRAIN, True)
    yield "leaky_relu in place", Case(_call("leaky_relu", out=0), 1, ELEMENTWISE_GRAIN, True)
    yield "leaky_relu_backward out", Case(_call("leaky_relu_backward", out=-1), 3, ELEMENTWISE_GRAIN, True)
    yield "leaky_relu_backward into grad", Case(_call("leaky_relu_backward", out=0), 2, ELEMENTWISE_GRAIN)
    yield "leaky_relu_backward into x", Case(_call("leaky_relu_backward", out=1), 2, ELEMENTWISE_GRAIN)

    address = (0x0123456789ABCDEF, 2**40 + 5)
    for p in (0.0, 2.0**-20, 0.3, 1.0):
        yield f"dropout {p}", Case(_call("dropout", p, rng=address), 1, RANDOM_GRAIN, p == 0.3)
    yield "dropout not training", Case(_call("dropout", 0.3, training=False), 1, RANDOM_GRAIN)
    yield "dropout out", Case(_call("dropout", 0.3, rng=address, out=-1), 2, RANDOM_GRAIN, True)
    yield "dropout in place", Case(_call("dropout", 0.3, rng=address, out=0), 1, RANDOM_GRAIN)
    run = lambda ops, grad: ops.dropout_backward(grad, fastopt.DropoutMask(*address, 0.3, grad.shape))  # noqa: E731
    yield "dropout_backward", Case(run, 1, RANDOM_GRAIN, True)

    fused: dict[str, Any] = {
        "": {},
        " slope 0": {"slope": 0.0, "p": 2.0**-20},
        " out": {"arrays": 2, "out": -1},
        " in place": {"out": 0},
        " p 0": {"p": 0.0},
        " p 1": {"p": 1.0},
        " not training": {"training": False},
    }
    for name, options in fused.items():
        nontemporal = name in ("", " out")
        run = _fused(**{"slope": 0.01, "p": 0.3, "rng": address} | options)
        yield f"bias_leaky_relu_dropout{name}", Case(run, options.get("arrays", 1), RANDOM_GRAIN, nontemporal)
    for name, options in {"": {}, " slope 0": {"slope": 0.0}, " p 0": {"p": 0.0}, " p 1": {"p": 1.0}}.items():
        run = _fused_backward(**{"slope": 0.01, "p": 0.3} | options)
        yield f"bias_leaky_relu_dropout_backward{name}", Case(run, 2, ELEMENTWISE_GRAIN, not name)
    yield "bias_leaky_relu_dropout_backward into grad", Case(_fused_backward(0.01, 0.3, out=0), 2, ELEMENTWISE_GRAIN)
    yield "bias_leaky_relu_dropout_backward into y", Case(_fused_backward(0.01, 0.3, out=1), 2, ELEMENTWISE_GRAIN)

    adam: dict[str, Any] = {
        "": {},
        " coupled": {"weight_decay": 0.1},
        " decoupled": {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
        " maximize": {"maximize": True, "grad_multiplier": 1 / 1024},
        " betas 0": {"betas": (0.0, 0.0)},
        " lr 0": {"lr": 0.0, "weight_decay": 0.1},
        " multiplier 0": {"grad_multiplier": 0.0},
    }
    for name, options in adam.items():
        yield f"adam_step{name}", Case(_call("adam_step", 7, **options), 4, OPTIMIZER_GRAIN)
    yield "adam_step first", Case(_call("adam_step", 1), 4, OPTIMIZER_GRAIN)
    yield "adam_step late", Case(_call("adam_step", 10**9), 4, OPTIMIZER_GRAIN)

    sgd: dict[str, Any] = {
        "": {},
        " momentum": {"momentum": 0.9, "weight_decay": 0.01},
        " dampening": {"momentum": 0.9, "dampening": 0.5, "maximize": True},
        " dampening 1": {"momentum": 0.9, "dampening": 1.0},
        " nesterov": {"momentum": 0.9, "nesterov": True, "grad_multiplier": 3.0},
        " lr 0": {"lr": 0.0, "momentum": 0.9},
    }
    for name, options in sgd.items():
        yield f"sgd_step{name}", Case(_call("sgd_step", 5, **options), 3, OPTIMIZER_GRAIN)
    yield "sgd_step first", Case(_call("sgd_step", 1, momentum=0.9, dampening=0.5), 3, OPTIMIZER_GRAIN)
    yield "sgd_step no buffer", Case(_call("sgd_step", None, 3, lr=0.1, weight_decay=0.01), 2, OPTIMIZER_GRAIN)

    yield "Adam", Case(_optimizer("Adam", weight_decay=0.01), 4, OPTIMIZER_GRAIN)
    yield "AdamW", Case(_optimizer("AdamW", maximize=True), 4, OPTIMIZER_GRAIN)
    yield "SGD", Case(_optimizer("SGD", momentum=0.9, nesterov=True), 4, OPTIMIZER_GRAIN)

    everything: dict[str, Any] = {"max_grad_norm": 0.5, "skip_nonfinite": True, "ema_decay": 0.9}
    options: dict[str, Any] = {
        "Adam amsgrad": {"amsgrad": True},
        "Adam clipped": {"max_grad_norm": 0.5, "decoupled_weight_decay": True, "weight_decay": 0.1},
        "Adam average": {"ema_decay": 0.9, "betas": (0.0, 0.9)},
        "Adam everything": {"amsgrad": True, "zero_grads": True, **everything},
        "Adam bfloat16": {"state_dtype": "bfloat16", "rng": 5},
        "Adam 8bit": {"state_dtype": "8bit", "rng": 5},
        "Adam 8bit everything": {"state_dtype": "8bit", "rng": 5, "amsgrad": True, "zero_grads": True, **everything},
        "SGD everything": {"momentum": 0.9, "zero_grads": True, **everything},
        "SGD plain average": {"ema_decay": 0.9, "zero_grads": True},
        "SGD bfloat16": {"momentum": 0.9, "state_dtype": "bfloat16", "rng": 5},
        "SGD 8bit": {"momentum": 0.9, "nesterov": True, "state_dtype": "8bit", "rng": 5},
    }
    for name, chosen in options.items():
        yield name, Case(_optimizer(name.split()[0], **chosen), 4, OPTIMIZER_GRAIN)
    yield "ema_update", Case(_call("ema_update", 0.9), 2, ELEMENTWISE_GRAIN)
    yield "clip_grad_norm_", Case(lambda ops, *arrays: ops.clip_grad_norm_(list(arrays), 0.5), 2, SUM_GRAIN)

    yield "l2_penalty", Case(lambda ops, *arrays: ops.l2_penalty(list(arrays), 0.3), 2, SUM_GRAIN)


CASES = dict(_cases())


def case_arrays(case: Case, shape: Any, dtype: Any, layout: Callable[[int], str | int] = lambda k: "C") -> list[Any]:
    """Input for the case: array k has values of its own and the layout that `layout(k)` names."""
    return [laid_out(values(k + 1, shape, dtype), layout(k)) for k in range(case.arrays)]


# ---- every op on inputs that are exact everywhere --------------------------------------------------------------------


def exact_values(stream: int, size: int, dtype: Any) -> np.ndarray:
    """Numbers in [-8, 8) made without a rounding: uniforms of a fixed address, less one, times powers of two."""
    u = fastopt.Philox4x32(2024).random(size, dtype, stream=stream)
    return (u * 2 - 1) * np.ldexp(dtype(1), np.arange(size, dtype=np.int32) % 16 - 12)


def _golden_optimizer(make: Callable[..., Any], dtype: Any, size: int, **options: Any) -> list[np.ndarray]:
    params = {"w": exact_values(1, size, dtype), "b": exact_values(2, 5, dtype)}
    optimizer = make(params, lr=0.125, **options)
    for k in range(3):
        optimizer.step({"w": exact_values(10 + k, size, dtype), "b": exact_values(20 + k, 5, dtype)})
    return [*params.values(), *(a for arrays in optimizer._states.values() for a in arrays)]


def _golden_policy(x: np.ndarray, y: np.ndarray, address: tuple[int, int]) -> dict[str, Callable[[], Any]]:
    """Of rows of six actions; (time, environments) for advantages."""
    policy, n = fastopt.policy, len(x) // 6
    x, y, b, k = x[: 6 * n].reshape(n, 6), y[: 6 * n].reshape(n, 6), x[:n], y[:6]
    actions, over, cut = np.arange(n) * 5 % 6, x > 6, y > 6
    return {
        "policy.categorical_kl": lambda: [policy.categorical_kl(x, y), policy.categorical_kl(x, y, per_sample=True)],
        "policy.categorical_log_prob": lambda: policy.categorical_log_prob(x, actions),
        "policy.categorical_entropy": lambda: policy.categorical_entropy(x),
        "policy.categorical_sample": lambda: policy.categorical_sample(x, address),
        "policy.categorical_policy_gradient": lambda: policy.categorical_policy_gradient(
            x, actions, b, entropy_coef=0.125
        ),
        "policy.gaussian_kl": lambda: [policy.gaussian_kl(x, k, y, k / 2), policy.gaussian_kl(x, y, y, x)],
        "policy.gaussian_log_prob": lambda: policy.gaussian_log_prob(x, k, y),
        "policy.gaussian_entropy": lambda: policy.gaussian_entropy(x),
        "policy.gaussian_sample": lambda: policy.gaussian_sample(x, k, address),
        "policy.gaussian_policy_gradient": lambda: policy.gaussian_policy_gradient(x, k, y, b, entropy_coef=0.125),
        "policy.discounted_returns": lambda: policy.discounted_returns(x, over, cut, 0.875, next_values=y),
        "policy.gae": lambda: policy.gae(x, y, x / 2, over, cut, 0.875, 0.9375),
        "policy.normalize_advantage": lambda: policy.normalize_advantage(x),
    }


def _golden_cem(dtype: Any, **options: Any) -> list[np.ndarray]:
    run = fastopt.minimize_cem(
        lambda x: np.abs(x - dtype(0.25)).max(axis=1),  # exact everywhere
        np.zeros(40, dtype),
        0.5,
        popsize=600,
        elite_frac=0.25,
        std_lr=0.5,
        mean_lr=0.75,
        refit_about="old_mean",
        maxiter=4,
        rng=7,
        vectorized=True,
        **options,
    )
    return [run.x, run.x_mean, run.std, run.history["fun"], run.candidate(1, 599)]


def golden_outputs(dtype: Any, size: int = 3 * ELEMENTWISE_GRAIN + 5) -> dict[str, Callable[[], Any]]:
    """For every op a call without arguments that returns its output on exact inputs, large enough for three threads.

    The powers of Adam's betas are exact too, except in the one that uses the defaults.
    """
    fo = fastopt
    address = (2**63 + 12345, 2**40 + 3)
    x, grad = exact_values(1, size, dtype), exact_values(2, size, dtype)
    mask = fo.DropoutMask(*address, 0.25, (size,))
    rows = x[: size // 7 * 7].reshape(-1, 7)
    dyadic = {"betas": (0.875, 0.9375), "eps": 2.0**-20}

    def stepped(step: Callable[..., None], count: int, *rest: Any, **options: Any) -> list[np.ndarray]:
        arrays = [exact_values(k, size, dtype) for k in range(1, count + 1)]
        if count == 4:
            arrays[3] = np.square(arrays[3])  # the average of squares; not exact for all, but rounded correctly
        step(*arrays, *rest, **options)
        return arrays

    def stepped_rows(optimizer: Any, table: np.ndarray) -> list[np.ndarray]:
        rows = np.arange(300) * 7 % 100
        optimizer.step([fo.SparseRows(rows, grad[: 8 * len(rows)].reshape(-1, 8))])
        return [table, *optimizer._states["exp_avg_sq"]]

    everything = {"amsgrad": True, "max_grad_norm": 0.5, "skip_nonfinite": True, "ema_decay": 0.75}
    return {
        "leaky_relu": lambda: fo.leaky_relu(x, 0.01),
        "leaky_relu_backward": lambda: fo.leaky_relu_backward(grad, x, 0.01),
        "inactive_fraction": lambda: fo.inactive_fraction(x[: size // 8 * 8].reshape(-1, 8)),
        "Philox4x32.random_raw": lambda: fo.Philox4x32(address[0]).random_raw(size, stream=address[1], offset=3),
        "Philox4x32.random": lambda: fo.Philox4x32(address[0]).random(size, dtype, stream=address[1], offset=3),
        "Philox4x32.standard_normal": lambda: fo.Philox4x32(address[0]).standard_normal(size, dtype, offset=3),
        "Philox4x32.spawn": lambda: np.array([c.seed for c in fo.Philox4x32(address[0]).spawn(5)], np.uint64),
        "dropout": lambda: fo.dropout(x, 0.25, rng=address)[0],
        "dropout_backward": lambda: fo.dropout_backward(grad, mask),
        "bias_leaky_relu_dropout": lambda: fo.bias_leaky_relu_dropout(rows, grad[:7], 0.125, 0.25, rng=address)[0],
        "bias_leaky_relu_dropout_backward": lambda: fo.bias_leaky_relu_dropout_backward(
            rows, grad[: rows.size].reshape(-1, 7), fo.DropoutMask(*address, 0.25, rows.shape), 0.125
        ),
        "DropoutMask.to_array": lambda: mask.to_array(),
        "adam_step": lambda: stepped(fo.adam_step, 4, 3, lr=0.125, **dyadic),
        "adam_step default betas": lambda: stepped(fo.adam_step, 4, 3),
        "sgd_step": lambda: stepped(fo.sgd_step, 3, 3, lr=0.125, momentum=0.875, dampening=0.25),
        "Adam": lambda: _golden_optimizer(fo.Adam, dtype, size, weight_decay=0.25, **dyadic),
        "AdamW": lambda: _golden_optimizer(fo.AdamW, dtype, size, **dyadic),
        "SGD": lambda: _golden_optimizer(fo.SGD, dtype, size, momentum=0.875, nesterov=True),
        "Adam everything": lambda: _golden_optimizer(fo.Adam, dtype, size, **dyadic, **everything),
        "Adam bfloat16": lambda: _golden_optimizer(fo.Adam, dtype, size, **dyadic, state_dtype="bfloat16", rng=7),
        "Adam 8bit": lambda: _golden_optimizer(fo.Adam, dtype, size, **dyadic, state_dtype="8bit", rng=7),
        "SparseRows": lambda: stepped_rows(fo.Adam([table := x[:4000].reshape(-1, 8).copy()], **dyadic), table),
        "ema_update": lambda: stepped(fo.ema_update, 2, 0.875),
        "grad_norm": lambda: fo.grad_norm([x, grad]),
        "clip_grad_norm_": lambda: stepped(lambda *arrays: fo.clip_grad_norm_(arrays, 0.5), 2),
        "l2_penalty": lambda: fo.l2_penalty([x, grad], 0.25),
        **_golden_policy(x, grad, address),
        "minimize_cem": lambda: _golden_cem(dtype, antithetic=True, bounds=[(-1, 0.5)] * 40),
        "minimize_cem full": lambda: _golden_cem(dtype, covariance="full", extra_std=0.25, restarts=1, patience=2),
        "CEM": lambda: fo.CEM(np.zeros(40, dtype), 0.5, popsize=600, rng=7).ask(),
    }


def digest(returned: Any) -> str:
    """sha256 of the bytes, in C order, of what a call returned."""
    hashed = hashlib.sha256()
    for result in results(returned):
        hashed.update(np.asarray(result).tobytes())
    return hashed.hexdigest()


def digests(size: int = 3 * ELEMENTWISE_GRAIN + 5) -> dict[str, str]:
    """The digest of every op in float32."""
    return {name: digest(call()) for name, call in golden_outputs(np.float32, size).items()}


# ---- scripts in a process of their own -------------------------------------------------------------------------------

TESTS = Path(__file__).parent


def run_python(script: str, *, timeout: float = 60, arguments: Any = (), **environment: str | bytes | None) -> str:
    """Run a script in a new interpreter, which can import this file; return its output. It must exit with 0.

    A keyword in capitals sets an environment variable, or removes it when None. A script that does not end is an error,
    and its whole process group is ended with it, so that nothing that it forked stays behind.
    """
    process = start_python(script, arguments=arguments, **environment)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"still running after {timeout} s; its output:\n{output}") from None
    assert process.returncode == 0, f"exit status {process.returncode}; its output:\n{output}"
    return output


def start_python(script: str, *, arguments: Any = (), **environment: str | bytes | None) -> subprocess.Popen[str]:
    variables: dict[str, Any] = {**os.environ, "PYTHONPATH": str(TESTS), **environment}
    return subprocess.Popen(
        [sys.executable, "-P", "-X", "faulthandler", "-c", textwrap.dedent(script), *map(str, arguments)],
        env={name: value for name, value in variables.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
