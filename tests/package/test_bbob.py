"""The functions of the BBOB suite in benchmarks/studies/: optima, properties that the report states, pycma's values."""

import sys
from itertools import product

import numpy as np
import pytest

from ..support import TESTS

sys.path.insert(0, str(TESTS.parent / "benchmarks" / "studies"))
import bbob

NUMBERS = range(1, 25)


@pytest.mark.parametrize("dimension", [2, 5, 20])
@pytest.mark.parametrize("number", NUMBERS)
def test_optimum(number, dimension):
    """f_opt at x_opt, in the box, and more everywhere else: near and far, one coordinate changed and all."""
    for instance in (1, 2):
        problem = bbob.Problem(number, dimension, instance)
        rng = np.random.default_rng(instance)
        assert problem.x_opt.shape == (dimension,)
        assert abs(problem.x_opt).max() <= 5
        assert problem(problem.x_opt) == pytest.approx(problem.f_opt, abs=1e-6 if number == 16 else 1e-9)
        others = [problem.x_opt + 10.0**-k * rng.standard_normal((20, dimension)) for k in range(4)]
        others += [rng.uniform(-5, 5, (200, dimension))]
        if number != 5:  # the linear slope is flat beyond its optimum
            assert (problem(np.concatenate(others)) >= problem.f_opt).all()
        assert (problem(others[-1]) > problem.f_opt).all()


@pytest.mark.parametrize("number", NUMBERS)
def test_rows_are_apart(number):
    """The value of a point does not depend on its company; the last axis holds the coordinates; nothing is written."""
    problem = bbob.Problem(number, 3)
    x = np.random.default_rng(0).uniform(-6, 6, (2, 4, 3))
    x.flags.writeable = False
    together = problem(x)
    assert together.shape == (2, 4)
    for i, j in product(range(2), range(4)):
        assert problem(x[i, j]) == pytest.approx(together[i, j], rel=1e-9)


@pytest.mark.parametrize("number", NUMBERS)
def test_instances(number):
    one, again, two = (bbob.Problem(number, 4, instance) for instance in (1, 1, 2))
    x = np.linspace(-4, 4, 4)
    assert one(x) == again(x)
    assert one(x) != two(x)
    for matrix in (one.r, one.q):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(4), atol=1e-14)


def test_separable():
    """f1 to f5: a step along one axis changes the value by the same amount wherever the other coordinates are."""
    rng = np.random.default_rng(3)
    for number in range(1, 6):
        problem = bbob.Problem(number, 4)
        for axis in range(4):
            a, b = rng.uniform(-5, 5, (2, 4))
            changes = []
            for x in (a, b):
                x[axis] = 1.0
                moved = x.copy()
                moved[axis] = -2.0
                changes.append(problem(moved) - problem(x))
            assert changes[0] == pytest.approx(changes[1], rel=1e-9)


def test_condition_numbers():
    """Second differences along the principal axes at the optimum (without T_osz, whose effect is within a factor)."""
    for number, condition in ((2, 1e6), (10, 1e6), (11, 1e6)):
        problem = bbob.Problem(number, 5)
        axes = np.eye(5) if number == 2 else problem.r
        heights = np.array([problem(problem.x_opt + 1.0 * axis) - problem.f_opt for axis in axes])
        assert heights.max() / heights.min() == pytest.approx(condition, rel=1e-6)


def test_penalty():
    """f4, f7, f16 to f18, f20 to f24 add a penalty outside of [-5, 5]."""
    far = np.full(3, 50.0)
    for number, least in ((4, 6e5), (7, 6e3), (16, 2e4), (17, 6e4), (20, 6e5), (21, 6e3), (23, 6e3), (24, 6e7)):
        problem = bbob.Problem(number, 3)
        assert problem(far) - problem.f_opt > least


@pytest.mark.parametrize("number", NUMBERS)
def test_pycma_agrees(number):
    """On its own instances: optimum, rotations and peaks are taken over, the arithmetic is not."""
    pycma = pytest.importorskip("cma.bbobbenchmarks")
    theirs = getattr(pycma, f"F{number}")(3)
    x = np.random.default_rng(0).uniform(-7, 7, (50, 5))
    values = np.array([float(np.squeeze(theirs(row))) for row in x])
    ours = bbob.Problem(number, 5)
    ours.f_opt = theirs.fopt
    if number not in (9, 19):  # where x_opt does not enter the arithmetic
        ours.x_opt = np.asarray(theirs.xopt).reshape(-1)[:5]
    if number in (21, 22):
        ours.r, ours.w, ours.c = theirs.rotation.T, theirs.peakvalues, theirs.arrscales
        ours.y = theirs.xlocal @ ours.r
    else:
        seeds = (0, 1e6) if number in (6, 7, 9, 13, 19, 23, 24) else (1e6, 0)  # of R and Q
        ours.r, ours.q = (pycma.compute_rotation(theirs.rseed + seed, 5).T for seed in seeds)
    np.testing.assert_allclose(ours(x), values, rtol=1e-10)
