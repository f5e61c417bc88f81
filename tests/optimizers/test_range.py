"""Norms, clipping and penalties where squares leave the range of float64, against exact arithmetic and torch."""

from __future__ import annotations

import math
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest

import fastopt
from fastopt import reference

from ..support import LAYOUTS, assert_same_bits, laid_out

LARGEST = float(np.finfo(np.float64).max)
MAGNITUDES = [1e300, 1e200, 1e155, 1e154, 1e150, 1e-140, 1e-146, 1e-150, 1e-154, 1e-160, 1e-162, 1e-170, 1e-300, 1e-318]
each_magnitude = pytest.mark.parametrize("magnitude", MAGNITUDES)
EXACT = Context(prec=60)


def gradients(magnitude, layout="C"):
    """Of two dtypes, one with None: float32 is far below, or 0 beside the numbers of a small magnitude."""
    rng = np.random.default_rng(0)
    w = laid_out(rng.uniform(-1, 1, (30, 50)) * magnitude, layout)
    return {"w": w, "none": None, "b": [np.full(5, 3 if magnitude > 1 else 0, np.float32), np.zeros((0, 3))]}


def squares(grads):
    arrays = [grads["w"], *grads["b"]]
    return sum((Decimal(x) ** 2 for a in arrays for x in a.ravel().tolist()), Decimal(0))


@each_magnitude
def test_norms_are_those_of_exact_arithmetic(magnitude):
    with localcontext(EXACT):
        exact = float(squares(gradients(magnitude)).sqrt())
    for layout in LAYOUTS:
        grads = gradients(magnitude, layout)
        norm = fastopt.grad_norm(grads)
        assert norm == pytest.approx(exact, rel=1e-15, abs=5e-324)
        assert_same_bits(norm, reference.grad_norm(gradients(magnitude)))


@each_magnitude
def test_penalties_are_those_of_exact_arithmetic(magnitude):
    params = [gradients(magnitude)["w"], np.full(5, 3 if magnitude > 1 else 0, np.float32)]
    for weight_decay in (0.1, 1 / max(magnitude, 1e-308), 1e-300, 1e300, 0.0):
        with localcontext(EXACT):
            exact = float(Decimal(weight_decay) / 2 * squares(gradients(magnitude)))
        penalty = fastopt.l2_penalty(params, weight_decay)
        assert penalty == pytest.approx(exact, rel=1e-15, abs=1e-323)
        assert_same_bits(penalty, reference.l2_penalty(params, weight_decay))


@each_magnitude
def test_gradients_of_any_size_are_clipped_to_the_norm_asked_for(magnitude):
    limit = 0.25 if magnitude > 1 else magnitude / 8
    grads, plain = gradients(magnitude), gradients(magnitude)
    norm = fastopt.clip_grad_norm_(grads, limit)
    assert_same_bits(norm, reference.clip_grad_norm_(plain, limit))
    assert_same_bits(grads["w"], plain["w"])
    factor = limit / (norm + 1e-6)
    np.testing.assert_allclose(grads["w"], gradients(magnitude)["w"] * factor, rtol=1e-15)
    if magnitude > 1:
        assert fastopt.grad_norm(grads) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
@each_magnitude
def test_a_step_clips_and_does_not_skip_them(magnitude, threads, skip):
    results = []
    for ops in (fastopt, reference):
        w, b = np.zeros((30, 50)), np.zeros(3)
        optimizer = ops.SGD([w, b], lr=1.0, max_grad_norm=1.0, skip_nonfinite=skip)
        grad = gradients(magnitude, "transposed" if ops is fastopt else "C")["w"]
        with fastopt.num_threads(threads):
            optimizer.step([grad, None], grad_multiplier=-0.375)
        results.append((optimizer.grad_norm, w))
        assert optimizer.skipped_steps == 0
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])
    if magnitude > 1:
        assert fastopt.grad_norm(w) == pytest.approx(1, rel=1e-6)
        with localcontext(EXACT):
            exact = float(sum((Decimal(x) ** 2 for x in grad.ravel().tolist()), Decimal(0)).sqrt() * Decimal("0.375"))
        assert results[0][0] == pytest.approx(exact, rel=1e-15)


