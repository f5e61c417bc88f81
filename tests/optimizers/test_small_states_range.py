"""The range of 8-bit momentum beside a large neighbour: steps near 0, and what of it shows in training."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import reference

from .test_small_states import BLOCK, SHARES, decoded

# 2**-40 to 2**-13 of the largest, and on either side of where even spacing ends.
NEAR_ZERO = [
    *np.ldexp(1.3, np.arange(-40, -12, 3)),
    *np.ldexp([0.25, 0.999, 1.0, 1.001, 7.5, 7.999, 8.0, 8.001, 17.3], -17),
]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_mean_over_all_chances_is_the_value(sign):
    # Counted over each of the 65,536 chances: what is stored is right on average to the resolution of a chance, 2**-16
    # of the spacing of codes there. Elements near 0 beside a 1 too, where the spacing is 2**-17.
    for value in NEAR_ZERO:
        state = reference._State(np.zeros(258 * BLOCK, np.float32), "8bit", signed=True)
        anchor = np.arange(258 * BLOCK) % BLOCK == 0
        chance = np.zeros(len(anchor), np.int64)
        chance[~anchor] = np.arange(np.count_nonzero(~anchor)) % 2**16
        x = np.where(anchor, np.float32(1), np.float32(sign * value))
        state.store(x, chance)
        stored = state.load()[~anchor][: 2**16].astype(np.float64)
        spacing = 2.0**-17 * max(1, 2 ** np.floor(np.log2(value * 2**14)))
        assert len(np.unique(stored)) <= 2
        assert np.ptp(stored) in (0, spacing)
        assert abs(stored.mean() - float(x[1])) <= 1.1 * 2.0**-16 * spacing


@pytest.mark.parametrize("share", SHARES)
def test_zero_or_the_least_code_is_a_chance_in_proportion(share):
    # As test_rounding_is_unbiased, between 0 and the least value that a block holds beside a 1.
    blocks, least = 4000, np.float32(2.0**-17)
    gradient = np.full(blocks * BLOCK, np.float32(share) * least, np.float32)
    gradient[::BLOCK] = 1
    optimizer = fastopt.SGD([np.zeros_like(gradient)], momentum=0.9, state_dtype="8bit", rng=1)
    optimizer.step([gradient])
    kept = decoded(optimizer, "momentum_buffer").reshape(blocks, BLOCK)[:, 1:]
    assert np.isin(kept, [0, least]).all()
    assert abs((kept > 0).mean() - share) < 5 * np.sqrt(share * (1 - share) / blocks)


SGD = ("SGD", {"lr": 1.0, "momentum": 0.99})
ADAM = ("Adam", {"lr": 1e-3, "betas": (0.9, 0.99)})  # whose squares have a range of 2**-31 and no chance to be 0


@pytest.mark.parametrize(
    ("name", "options", "late"),
    [(*SGD, 1e-1), (*SGD, 1e-3), (*SGD, 1e-5), (*ADAM, 1e-1), (*ADAM, 1e-3), (*ADAM, 1e-4)],
)
def test_what_starts_late_beside_a_large_neighbour_moves(name, options, late):
    # An average that is 0 while its block's largest is long there. What is added to it at a step is less than the least
    # code, and has to be kept by chance.
    ways = {}
    for state_dtype in (None, "8bit"):
        param = np.zeros(BLOCK, np.float32)
        optimizer = getattr(fastopt, name)([param], state_dtype=state_dtype, rng=1, **options)
        for step in range(1500):
            grad = np.full(BLOCK, late if step >= 300 else 0, np.float32)
            grad[0] = 1
            optimizer.step([grad])
        ways[state_dtype] = param[1:].astype(np.float64).mean()
    assert ways[None] < 0
    np.testing.assert_allclose(ways["8bit"], ways[None], rtol=0.05)


def test_a_large_gradient_and_its_neighbours():
    # As the docstring has it: 10**5 times theirs does not disturb them, 10**7 times makes their steps shorter.
    ways = {}
    for large in (1.0, 1e5, 1e7):
        for state_dtype in (None, "8bit"):
            param = np.zeros(BLOCK, np.float32)
            optimizer = fastopt.Adam([param], state_dtype=state_dtype, rng=1)
            rng = np.random.Generator(np.random.SFC64(1))
            for step in range(200):
                grad = rng.normal(0.5, 0.5, BLOCK).astype(np.float32)
                grad[0] = large if step == 50 else grad[0]
                optimizer.step([grad])
            ways[large, state_dtype] = -param[1:].astype(np.float64).mean()
    for large, low, high in ((1.0, 0.97, 1.03), (1e5, 0.97, 1.03), (1e7, 0.1, 0.5)):
        assert low < ways[large, "8bit"] / ways[large, None] < high, large
