"""The inputs with which torch tests its own optimisers (optim_db): ours take the same steps on tensors, to rounding."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("torch")  # before the import of a file that is skipped without it

import torch

from ..optimizers.test_optim_db import INPUTS, NAMES, STEPS, one_thread, tolerance

optim = pytest.importorskip("fastopt.torch.optim")

SHAPES = [(7, 5), (5,), (), (0, 3), (2, 1, 3), (2, 3, 4, 4)]
_ = one_thread


def parameters(dtype, rng):
    made = [torch.tensor(np.asarray(rng.standard_normal(shape)), dtype=dtype) for shape in SHAPES]
    made[0] = made[0].t().contiguous().t()  # in the other order
    made[-1] = made[-1].contiguous(memory_format=torch.channels_last)
    made.append(torch.tensor(rng.standard_normal((4, 6)), dtype=dtype)[:, ::2])  # with gaps
    return [torch.nn.Parameter(p) for p in made]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("name", "options"), [i for i in INPUTS if i[0] != "SparseAdam"], ids=lambda x: str(x))
def test_dense(name, options, dtype):
    rng = np.random.default_rng(3)
    mine = parameters(dtype, rng)
    theirs = copy.deepcopy(mine)
    optimizer, twin = getattr(optim, name)(mine, **options), getattr(torch.optim, name)(theirs, **options)
    for step in range(STEPS):
        for k, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            grad = torch.tensor(np.asarray(rng.standard_normal(one.shape)), dtype=dtype)
            one.grad = None if step % 7 == k and step % 2 == 0 else grad
            other.grad = None if one.grad is None else grad.clone()
        twin.step()
        optimizer.step()
    most = tolerance(np.float32 if dtype == torch.float32 else np.float64)
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), **most)
        of_one, of_other = optimizer.state[one], twin.state[other]
        assert of_one.keys() == of_other.keys()
        for key, value in of_other.items():
            if value is None:
                continue
            assert (of_one[key].dtype, of_one[key].shape) == (value.dtype, value.shape)
            if name != "SGD":  # whose momentum has the strides of the first gradient in torch
                assert of_one[key].stride() == value.stride()
            np.testing.assert_allclose(of_one[key].numpy(), value.numpy(), **most)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", [options for name, options in INPUTS if name == "SparseAdam"], ids=str)
def test_sparse(options, dtype):
    rng = np.random.default_rng(4)
    mine = [torch.nn.Parameter(torch.tensor(rng.standard_normal(shape), dtype=dtype)) for shape in [(9, 4), (3, 1)]]
    theirs = copy.deepcopy(mine)
    optimizer, twin = optim.SparseAdam(mine, **options), torch.optim.SparseAdam(theirs, **options)
    for step in range(STEPS):
        for k, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            indices = rng.integers(0, len(one), 6 if step % 5 else 0)  # some twice; none at some steps
            rows = torch.tensor(rng.standard_normal((len(indices), one.shape[1])), dtype=dtype)
            one.grad = torch.sparse_coo_tensor(indices[None], rows, one.shape, check_invariants=True)
            other.grad = one.grad.clone()
            if k == 1 and step % 3 == 1:
                one.grad = other.grad = None
        twin.step()
        optimizer.step()
    most = tolerance(np.float32 if dtype == torch.float32 else np.float64)
    if torch.is_tensor(options.get("lr")):  # of float32, in which torch computes the step's size then
        most["rtol"] = most["atol"] = STEPS * np.finfo(np.float32).eps
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), **most)
        assert optimizer.state[one]["step"] == twin.state[other]["step"]


def test_the_inputs_have_names():
    assert len(NAMES) == len(INPUTS)