def test_the_multiplier_counts_before_the_range_does():
    optimizer = fastopt.SGD([np.zeros(2)], max_grad_norm=1.0, skip_nonfinite=True)
    optimizer.step([np.full(2, LARGEST)], grad_multiplier=2.0**-10)  # whose norm alone is beyond the range
    assert optimizer.grad_norm == pytest.approx(LARGEST * 2.0**-10 * math.sqrt(2), rel=1e-15)
    optimizer.step([np.full(2, LARGEST)])
    assert (optimizer.grad_norm, optimizer.skipped_steps) == (math.inf, 1)


def test_sparse_rows_of_any_size_are_clipped():
    for magnitude in (1e200, 1e-170):
        tables = []
        for ops in (fastopt, reference):
            table = np.zeros((9, 2))
            rows = fastopt.SparseRows(np.array([3, 1, 3]), np.full((3, 2), magnitude))
            optimizer = ops.SGD([table], lr=1.0, max_grad_norm=0.5, skip_nonfinite=True)
            optimizer.step([rows])
            assert optimizer.grad_norm == pytest.approx(magnitude * math.sqrt(10), rel=1e-15)  # 2 * 2**2 + 2 * 1
            assert_same_bits(ops.grad_norm(rows), optimizer.grad_norm)
            tables.append(table)
        assert_same_bits(*tables)


def test_zeros_and_nothing_have_the_norm_zero():
    for grads in ([], [None], [np.zeros(5)], [np.zeros(0), np.zeros(3, np.float32)]):
        assert_same_bits(fastopt.grad_norm(grads), 0.0)
        assert fastopt.l2_penalty([g for g in grads if g is not None], 1e308) == 0


# ---- norms that are not finite ---------------------------------------------------------------------------------------

KINDS = {
    "finite": [3.0, 4.0],
    "short": [0.25, -0.5],
    "nan": [1.0, np.nan],
    "inf": [-2.0, np.inf],
    "both": [np.nan, np.inf],
}


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_is_that_of_torch(kind):
    torch = pytest.importorskip("torch")
    grads = [np.array([1.0, -2.0, 0.0]), None, np.array(KINDS[kind])]
    theirs = [torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.float64)) for a in grads if a is not None]
    for parameter, grad in zip(theirs, [a for a in grads if a is not None], strict=True):
        parameter.grad = torch.from_numpy(grad.copy())
    expected = torch.nn.utils.clip_grad_norm_(theirs, 1.5)
    np.testing.assert_allclose(fastopt.clip_grad_norm_(grads, 1.5), float(expected), rtol=1e-15)
    for grad, parameter in zip([a for a in grads if a is not None], theirs, strict=True):
        np.testing.assert_allclose(grad, parameter.grad.numpy(), rtol=1e-15)


@pytest.mark.parametrize("ops", [fastopt, reference])
@pytest.mark.parametrize("kind", KINDS)
def test_a_norm_that_is_not_finite_may_be_an_error(kind, ops):
    grads = [np.array([30.0, 40.0]), np.array(KINDS[kind])]
    before = [g.copy() for g in grads]
    if kind in ("finite", "short"):
        ops.clip_grad_norm_(grads, 1.0, error_if_nonfinite=True)
        assert fastopt.grad_norm(grads) == pytest.approx(1, rel=1e-6)
        return
    norm = "inf" if kind == "inf" else "nan"
    with pytest.raises(ValueError, match=f"^grads: expected a finite norm, got {norm}"):
        ops.clip_grad_norm_(grads, 1.0, error_if_nonfinite=True)
    for grad, old in zip(grads, before, strict=True):
        assert_same_bits(grad, old)


def test_error_if_nonfinite_is_true_or_false():
    with pytest.raises(TypeError, match="error_if_nonfinite: expected True or False, got 1"):
        fastopt.clip_grad_norm_([np.ones(2)], 1.0, error_if_nonfinite=1)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_norm_that_is_nan_makes_everything_nan_in_a_step(name):
    for ops in (fastopt, reference):
        params = [np.ones(3), np.ones(2, np.float64)]
        optimizer = getattr(ops, name)(params, max_grad_norm=1.0)
        optimizer.step([np.ones(3), np.array([1.0, np.nan])])
        assert np.all(np.isnan(np.concatenate(params)))
