"""Adam, AdamW, RMSprop and SGD make the steps of torch.optim, to rounding."""

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
        {"amsgrad": True},
        {"amsgrad": True, "weight_decay": 0.1, "maximize": True, "betas": (0.5, 0.5)},
    ],
    "AdamW": [{}, {"lr": 0.1, "weight_decay": 0.5}, {"maximize": True}, {"amsgrad": True}],
    "RMSprop": [
        {},
        {"lr": 0.1, "alpha": 0.5, "eps": 1e-3},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"centered": True, "maximize": True},
        {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "alpha": 0.75},
        {"alpha": 0.25, "maximize": True},
        {"alpha": 0.0, "momentum": 0.5},
    ],
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


def random_grads(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in [(70, 90), (50,), ()]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clip_grad_norm(dtype, max_norm):
    # Torch adds up in the gradients' own dtype: the sum of 6,351 squares in float32 is right to some 1e-6.
    tolerance = {"rtol": 1e-5 if dtype == np.float32 else 1e-13, "atol": 0}
    mine = random_grads(1, dtype)
    theirs = [torch.zeros(grad.shape, dtype=torch.from_numpy(grad).dtype) for grad in mine]
    for tensor, grad in zip(theirs, mine, strict=True):
        tensor.grad = torch.tensor(grad)
    without = torch.zeros(3)  # of no gradient
    wanted = torch.nn.utils.clip_grad_norm_([*theirs, without], max_norm)
    norm = fastopt.grad_norm([*mine, None])
    assert fastopt.clip_grad_norm_([*mine, None], max_norm) == norm
    np.testing.assert_allclose(norm, wanted.item(), **tolerance)
    for grad, tensor in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(grad, tensor.grad.numpy(), **tolerance)


@pytest.mark.parametrize(
    ("name", "options"), [("Adam", {}), ("AdamW", {}), ("RMSprop", {}), ("SGD", {"momentum": 0.9})], ids=str
)
def test_max_grad_norm_is_clipping_before_the_step(name, options):
    # With a loss scale: torch's gradients are scaled back before they are clipped.
    mine = random_grads(1)
    theirs = [torch.tensor(p, requires_grad=True) for p in mine]
    optimizer = getattr(fastopt, name)(mine, lr=0.01, max_grad_norm=5.0, **options)
    twin = getattr(torch.optim, name)(theirs, lr=0.01, **options)
    for step in range(20):
        # Norms from 0.08 to 13,000: some below the limit, most above.
        grads = [np.asarray(grad * (1 + step) ** 4 * 1e-3 * 256) for grad in random_grads(2 + step)]
        for tensor, grad in zip(theirs, grads, strict=True):
            tensor.grad = torch.tensor(grad / 256)
        norm = torch.nn.utils.clip_grad_norm_(theirs, 5.0)
        twin.step()
        optimizer.step(grads, grad_multiplier=1 / 256)
        np.testing.assert_allclose(optimizer.grad_norm, norm.item(), rtol=1e-13)
    for param, tensor in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(param, tensor.detach().numpy(), **TOLERANCE)


def test_sparse_rows_are_those_of_sparse_adam():
    # SparseAdam leaves eps as it is where Adam, and we, multiply it by sqrt(1 - b2**t): so small an eps makes no
    # difference, and what is left is rounding.
    options = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-30}
    mine = np.random.default_rng(1).standard_normal((30, 4))
    theirs = torch.tensor(mine, requires_grad=True)
    optimizer, twin = fastopt.Adam([mine], **options), torch.optim.SparseAdam([theirs], **options)
    for step in range(50):
        rng = np.random.default_rng(2 + step)
        indices, rows = rng.integers(0, 30, 12), rng.standard_normal((12, 4))
        theirs.grad = torch.sparse_coo_tensor(indices[None], rows, (30, 4), check_invariants=True)
        twin.step()
        optimizer.step([fastopt.SparseRows(indices, rows)])
    np.testing.assert_allclose(mine, theirs.detach().numpy(), **TOLERANCE)


def test_sparse_rows_of_plain_descent():
    mine = np.random.default_rng(1).standard_normal((30, 4))
    theirs = torch.tensor(mine, requires_grad=True)
    optimizer, twin = fastopt.SGD([mine], lr=0.1), torch.optim.SGD([theirs], lr=0.1)
    for step in range(20):
        rng = np.random.default_rng(2 + step)
        indices, rows = rng.integers(0, 30, 12), rng.standard_normal((12, 4))
        theirs.grad = torch.sparse_coo_tensor(indices[None], rows, (30, 4), check_invariants=True)
        twin.step()
        optimizer.step([fastopt.SparseRows(indices, rows)])
    np.testing.assert_allclose(mine, theirs.detach().numpy(), **TOLERANCE)


def test_averages_are_those_of_swa_utils():
    mine = np.random.default_rng(1).standard_normal((7, 5))
    model = torch.nn.Linear(5, 7, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight[...] = torch.tensor(mine)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    average.update_parameters(model)  # the first is a copy, as ours begins with
    optimizer = fastopt.Adam([mine], lr=0.1, ema_decay=0.9)
    for step in range(20):
        optimizer.step([np.random.default_rng(step).standard_normal((7, 5))])
        with torch.no_grad():
            model.weight[...] = torch.tensor(mine)
        average.update_parameters(model)
    np.testing.assert_allclose(optimizer.ema_params[0], average.module.weight.detach().numpy(), **TOLERANCE)
