"""The memory of torch's tensors: it may move, overlap, have gaps, or be of kinds that no kernel takes."""

from __future__ import annotations

import copy
import gc

import pytest

pytest.importorskip("torch")  # before the import of a file that is skipped without it

import torch

from .test_optim import assert_same, each_rule, give_gradients, parameters, train

optim = pytest.importorskip("fastopt.torch.optim")


@each_rule
def test_memory_that_moves_is_followed(name, options):
    params, others = parameters(), parameters()
    optimizer, twin = getattr(optim, name)(params, **options), getattr(optim, name)(others, **options)
    for step in range(6):
        train(optimizer, params, 1, step)
        train(twin, others, 1, step)
        if step == 1:
            for p in params:
                p.data = p.data.clone()
        elif step == 2:
            for state in optimizer.state.values():
                for key, value in state.items():
                    state[key] = value.clone()
        elif step == 3:
            for state in optimizer.state.values():
                for value in state.values():
                    value.share_memory_()
        elif step == 4:
            params[0].data = params[0].data.t().contiguous().t()
        gc.collect()
    assert_same(params, others)


def test_parameters_that_change_their_type():
    params = parameters()
    optimizer = optim.Adam(params)
    train(optimizer, params, 1)
    for p in params:
        p.data = p.data.double()
        p.grad = None
    give_gradients(params, 1)
    with pytest.raises(RuntimeError, match=r"state: expected torch\.float64"):
        optimizer.step()
    assert all(state["step"] == 1 for state in optimizer.state.values())


@each_rule
def test_an_error_changes_nothing(name, options):
    params = parameters()
    optimizer = getattr(optim, name)(params, **options)
    train(optimizer, params, 2)
    give_gradients(params, 2)
    before = copy.deepcopy((params, optimizer.state_dict()))
    optimizer.param_groups[0]["lr"] = "fast"
    with pytest.raises(TypeError, match="lr: expected a float"):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = before[1]["param_groups"][0]["lr"]
    params[2].grad = None
    params[2].grad = torch.zeros(params[2].shape).to_sparse()
    if name != "SGD":
        with pytest.raises(RuntimeError, match="does not support sparse gradients"):
            optimizer.step()
    assert_same(params, before[0])
    torch.testing.assert_close(optimizer.state_dict(), before[1], rtol=0, atol=0)


def test_the_version_of_a_parameter_rises():
    w, x = parameters(shapes=((3, 3), (3, 3)))
    y = (w @ x).sum()
    w.grad = torch.ones(3, 3)
    optim.SGD([w], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_parameters_that_share_memory():
    whole = torch.arange(6.0)
    a, b = torch.nn.Parameter(whole[:4]), torch.nn.Parameter(whole[2:])
    a.grad, b.grad = torch.ones(4), torch.ones(4)
    optim.SGD([a, b], lr=1.0).step()
    assert whole.tolist() == [-1, 0, 0, 1, 3, 4]
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = p.data  # its own gradient
    optim.SGD([p], lr=0.5).step()
    assert p.tolist() == [0.5, 0.5, 0.5]


def test_complex_parameters():
    p = torch.nn.Parameter(torch.tensor([1 + 2j, -3j], dtype=torch.complex64))
    q = torch.nn.Parameter(p.detach().clone())
    for module, x in ((optim, p), (torch.optim, q)):
        optimizer = module.Adam([x], lr=0.1)
        for _ in range(3):
            grad = torch.tensor([0.5 - 1j, 2j], dtype=torch.complex64).conj()
            x.grad = grad if module is optim else grad.resolve_conj()
            optimizer.step()
    torch.testing.assert_close(p, q)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2,)], ids=str)
def test_a_gradient_with_the_negative_bit(shape):
    p = torch.nn.Parameter(torch.ones(shape))
    p.grad = torch.full(shape, 1 + 2j, dtype=torch.complex64).conj().imag
    assert p.grad.is_neg()
    optim.SGD([p], lr=1.0).step()
    assert torch.equal(p, torch.full(shape, 3.0))


def test_a_gradient_that_backward_leaves_negated():
    p, q = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    for module, x in ((optim, p), (torch.optim, q)):
        z = torch.complex(torch.zeros(1), x).conj()
        (z * z).real.sum().backward()
        module.SGD([x], lr=0.1).step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("made", [lambda z: z.conj(), lambda z: z.conj().imag, lambda z: z.conj().imag[:1]])
def test_parameters_that_are_views_of_other_values_are_refused(made):
    """What is written to a copy of their values would be lost."""
    z = torch.ones(3, dtype=torch.complex64)
    with pytest.raises(ValueError, match="params: expected tensors that are their values in memory"):
        optim.SGD([torch.nn.Parameter(made(z))], lr=0.1)
    p = torch.nn.Parameter(torch.ones_like(made(z)))
    optimizer = optim.SGD([p], lr=0.1)
    p.data, p.grad = made(z), torch.ones_like(p)
    with pytest.raises(ValueError, match="params: expected tensors that are their values in memory"):
        optimizer.step()


@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "8bit"])
def test_states_do_not_follow_the_default_device(state_dtype):
    params, others = parameters(), parameters()
    train(optim.Adam(others, state_dtype=state_dtype), others, 2)
    for step in range(2):
        give_gradients(params, step)
        with torch.device("meta"):
            if step == 0:
                optimizer = optim.Adam(params, state_dtype=state_dtype)
            optimizer.step()
    assert_same(params, others)


def test_no_gradients_and_nothing_to_do():
    params = parameters()
    optimizer = optim.Adam(params)
    optimizer.step()
    assert not optimizer.state
    params[1].grad = torch.ones(4)
    optimizer.step()
    assert list(optimizer.state) == [params[1]]


def test_zero_grad():
    params = parameters()
    optimizer = optim.Adam(params)
    give_gradients(params, 0)
    optimizer.zero_grad(set_to_none=False)
    assert all(p.grad.count_nonzero() == 0 for p in params)
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


def test_an_optimiser_for_each_parameter_in_backward():
    params, others = parameters(shapes=((3,), (3,))), parameters(shapes=((3,), (3,)))
    optimizers = {p: optim.SGD([p], lr=0.1) for p in params}

    def step(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in params:
        p.register_post_accumulate_grad_hook(step)
    (params[0] * params[1]).sum().backward()
    twin = torch.optim.SGD(others, lr=0.1)
    (others[0] * others[1]).sum().backward()
    twin.step()
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one, other)
        assert one.grad is None


def test_grad_scaler():
    params, others = parameters(shapes=((4,), (4,))), parameters(shapes=((4,), (4,)))
    results = []
    for module, ps in ((optim, params), (torch.optim, others)):
        optimizer, scaler = module.Adam(ps, lr=0.1), torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(4):
            optimizer.zero_grad()
            loss = (ps[0] * ps[1]).sum() * (float("inf") if step == 2 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append(scaler.get_scale())
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one, other)
    assert results[0] == results[1] == 512.0
