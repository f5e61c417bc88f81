"""The inputs with which torch tests its own optimisers (optim_db): ours make the same steps, to rounding."""

from __future__ import annotations

import sys
import types
import unittest

import numpy as np
import pytest

import fastopt

torch = pytest.importorskip("torch")

STEPS = 200
OURS = {name: getattr(fastopt, name) for name in ("Adam", "AdamW", "RMSprop", "SGD")} | {"SparseAdam": fastopt.Adam}


def inputs():
    """(name of the optimiser, its arguments) of each of optim_db, whose module asks for a package for its own tests."""
    wanted = types.ModuleType("expecttest")
    wanted.TestCase = unittest.TestCase
    missing = sys.modules.setdefault("expecttest", wanted) is wanted
    try:
        from torch.testing._internal.common_optimizers import optim_db
    finally:
        if missing:
            del sys.modules["expecttest"]
    for info in optim_db:
        name = info.optim_cls.__name__
        if name in OURS:
            for one in info.optim_inputs_func(device="cpu"):
                yield name, one.kwargs


INPUTS = list(inputs())
NAMES = [f"{name} {options}" for name, options in INPUTS]


def tolerance(dtype):
    """Both round a parameter once a step, by half a unit at most each, and its step, some 1e-2 of it, a few times."""
    return {"rtol": STEPS * np.finfo(dtype).eps, "atol": STEPS * np.finfo(dtype).eps}


@pytest.fixture(autouse=True)
def one_thread():
    """Torch's threads wait for each other, for milliseconds where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_all_that_are_ours_are_there():
    assert {name for name, _ in INPUTS} == OURS.keys()
    assert len(INPUTS) >= 31


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "options"), [i for i in INPUTS if i[0] != "SparseAdam"], ids=lambda x: str(x))
def test_dense(name, options, dtype):
    rng = np.random.default_rng(3)
    shapes = [(7, 5), (5,), (), (0, 3), (2, 1, 3)]
    mine = [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
    theirs = [torch.tensor(p, requires_grad=True) for p in mine]
    plain = {key: float(value) if torch.is_tensor(value) else value for key, value in options.items()}
    optimizer, twin = OURS[name](mine, **plain), getattr(torch.optim, name)(theirs, **options)
    for step in range(STEPS):
        grads = [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
        grads = [
            None if step % 7 == k and step % 2 == 0 else grad for k, grad in enumerate(grads)
        ]  # at the first step too
        for tensor, grad in zip(theirs, grads, strict=True):
            tensor.grad = None if grad is None else torch.tensor(grad)
        twin.step()
        optimizer.step(grads)
    for param, tensor in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(param, tensor.detach().numpy(), **tolerance(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("eps", [None, 1e-15])
@pytest.mark.parametrize("options", [options for name, options in INPUTS if name == "SparseAdam"], ids=str)
def test_sparse(options, eps, dtype):
    # SparseAdam leaves eps as it is where Adam, and we, multiply it by sqrt(1 - b2**t). With gradients of at least 1/2
    # in size a step with its 1e-8 is another one by 2e-8 / sqrt(1 - 0.999**t) of lr, which 200 steps add up to
    # 2e-5 lr; with 1e-15 by nothing that shows.
    options = options if eps is None else {**options, "eps": eps}
    rng = np.random.default_rng(4)
    mine = [np.asarray(rng.standard_normal(shape), dtype) for shape in [(9, 4), (3, 1)]]
    theirs = [torch.tensor(p, requires_grad=True) for p in mine]
    plain = {key: float(value) if torch.is_tensor(value) else value for key, value in options.items()}
    optimizer, twin = fastopt.Adam(mine, **plain), torch.optim.SparseAdam(theirs, **options)
    for step in range(STEPS):
        grads = []
        for tensor, param in zip(theirs, mine, strict=True):
            indices = rng.integers(0, len(param), 6 if step % 5 else 0)  # some twice; none at some steps
            rows = (rng.random((len(indices), param.shape[1])) + 0.5).astype(dtype)
            tensor.grad = torch.sparse_coo_tensor(indices[None], torch.tensor(rows), param.shape, check_invariants=True)
            grads.append(fastopt.SparseRows(indices, rows))
        if step % 3 == 1:
            theirs[1].grad = grads[1] = None
        twin.step()
        optimizer.step(grads)
    most = tolerance(dtype)
    lr = plain.get("lr", 1e-3)
    if eps is None:
        most["atol"] += 2e-5 * lr
    if torch.is_tensor(options.get("lr")):  # of float32, in which the step's size is computed then
        most["atol"] += STEPS * np.finfo(np.float32).eps * lr
    for param, tensor in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(param, tensor.detach().numpy(), **most)
