"""Dropout, leaky ReLU and the fused layer on torch's tensors: the NumPy side's bits, torch's autograd and generator."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import fastopt

torch = pytest.importorskip("torch")
nn = pytest.importorskip("fastopt.torch.nn")
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

F = nn.functional
# Which torch itself uses where it begins with forward mode.
old_scripts = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
DTYPES = [torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
LAYOUTS = {
    "C": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every other": lambda x: torch.stack([x, x], dim=-1)[..., 1],
    "expanded": lambda x: x[:1, :1].expand(x.shape),
    "negated view": lambda x: torch.complex(x, -x).conj().imag,
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def tensor(*shape, seed=0, dtype=torch.float32):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape), dtype=dtype)


def bits(x):
    return x.detach().resolve_neg().contiguous().numpy()


def seeded(function, seed=1):
    """The function with the same random numbers at each call."""

    def call(*args, **options):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return function(*args, **options)

    return call


def address(seed=1):
    return seeded(lambda: F.dropout(torch.ones(1), return_mask=True)[1], seed)()


def torch_fused(x, bias, slope, keep, scale):
    """torch's own functions with the decisions of a mask."""
    return torch.where(keep, torch.nn.functional.leaky_relu(x + bias, slope) * scale, torch.zeros_like(x))


# ---- the same bits as the NumPy side ---------------------------------------------------------------------------------


@each_dtype
@each_layout
def test_dropout_has_the_bits_of_the_numpy_side(layout, dtype):
    x = LAYOUTS[layout](tensor(2, 3, 5, 4, dtype=dtype)).requires_grad_()
    y, mask = F.dropout(x, 0.3, return_mask=True)
    expected, _ = fastopt.dropout(bits(x), 0.3, rng=mask)
    np.testing.assert_array_equal(bits(y), expected)
    if layout in ("C", "channels last", "transposed"):
        assert y.stride() == x.stride()
    for grad in (LAYOUTS[layout](tensor(2, 3, 5, 4, seed=1, dtype=dtype)), torch.ones((), dtype=dtype).expand(x.shape)):
        (dx,) = torch.autograd.grad(y, x, grad, retain_graph=True)
        np.testing.assert_array_equal(bits(dx), fastopt.dropout_backward(bits(grad), mask))


@each_dtype
@each_layout
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_the_fused_layer_has_the_bits_of_the_numpy_side(p, layout, dtype):
    x = LAYOUTS[layout](tensor(2, 3, 5, 4, dtype=dtype)).requires_grad_()
    bias = tensor(4, seed=2, dtype=dtype).requires_grad_()
    grad = LAYOUTS[layout](tensor(2, 3, 5, 4, seed=1, dtype=dtype))
    y = seeded(F.bias_leaky_relu_dropout)(x, bias, 0.1, p)
    expected, mask = fastopt.bias_leaky_relu_dropout(bits(x), bits(bias), 0.1, p, rng=address()[:2])
    np.testing.assert_array_equal(bits(y).view(np.uint8), expected.view(np.uint8))
    for ours, theirs in zip(
        torch.autograd.grad(y, (x, bias), grad),
        fastopt.bias_leaky_relu_dropout_backward(bits(grad), expected, mask, 0.1),
        strict=True,
    ):
        np.testing.assert_array_equal(bits(ours), theirs)


@each_dtype
@each_layout
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.2, -0.5])
def test_leaky_relu_has_the_bits_of_torch(slope, inplace, layout, dtype, monkeypatch):
    monkeypatch.setattr(F, "_WORTH", 0)
    values = tensor(2, 3, 5, 4, dtype=dtype)
    values.view(-1)[:5] = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan])
    grad = LAYOUTS[layout](tensor(2, 3, 5, 4, seed=1, dtype=dtype))
    results = []
    for functional in (F, torch.nn.functional):
        leaf = values.clone().requires_grad_()
        x = LAYOUTS[layout](leaf) + (0 if inplace else 0.0)
        y = functional.leaky_relu(x, slope, inplace)
        assert (y is x) is inplace
        results.append([y, *(() if inplace and slope < 0 else torch.autograd.grad(y, leaf, grad))])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(bits(ours), bits(theirs))
        assert ours.stride() == theirs.stride()


