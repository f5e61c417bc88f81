"""clip_grad_norm_ on torch's gradients, beside torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")  # before the import of a file that is skipped without it

import torch

import fastopt

from .test_optim import assert_same, give_gradients, parameters

clip_grad_norm_ = pytest.importorskip("fastopt.torch.nn.utils").clip_grad_norm_
torch_clip = torch.nn.utils.clip_grad_norm_


def both(dtype=torch.float32, **options):
    params, others = parameters(dtype=dtype, **options), parameters(dtype=dtype, **options)
    for ps in (params, others):
        give_gradients(ps, 0)
    return params, others


def assert_close(params, others):
    for one, other in zip(params, others, strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("max_norm", [0.5, 1e6, math.inf, 0.0])
@pytest.mark.parametrize("norm_type", [2, 2.0, 1.0, math.inf, "inf"])
@pytest.mark.parametrize("foreach", [None, True, False])
def test_the_same_as_torchs(dtype, max_norm, norm_type, foreach):
    params, others = both(dtype)
    params[1].grad = others[1].grad = None
    params[2].grad = params[2].grad.transpose(0, 2).contiguous().transpose(0, 2)
    norm = clip_grad_norm_((p for p in params), max_norm, norm_type, foreach=foreach)
    wanted = torch_clip(others, max_norm, norm_type, foreach=foreach)
    assert (norm.dtype, norm.shape) == (wanted.dtype, wanted.shape)
    torch.testing.assert_close(norm, wanted)
    assert_close(params, others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_bits_of_the_numpy_side(dtype):
    params, others = both(dtype)
    arrays = [p.grad.numpy() for p in others]
    assert clip_grad_norm_(params, 0.5) == torch.tensor(fastopt.clip_grad_norm_(arrays, 0.5), dtype=dtype)
    assert_same([p.grad for p in params], map(torch.from_numpy, arrays))


def test_one_tensor_and_none():
    (w,), (other,) = both(shapes=((3,),))
    torch.testing.assert_close(clip_grad_norm_(w, 0.5), torch_clip(other, 0.5))
    assert_close([w], [other])
    w.grad = None
    assert clip_grad_norm_([w], 0.5) == clip_grad_norm_([], 0.5) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_norms_that_are_not_finite(bad):
    params, others = both()
    for p in (params[0], others[0]):
        p.grad[0, 0] = bad
    before = [p.grad.clone() for p in params]
    with pytest.raises(RuntimeError, match="finite"):
        clip_grad_norm_(params, 0.5, error_if_nonfinite=True)
    assert_same([p.grad for p in params], before)
    norm, wanted = clip_grad_norm_(params, 0.5), torch_clip(others, 0.5)
    torch.testing.assert_close(norm, wanted, equal_nan=True)
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one.grad, other.grad, equal_nan=True)


def test_squares_that_overflow():
    (w,) = parameters(shapes=((4,),))
    w.grad = torch.full((4,), 1e30)
    assert clip_grad_norm_([w], 1.0) == torch.tensor(2e30)
    torch.testing.assert_close(w.grad, torch.full((4,), 0.5))


@pytest.mark.parametrize("indices", [[0, 2], [2, 2]], ids=["distinct", "equal"])
def test_sparse_gradients(indices):
    w, b = parameters(shapes=((4, 3), (3,)))
    values = torch.arange(6.0).reshape(2, 3)
    w.grad = torch.sparse_coo_tensor([indices], values, (4, 3), check_invariants=True)
    b.grad = torch.ones(3)
    dense = torch.cat([w.grad.to_dense().flatten(), b.grad])
    norm = clip_grad_norm_([w, b], 0.5)
    torch.testing.assert_close(norm, torch.linalg.vector_norm(dense))
    assert w.grad.is_sparse
    torch.testing.assert_close(torch.cat([w.grad.to_dense().flatten(), b.grad]), dense * 0.5 / norm)


def test_gradients_of_bfloat16_are_torchs_own_affair():
    params, others = both(torch.bfloat16, shapes=((3, 4),))
    torch.testing.assert_close(clip_grad_norm_(params, 0.5), torch_clip(others, 0.5))
    assert_close(params, others)


def test_gradients_with_gaps():
    params, others = both(shapes=((3, 4),))
    for p in (params[0], others[0]):
        p.grad = p.grad.repeat_interleave(2, dim=1)[:, ::2]
        assert not p.grad.is_contiguous()
    torch.testing.assert_close(clip_grad_norm_(params, 0.5), torch_clip(others, 0.5))
    assert_close(params, others)


def test_an_expanded_gradient_cannot_be_written():
    (w,) = parameters(shapes=((3, 4),))
    w.grad = torch.ones(1, 4).expand(3, 4)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):  # torch's own
        clip_grad_norm_([w], 0.5)
    assert torch.equal(w.grad, torch.ones(3, 4))


def test_the_norm_does_not_follow_the_default_device():
    (w,) = parameters(shapes=((2,),))
    w.grad = torch.tensor([3.0, 4.0])
    with torch.device("meta"):
        norm = clip_grad_norm_([w], 1.0)
    assert norm == 5


def test_gradients_that_share_memory():
    params, others = both(shapes=((4,), (4,)))
    for ps in (params, others):
        ps[1].grad = ps[0].grad
    torch.testing.assert_close(clip_grad_norm_(params, 0.5), torch_clip(others, 0.5))
    assert_close(params, others)


def test_the_version_of_a_gradient_rises():
    (w,), _ = both(shapes=((4,),))
    before = w.grad._version
    clip_grad_norm_([w], math.inf)
    assert w.grad._version == before
    clip_grad_norm_([w], 0.5)
    assert w.grad._version == before + 1


def test_many_parameters_of_two_dtypes():
    params, others = both(shapes=((4,),) * 100)
    for p in (params[3], others[3]):
        p.data, p.grad = p.data.double(), None
        p.grad = torch.linspace(0, 1, 4, dtype=torch.float64)
    norm, wanted = clip_grad_norm_(params, 0.5), torch_clip(others, 0.5)
    assert norm.dtype == wanted.dtype == torch.float64
    np.testing.assert_allclose(norm, wanted, rtol=1e-6)
    assert_close(params, others)
