"""What torch makes of the ops: torch.func, torch.compile, dispatch modes, the operators of torch.library."""

from __future__ import annotations

import threading

import pytest

torch = pytest.importorskip("torch")
nn = pytest.importorskip("fastopt.torch.nn")
from torch.func import functional_call, grad, jacrev, jvp, vmap  # noqa: E402

from .test_nn import old_scripts, seeded, tensor  # noqa: E402

F = nn.functional
fused = F.bias_leaky_relu_dropout


# ---- torch.func ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_vmap_of_no_samples(randomness):
    """As torch's: results of their shapes, and gradients."""
    bias = torch.zeros(3)

    def both(x):
        y = F.bias_leaky_relu_dropout(x, bias)
        return F.dropout(x), F.leaky_relu(x), *grad(lambda x: (F.bias_leaky_relu_dropout(x, bias).sum(), y)[0])(x)[None]

    for axis, shape in ((0, (0, 3)), (1, (3, 0))):
        x = torch.ones(shape, requires_grad=True)
        results = vmap(both, in_dims=axis, randomness=randomness)(x)
        assert [tuple(y.shape) for y in results] == [(0, 3)] * 3
        assert torch.autograd.grad(results[0].sum(), x)[0].shape == shape


def test_masks_under_vmap():
    x = torch.ones(3, 64)
    with pytest.raises(RuntimeError, match="randomness"):
        vmap(F.dropout)(x)
    for function in (F.dropout, lambda x: fused(x, torch.zeros(64))):
        same, different = (vmap(function, randomness=kind)(x) for kind in ("same", "different"))
        assert torch.equal(same[0], same[1])
        assert not torch.equal(different[0], different[1])
        assert (
            vmap(function, in_dims=1, out_dims=1, randomness="same")(x.T).shape == (64, 3) or function is not F.dropout
        )
    columns = seeded(vmap(F.dropout, in_dims=1, out_dims=1, randomness="same"))(x.T)
    assert torch.equal(columns.T, seeded(vmap(F.dropout, randomness="same"))(x))
    assert torch.equal(vmap(lambda x: F.dropout(x, training=False))(x), x)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_gradients_of_samples(randomness):
    x, bias = tensor(5, 8).requires_grad_(), tensor(8, seed=1).requires_grad_()

    def loss(x, bias):
        return F.dropout(fused(x, bias, 0.1), 0.25).square().sum()

    def samples(x, bias):
        return vmap(loss, in_dims=(0, None), randomness=randomness)(x, bias).sum()

    dx, dbias = seeded(vmap(grad(loss, argnums=(0, 1)), in_dims=(0, None), randomness=randomness))(x, bias)
    wanted, wanted_bias = torch.autograd.grad(seeded(samples)(x, bias), (x, bias))
    torch.testing.assert_close(dx, wanted)
    torch.testing.assert_close(dbias.sum(0), wanted_bias)
    torch.testing.assert_close(seeded(grad(samples, argnums=0))(x, bias), wanted)


@old_scripts
def test_forward_mode_agrees_with_reverse():
    x, bias = tensor(4, 3, dtype=torch.float64), tensor(3, seed=1, dtype=torch.float64)

    def function(x, bias):
        return F.dropout(F.leaky_relu(fused(x, bias, 0.1)), 0.25)

    tangents = tensor(4, 3, seed=2, dtype=torch.float64), tensor(3, seed=3, dtype=torch.float64)
    _, forward = jvp(seeded(function), (x, bias), tangents)
    by_x, by_bias = seeded(jacrev(function, argnums=(0, 1), chunk_size=1))(x, bias)
    torch.testing.assert_close(
        forward, torch.einsum("abcd,cd->ab", by_x, tangents[0]) + by_bias @ tangents[1], rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(seeded(jacrev(function))(x, bias), by_x)  # which is a vmap of backward


def test_ensembles():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8, bias=False), nn.BiasLeakyReLUDropout(8), nn.Dropout(0.2))
    params = {name: torch.stack([p, p + 1]).detach() for name, p in model.named_parameters()}
    y = vmap(lambda params, x: functional_call(model, params, x), in_dims=(0, None), randomness="different")(
        params, torch.ones(5, 4)
    )
    assert y.shape == (2, 5, 8)


# ---- torch.compile ---------------------------------------------------------------------------------------------------


def layers(x, bias):
    return F.dropout(F.leaky_relu(fused(x * 2, bias), 0.1), 0.25).sin()


def test_compiled_without_a_break():
    x, bias = tensor(6, 8).requires_grad_(), tensor(8, seed=1).requires_grad_()
    graphs = []

    def keep(graph, _):
        graphs.append({str(node.target) for node in graph.graph.nodes})
        return make_boxed_func(graph)

    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    compiled = torch.compile(layers, backend=aot_autograd(fw_compiler=keep, bw_compiler=keep), fullgraph=True)
    expected = seeded(layers)(x, bias)
    y = seeded(compiled)(x, bias)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(y.sum(), (x, bias)), torch.autograd.grad(expected.sum(), (x, bias)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    forward, backward = graphs
    assert {"fastopt.dropout.default", "fastopt.bias_leaky_relu_dropout.default"} <= forward
    assert {"fastopt.dropout.default", "fastopt.bias_leaky_relu_dropout_backward.default"} <= backward
    assert not torch.equal(compiled(x, bias), compiled(x, bias))  # the address is drawn by the graph
    torch._dynamo.reset()


def test_a_compiled_model_in_both_modes():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8, bias=False), nn.BiasLeakyReLUDropout(8, inplace=True), nn.Dropout()
    )
    x = torch.ones(3, 4)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert torch.equal(seeded(compiled)(x), seeded(model)(x))
    compiled.eval()
    assert torch.equal(compiled(x), model(x))
    torch._dynamo.reset()


def test_operators():
    x, bias = tensor(6, 8).requires_grad_(), tensor(8, seed=1).requires_grad_()
    ops, address = torch.ops.fastopt, torch.tensor(5)
    y = ops.bias_leaky_relu_dropout(x, bias, address, 0.1, 0.25).detach()
    for op, args in (
        (ops.dropout.default, (x, address, 0.25)),
        (ops.bias_leaky_relu_dropout.default, (x, bias, address, 0.1, 0.25)),
        (ops.bias_leaky_relu_dropout_backward.default, (x, y, 0.1, 0.25)),
    ):
        assert set(torch.library.opcheck(op, args).values()) == {"SUCCESS"}


# ---- modes and threads -----------------------------------------------------------------------------------------------


def test_modes_see_the_operators():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **(kwargs or {}))

    names, x = [], tensor(6, 8).requires_grad_()
    expected = seeded(F.dropout)(x)
    with Seen():
        y = seeded(F.dropout)(x)
        y.sum().backward()
    assert torch.equal(y, expected)
    assert torch.equal(x.grad != 0, y != 0)
    assert names.count("fastopt.dropout.default") == 2
    with pytest.raises(TypeError, match=r"return_mask: expected False .* torch\.library"), Seen():
        F.dropout(x, return_mask=True)


def test_fake_tensors():
    with torch._subclasses.FakeTensorMode():
        y = nn.BiasLeakyReLUDropout(8)(F.dropout(torch.ones(6, 8)))
    assert y.shape == (6, 8)


def test_threads_draw_apart():
    drawn = []

    def work():
        drawn.extend([F.dropout(torch.ones(4), return_mask=True)[1].seed for _ in range(500)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 2000