@each_dtype
def test_the_fused_layer_against_torch_with_the_same_mask(dtype):
    x, bias = tensor(70, 33, dtype=dtype).requires_grad_(), tensor(33, seed=2, dtype=dtype).requires_grad_()
    grad = tensor(70, 33, seed=1, dtype=dtype)
    y = F.bias_leaky_relu_dropout(x, bias, 0.1, 0.25)
    keep = torch.from_numpy(y.detach().numpy().view(f"u{y.itemsize}") != 0)
    theirs = torch_fused(x, bias, 0.1, keep, 1 / 0.75)
    # dbias is a sum of 70, by torch in its own order
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(y, theirs, **tolerance)
    for one, other in zip(
        torch.autograd.grad(y, (x, bias), grad), torch.autograd.grad(theirs, (x, bias), grad), strict=True
    ):
        torch.testing.assert_close(one, other, **tolerance)


# ---- torch's generator -----------------------------------------------------------------------------------------------


def test_the_generator_decides():
    x = torch.ones(1000)
    torch.manual_seed(3)
    first, second = F.dropout(x), F.dropout(x)
    state = torch.get_rng_state()
    third = F.dropout(x)
    torch.manual_seed(3)
    assert torch.equal(F.dropout(x), first)
    assert torch.equal(F.dropout(x), second)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    with torch.random.fork_rng():
        assert torch.equal(F.dropout(x), third)
    assert torch.equal(F.dropout(x), third)


def test_one_number_is_drawn_where_something_is_dropped():
    for p, training, numbers in ((0.5, True, 1), (1.0, True, 1), (0.0, True, 0), (0.5, False, 0)):
        for x in (torch.ones(8), torch.ones(0, 8)):
            torch.manual_seed(0)
            F.dropout(x, p, training)
            F.bias_leaky_relu_dropout(x, torch.zeros(8), 0.1, p, training)
            state = torch.get_rng_state()
            torch.manual_seed(0)
            for _ in range(2 * numbers):
                torch.randint(2**62, ())
            assert torch.equal(torch.get_rng_state(), state)


def test_checkpointing_makes_the_same_masks():
    x = tensor(50, 20).requires_grad_()
    bias = torch.zeros(20, requires_grad=True)

    def layers(x):
        return F.dropout(F.bias_leaky_relu_dropout(x, bias).sin(), 0.2)

    torch.manual_seed(1)
    (plain,) = torch.autograd.grad(layers(x).sum(), x)
    for reentrant in (True, False):
        torch.manual_seed(1)
        y = torch.utils.checkpoint.checkpoint(layers, x, use_reentrant=reentrant)
        torch.manual_seed(99)
        x.grad = None
        y.sum().backward()
        assert torch.equal(x.grad, plain)


def test_decisions_are_independent():
    """Keep rates, and pairs of calls, of layers and of seeds: chi-square with one degree of freedom each, below 20."""
    n = 2**16
    x = torch.ones(n)
    torch.manual_seed(0)
    masks = [F.dropout(x) != 0 for _ in range(8)]
    for seed in range(8):
        torch.manual_seed(seed)
        masks.append(F.dropout(x) != 0)
    masks.append(F.bias_leaky_relu_dropout(x[None], torch.zeros(n))[0] != 0)
    for mask in masks[:8] + masks[9:]:
        assert (mask.sum().item() - n / 2) ** 2 / (n / 4) < 20
    for one, other in itertools.combinations(masks[:8] + masks[9:], 2):
        assert ((one == other).sum().item() - n / 2) ** 2 / (n / 4) < 20
    assert torch.equal(masks[0], masks[8])  # of one seed


@pytest.mark.parametrize("p", [0.1, 0.9])
def test_keep_rates(p):
    n = 2**18
    kept = (F.dropout(torch.ones(n), p) != 0).sum().item()
    assert (kept - n * (1 - p)) ** 2 / (n * p * (1 - p)) < 20


# ---- autograd --------------------------------------------------------------------------------------------------------


