"""Adam, AdamW and SGD make the steps of torch.optim, to rounding."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt

torch = pytest.importorskip("torch")

# The same formula in another order of operations: torch divides by the corrections where we fold them into two scalars.
# A step differs by a few units in the last place of float64 (2e-16), fifty steps by fifty times that; 1e-12 leaves room
# for the cancellation in m += (1 - b1) * (g - m).
TOLERANCE = {"rtol": 1e-12, "atol": 1e-13}

OPTIONS = {
    "Adam": [
        {},
        {"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"betas": (0.0, 0.9)},
    ],
    "AdamW": [{}, {"lr": 0.1, "weight_decay": 0.5}, {"maximize": True}],
    "SGD": [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        {"momentum": 0.9, "dampening": 0.5, "maximize": True},
        {"momentum": 0.5, "dampening": 1.0, "lr": 0.5},
        {"weight_decay": 0.1, "maximize": True},
    ],
}
CASES = [(name, options) for name, some in OPTIONS.items() for options in some]


def run_both(name, params, groups_of, options, missing):
    """Fifty steps of both on copies of params; returns the two lists of parameters."""
    rng = np.random.default_rng(5)
    mine, theirs = [p.copy() for p in params], [torch.tensor(p, requires_grad=True) for p in params]
    optimizer = getattr(fastopt, name)(groups_of(mine), **options)
    twin = getattr(torch.optim, name)(groups_of(theirs), **options)
    for step in range(50):
        grads = [None if (step, k) in missing else rng.standard_normal(p.shape) for k, p in enumerate(params)]
        for tensor, grad in zip(theirs, grads, strict=True):
            tensor.grad = None if grad is None else torch.tensor(grad)
        twin.step()
        optimizer.step(grads if groups_of is list else [grads[:1], grads[1:]])
    return mine, [tensor.detach().numpy() for tensor in theirs]


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("grouped", [False, True])
def test_fifty_steps(name, options, grouped):
    params = [np.random.default_rng(k).standard_normal(shape) for k, shape in enumerate([(7, 5), (5,), ()])]
    groups_of = (lambda p: [{"params": p[:1]}, {"params": p[1:], "lr": 0.02, "weight_decay": 0.0}]) if grouped else list
    for mine, theirs in zip(*run_both(name, params, groups_of, options, {(3, 1), (4, 1), (0, 2)}), strict=True):
        np.testing.assert_allclose(mine, theirs, **TOLERANCE)
