"""Policy gradients: the kernels return the bits of fastopt/reference/policy/, in every mode, shape and layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastopt
from fastopt import policy
from fastopt.reference import policy as reference_policy

from ..support import DTYPES, LAYOUTS, assert_same_bits, assert_same_results, laid_out, special_values, values

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ADDRESS = (2**63 + 12345, 2**40 + 3)
CLIPPED: dict[str, Any] = {"clip_range": 0.3, "clip_range_vf": 0.5, "entropy_coef": 0.013, "value_coef": 0.7}

# An op's arrays, by letter: "x" (batch, actions), "b" one for each row, "k" one for each column, "a" an action for each
# row, "f" flags of the shape of x, "v" of rows.
OPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "categorical_kl": ("xx", lambda ops, *a: ops.categorical_kl(*a)),
    "categorical_kl per_sample": ("xx", lambda ops, *a: ops.categorical_kl(*a, per_sample=True)),
    "categorical_log_prob": ("xa", lambda ops, *a: ops.categorical_log_prob(*a)),
    "categorical_entropy": ("x", lambda ops, *a: ops.categorical_entropy(*a)),
    "categorical_sample": ("x", lambda ops, *a: ops.categorical_sample(*a, ADDRESS)),
    "categorical_policy_gradient": ("xab", lambda ops, *a: ops.categorical_policy_gradient(*a)),
    "categorical_policy_gradient entropy": (
        "xab",
        lambda ops, *a: ops.categorical_policy_gradient(*a, entropy_coef=0.013),
    ),
    "categorical_policy_gradient in place": (
        "xab",
        lambda ops, *a: ops.categorical_policy_gradient(*a, entropy_coef=0.013, out=a[0]),
    ),
    "categorical_policy_gradient valid": (
        "xabv",
        lambda ops, *a: ops.categorical_policy_gradient(*a[:3], entropy_coef=0.013, valid=a[3]),
    ),
    "categorical_ppo_loss": ("xabbbb", lambda ops, *a: ops.categorical_ppo_loss(*a)),
    "categorical_ppo_loss in place": (
        "xabbbbbvb",
        lambda ops, *a: ops.categorical_ppo_loss(*a[:6], **CLIPPED, old_values=a[6], valid=a[7], out=(a[0], a[8])),
    ),
    "categorical_ppo_loss lists": (
        "xxabbbb",
        lambda ops, *a: ops.categorical_ppo_loss(
            [a[0], a[1], a[0][..., :1]], np.stack([a[2], a[2], 0 * a[2]], axis=-1), *a[3:], entropy_coef=0.013
        ),
    ),
    "gaussian_kl": ("xkxk", lambda ops, *a: ops.gaussian_kl(*a)),
    "gaussian_kl per_sample": ("xxxx", lambda ops, *a: ops.gaussian_kl(*a, per_sample=True)),
    "gaussian_kl one shared": ("xkxx", lambda ops, *a: ops.gaussian_kl(*a, per_sample=True)),
    "gaussian_kl other shared": ("xxxk", lambda ops, *a: ops.gaussian_kl(*a, per_sample=True)),
    "gaussian_log_prob": ("xxx", lambda ops, *a: ops.gaussian_log_prob(*a)),
    "gaussian_log_prob shared": ("xkx", lambda ops, *a: ops.gaussian_log_prob(*a)),
    "gaussian_entropy": ("x", lambda ops, *a: ops.gaussian_entropy(*a)),
    "gaussian_entropy shared": ("k", lambda ops, *a: ops.gaussian_entropy(*a)),
    "gaussian_sample": ("xx", lambda ops, *a: ops.gaussian_sample(*a, ADDRESS)),
    "gaussian_sample shared": ("xk", lambda ops, *a: ops.gaussian_sample(*a, ADDRESS)),
    "gaussian_sample in place": ("xk", lambda ops, *a: ops.gaussian_sample(*a, ADDRESS, out=a[0])),
    "gaussian_policy_gradient": ("xxxb", lambda ops, *a: ops.gaussian_policy_gradient(*a)),
    "gaussian_policy_gradient shared": ("xkxb", lambda ops, *a: ops.gaussian_policy_gradient(*a)),
    "gaussian_policy_gradient entropy": ("xxxb", lambda ops, *a: ops.gaussian_policy_gradient(*a, entropy_coef=0.013)),
    "gaussian_policy_gradient shared, out": (
        "xkxbxk",
        lambda ops, *a: ops.gaussian_policy_gradient(*a[:4], entropy_coef=0.013, out=a[4:]),
    ),
    "gaussian_policy_gradient valid": (
        "xxxbv",
        lambda ops, *a: ops.gaussian_policy_gradient(*a[:4], entropy_coef=0.013, valid=a[4]),
    ),
    "gaussian_ppo_loss": ("xxxbbbb", lambda ops, *a: ops.gaussian_ppo_loss(*a)),
    "gaussian_ppo_loss shared, out": (
        "xkxbbbbbvxkb",
        lambda ops, *a: ops.gaussian_ppo_loss(*a[:7], **CLIPPED, old_values=a[7], valid=a[8], out=a[9:]),
    ),
    "discounted_returns": ("xff", lambda ops, *a: ops.discounted_returns(*a, 0.99)),
    "discounted_returns next_values": ("xffx", lambda ops, *a: ops.discounted_returns(*a[:3], 0.9, next_values=a[3])),
    "gae": ("xxxff", lambda ops, *a: ops.gae(*a, 0.99, 0.95)),
    "gae valid": ("xxxfff", lambda ops, *a: ops.gae(*a[:5], 0.99, 0.95, valid=a[5])),
    "vtrace": ("xxxxff", lambda ops, *a: ops.vtrace(*a, 0.99, lam=0.95, rho_clip=1.5)),
    "normalize_advantage": ("x", lambda ops, *a: ops.normalize_advantage(*a)),
    "normalize_advantage in place": ("x", lambda ops, *a: ops.normalize_advantage(*a, eps=1e-3, out=a[0])),
    "normalize_advantage ddof": ("x", lambda ops, *a: ops.normalize_advantage(*a, ddof=min(1, a[0].size - 1))),
}
each_op = pytest.mark.parametrize("op", OPS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def make(op: str, rows: int, columns: int, dtype: Any, fill: Callable[..., np.ndarray]) -> list[np.ndarray]:
    """The arrays of an op; `fill(seed, shape, dtype)` makes those of floats."""
    arrays = []
    for k, letter in enumerate(OPS[op][0]):
        rng = np.random.default_rng(k + 100 * rows + columns)
        match letter:
            case "a":
                arrays.append(rng.integers(0, columns, rows))
            case "f":
                arrays.append(rng.random((rows, columns)) < 0.2)
            case "v":
                arrays.append(rng.random(rows) < rng.random())
                arrays[-1][rows // 2] = True
            case _:
                arrays.append(fill(k + 1, {"x": (rows, columns), "b": (rows,), "k": (columns,)}[letter], dtype))
    return arrays


def plain(seed: int, shape: Any, dtype: Any) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def check(op: str, arrays: list[np.ndarray], what: str = "") -> None:
    run = OPS[op][1]
    copies = [np.array(a, order="C") for a in arrays]
    expected = run(reference_policy, *copies)
    assert_same_results(run(policy, *arrays), expected, what)
    for k, (array, wanted) in enumerate(zip(arrays, copies, strict=True)):
        assert_same_bits(array, wanted, f"{what}, array {k}")


@each_op
@each_dtype
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6, 18, 31, 32, 33, 70])
def test_rows_and_columns(op, columns, dtype):
    for rows in (1, 2, 15, 16, 17, 63, 64, 65, 130):
        check(op, make(op, rows, columns, dtype, plain), f"{rows} rows")


@each_op
@each_dtype
def test_values_of_every_kind(op, dtype):
    special = special_values(dtype)

    def some(seed, shape, dtype):
        return np.random.default_rng(seed).choice(special, shape)

    for columns in (1, 2, 6, 40):
        check(op, make(op, 300, columns, dtype, values), f"{columns} columns")
        check(op, make(op, 300, columns, dtype, some), f"{columns} columns, special values")


@each_op
@each_dtype
def test_threads(op, dtype):
    for rows, columns in ((20_011, 3), (4096 * 5 + 1, 1), (700, 131)):
        arrays = make(op, rows, columns, dtype, plain)
        expected = OPS[op][1](reference_policy, *[a.copy() for a in arrays])
        for threads in (1, 2, 3):
            with fastopt.num_threads(threads):
                got = OPS[op][1](policy, *[a.copy() for a in arrays])
            assert_same_results(got, expected, f"{rows} x {columns}, {threads} threads")


@each_op
@each_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(op, layout, dtype):
    names = list(LAYOUTS)
    for apart in (0, 1):
        arrays = make(op, 67, 5, dtype, plain)
        chosen = [names[(names.index(layout) + apart * k) % len(names)] for k in range(len(arrays))]
        check(op, [laid_out(a, name) for a, name in zip(arrays, chosen, strict=True)], str(chosen))


@each_op
@each_dtype
def test_any_number_of_batch_axes(op, dtype):
    letters = OPS[op][0]
    arrays = make(op, 12, 5, dtype, plain)
    batch = {"x": (3, 4, 5), "f": (3, 4, 5), "b": (3, 4), "v": (3, 4), "a": (3, 4), "k": (5,)}
    check(op, [a.reshape(batch[c]) for c, a in zip(letters, arrays, strict=True)])
    arrays = make(op, 1, 5, dtype, plain)
    batch = {"x": (5,), "f": (5,), "b": (), "v": (), "a": (), "k": (5,)}
    check(op, [a.reshape(batch[c]) for c, a in zip(letters, arrays, strict=True)])


@each_op
@given(data=st.data())
def test_any_arrays(op, data):
    dtype = data.draw(st.sampled_from(DTYPES))
    rows, columns = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 40))
    fill = data.draw(st.sampled_from([plain, values]))
    check(op, make(op, rows, columns, dtype, fill))


@pytest.mark.parametrize("function", ["exponential", "logarithm"])
@each_dtype
def test_exponential_and_logarithm_in_a_kernel(function, dtype):
    # By way of an op that shows them: the standard deviations of a sample, and the largest term of a log-probability.
    if function == "exponential":
        x = np.concatenate([special_values(dtype), np.linspace(-800, 800, 5001).astype(dtype)])[None, :]
        zero = np.zeros_like(x)
        got = policy.gaussian_sample(zero, x, ADDRESS)
        assert_same_bits(got, reference_policy.gaussian_sample(zero, x, ADDRESS))
    else:
        x = np.zeros((40, 40), dtype)
        for k in range(40):
            x[k, k + 1 :] = -np.inf
        got = policy.categorical_entropy(x)
        assert_same_bits(got, reference_policy.logarithm(np.arange(1, 41).astype(dtype)))