@old_scripts
@pytest.mark.parametrize("slope", [0.3, -0.3])
def test_gradients_by_differences(slope, monkeypatch):
    monkeypatch.setattr(F, "_WORTH", 0)
    x = tensor(4, 3, dtype=torch.float64).requires_grad_()
    bias = tensor(3, seed=1, dtype=torch.float64).requires_grad_()
    for function, inputs in (
        (seeded(lambda x: F.dropout(x, 0.3)), (x,)),
        (seeded(lambda x: F.dropout(x.clone(), 0.3, inplace=True)), (x,)),
        (lambda x: F.leaky_relu(x, slope), (x,)),
        (seeded(lambda x, bias: F.bias_leaky_relu_dropout(x, bias, abs(slope), 0.3)), (x, bias)),
        (seeded(lambda x, bias: F.bias_leaky_relu_dropout(x * 1, bias, abs(slope), 0.3, inplace=True)), (x, bias)),
        (lambda x, bias: F.bias_leaky_relu_dropout(x, bias, abs(slope), training=False), (x, bias)),
    ):
        assert gradcheck(function, inputs, check_forward_ad=True)
        assert gradgradcheck(function, inputs)


def test_gradients_that_are_not_wanted():
    x, bias = tensor(4, 3), tensor(3).requires_grad_()
    y = F.bias_leaky_relu_dropout(x, bias)
    y.sum().backward()
    assert y.requires_grad
    assert bias.grad is not None
    assert x.grad is None
    with torch.no_grad():
        assert not F.dropout(bias).requires_grad
        assert not F.bias_leaky_relu_dropout(x, bias).requires_grad
    with torch.inference_mode():
        assert F.dropout(x.clone(), inplace=True).is_inference()
        assert F.bias_leaky_relu_dropout(x, bias).is_inference()


def test_an_output_that_was_changed_is_refused():
    x, bias = tensor(4, 3).requires_grad_(), torch.zeros(3)
    y = F.bias_leaky_relu_dropout(x, bias)
    y += 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = F.dropout(x)  # which keeps nothing
    y += 1
    y.sum().backward()


def test_in_place():
    leaf, bias = tensor(4, 3).requires_grad_(), torch.ones(3)
    for function in (F.dropout, lambda x, **options: F.bias_leaky_relu_dropout(x, bias, **options)):
        x = leaf * 1
        expected, version, memory = seeded(function)(x.clone()), x._version, x.data_ptr()
        y = seeded(function)(x, inplace=True)
        assert y is x
        assert (y.data_ptr(), y._version) == (memory, version + 1)
        assert torch.equal(y, expected)
        with torch.no_grad():
            assert function(x, inplace=True) is x
        assert x._version == version + 2
        with pytest.raises(RuntimeError, match="leaf"):
            function(leaf, inplace=True)
        with pytest.raises(RuntimeError, match="expanded"):
            function(torch.ones(1, 3).expand(4, 3), inplace=True)
        with pytest.raises(RuntimeError, match="distinct elements"):
            function(torch.ones(6).unfold(0, 3, 1), inplace=True)
    view = (base := leaf * 1)[1:]
    seeded(F.dropout)(view, inplace=True)
    (grad,) = torch.autograd.grad(base.sum(), leaf)
    assert torch.equal(grad[0], torch.ones(3))
    assert set(grad[1:].unique().tolist()) == {0.0, 2.0}
    squared = leaf * 1
    kept = squared.square()
    F.dropout(squared, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()


def test_nothing_is_drawn_for_what_is_refused():
    x, state = torch.ones(4, 3), torch.get_rng_state()
    for leaf in (False, True):
        y = x.clone().requires_grad_(leaf) * 1
        with pytest.raises(ValueError, match="bias: expected memory apart from input, got tensors that overlap"):
            F.bias_leaky_relu_dropout(y, y.detach()[0], inplace=True)
    with pytest.raises(RuntimeError, match="distinct elements"):
        F.bias_leaky_relu_dropout(torch.ones(6).unfold(0, 3, 1), torch.ones(3), inplace=True)
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_kept_but_the_output():
    x, bias = (tensor(64, 16) * 1).requires_grad_(), torch.zeros(16, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        y = F.dropout(x)
        assert not kept
        y = F.bias_leaky_relu_dropout(x, bias)
    assert kept == [y.data_ptr()]


# ---- values ----------------------------------------------------------------------------------------------------------


def test_every_element_dropped():
    x = torch.tensor([1.0, math.nan, math.inf], requires_grad=True)
    for y in (F.dropout(x, 1.0), F.bias_leaky_relu_dropout(x, torch.zeros(3), p=1.0)):
        np.testing.assert_array_equal(bits(y).view(np.uint32), 0)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(grad, torch.zeros(3))


def test_values_that_are_not_finite():
    x = torch.tensor([math.nan, math.inf, -math.inf]).repeat(100)
    y = seeded(F.dropout)(x)
    keep = seeded(F.dropout)(torch.ones(300)) != 0
    assert torch.equal(y[~keep], torch.zeros(300)[~keep])
    assert torch.equal(y[keep].isnan(), x[keep].isnan())
    assert torch.equal(y[keep].nan_to_num(0), x[keep].nan_to_num(0))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 3), (1,)], ids=str)
def test_small_shapes(shape):
    x = torch.ones(shape, requires_grad=True)
    y = F.dropout(x)
    assert y.shape == x.shape
    y.sum().backward()
    assert x.grad.shape == x.shape
    if shape:
        bias = torch.zeros(shape[-1], requires_grad=True)
        F.bias_leaky_relu_dropout(x, bias).sum().backward()
        assert bias.grad.shape == bias.shape


def test_what_is_refused():
    x, bias = torch.ones(2, 3), torch.ones(3)
    for function in (lambda p: F.dropout(x, p), lambda p: F.bias_leaky_relu_dropout(x, bias, p=p)):
        for p in (-0.1, 1.1, math.nan):
            with pytest.raises(ValueError, match="between 0 and 1"):
                function(p)
    for slope in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="negative_slope"):
            F.bias_leaky_relu_dropout(x, bias, slope)
    for wrong in (torch.ones(2), torch.ones(1, 3), torch.ones(())):
        with pytest.raises(ValueError, match="bias: expected one number for each column"):
            F.bias_leaky_relu_dropout(x, wrong)
    with pytest.raises(ValueError, match="bias"):
        F.bias_leaky_relu_dropout(torch.ones(()), torch.ones(()))
    with pytest.raises(TypeError, match=r"bias: expected torch\.float32 like input, got torch\.float64"):
        F.bias_leaky_relu_dropout(x, bias.double())


# ---- tensors that the kernels do not take ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_narrow_numbers_are_rounded_once(dtype):
    x, bias = tensor(50, 8, dtype=dtype).requires_grad_(), tensor(8, seed=1, dtype=dtype).requires_grad_()
    wide, wide_bias = x.detach().float().requires_grad_(), bias.detach().float().requires_grad_()
    grad = tensor(50, 8, seed=2, dtype=dtype)
    for function, inputs, wide_inputs in (
        (lambda x: F.dropout(x, 0.3), (x,), (wide,)),
        (lambda x, bias: F.bias_leaky_relu_dropout(x, bias, 0.1, 0.3), (x, bias), (wide, wide_bias)),
    ):
        y, expected = seeded(function)(*inputs), seeded(function)(*wide_inputs)
        assert torch.equal(y, expected.to(dtype))
        for ours, theirs in zip(
            torch.autograd.grad(y, inputs, grad), torch.autograd.grad(expected, wide_inputs, grad.float()), strict=True
        ):
            assert torch.equal(ours, theirs.to(dtype))
    y, mask = F.dropout(x, return_mask=True)
    assert torch.equal(y != 0, torch.from_numpy(mask.to_array()) & (x != 0))
    assert torch.equal(F.dropout(inside := x.detach().clone(), inplace=True), inside)


def test_other_devices_go_through_torch():
    x = torch.ones(8, 3, device="meta")
    assert F.dropout(x).device.type == "meta"
    assert F.bias_leaky_relu_dropout(x, torch.ones(3, device="meta")).shape == (8, 3)


def test_autocast():
    linear, bias = torch.nn.Linear(4, 3, bias=False), torch.zeros(3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = F.dropout(F.bias_leaky_relu_dropout(linear(torch.ones(2, 4)), bias))
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert bias.grad.dtype == torch.float32
