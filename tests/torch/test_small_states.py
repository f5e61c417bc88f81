"""States of few bits beside torch's tensors: the bits of the NumPy side, and copies and checkpoints without a cast."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("torch")  # before the import of a file that is skipped without it

import torch

import fastopt
from fastopt.reference.optimizers.state import _State

from .test_optim import assert_same, give_gradients, parameters, train

optim = pytest.importorskip("fastopt.torch.optim")
gather_exponents = pytest.importorskip("fastopt.torch.optim.states").gather_exponents

RULES = [
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"max_grad_norm": 0.5, "ema_decay": 0.9}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.0}),
]
each_rule = pytest.mark.parametrize(("name", "options"), RULES, ids=lambda x: str(x))
each_dtype = pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
SHAPES = ((7, 100), (), (0, 3), (3, 0), (257,))


def codes(optimizer, p):
    """The bits of all states of few bits, and of what rounds them."""
    found = {}
    for name, value in optimizer.state[p].items():
        for part, tensor in value.items() if isinstance(value, dict) else ():
            bits = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
            found[f"{name}/{part}"] = bits.numpy().copy()
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_dtype
@each_rule
def test_the_bits_of_the_numpy_side(name, options, state_dtype, dtype):
    params = parameters(dtype=dtype, shapes=SHAPES)
    arrays = [p.detach().numpy().copy() for p in params]
    both = {**options, "state_dtype": state_dtype, "rng": 2**64 - 5}
    optimizer, twin = getattr(optim, name)(params, **both), getattr(fastopt, name)(arrays, **both)
    for step in range(5):
        give_gradients(params, step)
        if step == 3:
            params[0].grad = None
            if options.get("momentum") == 0:  # a state that begins later is rounded by the step's number
                optimizer.param_groups[0]["momentum"] = twin.param_groups[0]["momentum"] = 0.9
        twin.step([p.grad if p.grad is None else p.grad.numpy() for p in params])
        optimizer.step()
        assert_same(params, map(torch.from_numpy, arrays))
    for k, p in enumerate(params):
        found = codes(optimizer, p)
        for key, bits in found.items():
            state, part = key.split("/")
            if part != "numbers":
                wanted = twin.state_dict()[f"{state}{'_exponent' if part == 'exponents' else ''}/{k}"]
                np.testing.assert_array_equal(bits, wanted)
        assert len(found) > 1


@each_dtype
def test_they_are_small(state_dtype):
    (p,) = params = parameters(shapes=((1024,),))
    optimizer = optim.Adam(params, state_dtype=state_dtype)
    train(optimizer, params, 1)
    size = sum(bits.nbytes for bits in codes(optimizer, p).values())
    assert size == 2 * {"bfloat16": 2 * 1024, "8bit": 1024 + 4}[state_dtype] + 24
    assert optimizer.state_dtype == state_dtype


@each_dtype
def test_parameters_in_another_order(state_dtype):
    """The blocks count in C order, whatever the order in memory is."""
    params, others = parameters(shapes=((30, 20),)), parameters(shapes=((30, 20),))
    params[0].data = params[0].data.t().contiguous().t()
    optimizer, twin = (optim.Adam(ps, state_dtype=state_dtype) for ps in (params, others))
    train(optimizer, params, 4)
    train(twin, others, 4)
    assert_same(params, others)


@each_dtype
@pytest.mark.parametrize("way", ["state dict", "file", "deepcopy", "pickle", "moved"])
@pytest.mark.parametrize(("name", "options"), RULES[1:4:2], ids=str)
def test_states_go_on_without_a_cast(name, options, way, state_dtype, tmp_path):
    params, twin_params = parameters(shapes=SHAPES), parameters(shapes=SHAPES)
    made = {**options, "state_dtype": state_dtype, "rng": 3}
    optimizer, twin = getattr(optim, name)(params, **made), getattr(optim, name)(twin_params, **made)
    train(optimizer, params, 3)
    train(twin, twin_params, 6)
    before = [codes(optimizer, p) for p in params]
    if way == "deepcopy":
        optimizer = copy.deepcopy(optimizer)
        params = optimizer.param_groups[0]["params"]
    elif way == "pickle":
        optimizer = pickle.loads(pickle.dumps(optimizer))
        params = optimizer.param_groups[0]["params"]
    elif way == "moved":
        optimizer.state[params[0]]["square_avg" if name == "RMSprop" else "exp_avg"] = {
            part: tensor.clone()
            for part, tensor in optimizer.state[params[0]]["square_avg" if name == "RMSprop" else "exp_avg"].items()
        }
    else:
        state = optimizer.state_dict()
        if way == "file":
            torch.save(state, tmp_path / "state.pt")
            state = torch.load(tmp_path / "state.pt", weights_only=True)
        optimizer = getattr(optim, name)(params, **{**made, "rng": 7})  # whose key is that of the state then
        seen = []
        optimizer.register_load_state_dict_pre_hook(lambda _, loaded: seen.append(loaded["state"][0].keys()))
        optimizer.load_state_dict(copy.deepcopy(state))
        assert len(seen) == 1
    for p, wanted in zip(params, before, strict=True):
        for key, bits in codes(optimizer, p).items():
            assert bits.dtype == wanted[key].dtype
            if "exponents" not in key:
                np.testing.assert_array_equal(bits, wanted[key])
    train(optimizer, params, 3, first=3)
    assert_same(params, twin_params)
    for p, q in zip(params, twin_params, strict=True):
        wanted = codes(twin, q)
        for key, bits in codes(optimizer, p).items():
            np.testing.assert_array_equal(bits, wanted[key])


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq"])
def test_blocks_that_are_cut_otherwise(name):
    """Within a block the largest exponent counts, and codes of elements with a smaller one go to the nearest."""
    rng = np.random.default_rng(0)
    signed, size = name == "exp_avg", 700
    exponents = rng.integers(90, 130, 7).repeat(100).astype(np.uint8)
    exponents[:256] = 100
    codes = rng.integers(0, 256, size).astype(np.uint8)
    codes[:256] = np.arange(256)

    def values(codes, exponents):
        found = np.zeros(size)
        for exponent in np.unique(exponents):
            state = _State(np.zeros(size), "8bit", signed)
            state.array[...], state.exponents[...] = codes, exponent
            found = np.where(exponents == exponent, state.load(), found)
        return found

    state = {"codes": torch.tensor(codes), "exponents": torch.tensor(exponents)}
    gather_exponents(name, state)
    blocks = state["exponents"].numpy()
    np.testing.assert_array_equal(blocks, [100, exponents[256:512].max(), exponents[512:].max()])
    np.testing.assert_array_equal(state["codes"][:256], codes[:256])
    now = blocks.repeat(256)[:size]
    before, after = values(codes, exponents), values(state["codes"].numpy(), now)
    np.testing.assert_array_equal(after[exponents == now], before[exponents == now])
    least = 2.0 ** (now.astype(float) - 127 - (17 if signed else 31))  # of the codes that are not 0
    half = np.maximum(np.abs(before) / 16, least / 2 if signed else 1.125 * least)
    assert (np.abs(after - before) <= half).all()
    assert ((after == 0) <= (before == 0)).all() or signed


def test_states_of_another_form_are_refused():
    params = parameters()
    made = {dtype: optim.Adam(params, state_dtype=dtype) for dtype in (None, "bfloat16", "8bit")}
    for optimizer in made.values():
        train(optimizer, params, 1)
    states = {dtype: copy.deepcopy(optimizer.state_dict()) for dtype, optimizer in made.items()}
    for dtype, optimizer in made.items():
        for other, state in states.items():
            if other != dtype:
                with pytest.raises(ValueError, match=r"exp_avg'\]: expected .* state_dtype"):
                    optimizer.load_state_dict(state)
        train(optimizer, params, 1)
        assert optimizer.state[params[0]]["step"] == 2


@each_dtype
def test_other_entries_of_a_state_dict_are_loaded_as_torch_loads_them(state_dtype):
    params = parameters()
    optimizer = optim.Adam(params, state_dtype=state_dtype, ema_decay=0.5)
    train(optimizer, params, 1)
    state = copy.deepcopy(optimizer.state_dict())
    mine = {"mine": 3, "ema": None, "max_exp_avg_sq": None}
    state["state"][0].update(mine, my_tensor=torch.ones(2))
    optimizer.load_state_dict(state)
    own = optimizer.state[params[0]]
    assert {name: own[name] for name in mine} == mine
    assert torch.equal(own["my_tensor"], torch.ones(2))
    before = params[0].detach().clone()
    train(optimizer, params, 1)
    torch.testing.assert_close(own["ema"], (before + params[0].detach()) / 2)  # one that was missing begins again


def test_codes_that_do_not_fit_are_refused():
    params = parameters(shapes=((300,),))
    optimizer = optim.Adam(params, state_dtype="8bit")
    train(optimizer, params, 1)
    before, own = params[0].detach().clone(), optimizer.state[params[0]]
    good = own["exp_avg"]
    for bad, message in [
        (torch.zeros(300), "a dict with"),
        ({**good, "codes": torch.zeros(299, dtype=torch.uint8)}, "codes in C order"),
        ({**good, "codes": torch.zeros(300)}, "codes in C order"),
        ({**good, "codes": torch.zeros(600, dtype=torch.uint8)[::2]}, "codes in C order"),
        ({**good, "exponents": torch.zeros(1, dtype=torch.uint8)}, "codes in C order"),
        ({**good, "exponents": torch.zeros(2)}, "exponents of uint8"),
        ({"codes": torch.zeros(300, dtype=torch.bfloat16)}, "one state_dtype"),
    ]:
        own["exp_avg"] = bad
        with pytest.raises(TypeError, match=message):
            optimizer.step()
    own["exp_avg"], rounding = good, own["rounding"]
    own["rounding"] = {"numbers": torch.zeros(3)}
    with pytest.raises(TypeError, match="three int64"):
        optimizer.step()
    own["rounding"] = rounding
    assert_same(params, [before])
    assert own["step"] == 1


def test_without_the_table_of_functions():
    from fastopt import _core
    from fastopt.torch.optim import base

    params, others = parameters(shapes=SHAPES), parameters(shapes=SHAPES)
    train(optim.Adam(others, state_dtype="8bit"), others, 3)
    _core.reach_tensors(None, base._described)
    try:
        train(optim.Adam(params, state_dtype="8bit"), params, 3)
    finally:
        _core.reach_tensors(getattr(torch.Tensor, "__dlpack_c_exchange_api__", None), base._described)
    assert_same(params, others)


def test_what_is_refused():
    with pytest.raises(ValueError, match="state_dtype: expected None"):
        optim.Adam(parameters(), state_dtype="float16")
    with pytest.raises(ValueError, match="state_dtype: expected None when centered"):
        optim.RMSprop(parameters(), centered=True, state_dtype="8bit")
    p = torch.nn.Parameter(torch.ones(3, 2))
    p.grad = torch.sparse_coo_tensor([[0]], [[1.0, 1.0]], (3, 2), check_invariants=True)
    optim.SGD([p], lr=0.1, state_dtype="8bit").step()  # without momentum there are no states
    with pytest.raises(RuntimeError, match="sparse"):
        optim.Adam([p], state_dtype="8bit").step()


def test_the_keys_of_a_group_are_torchs():
    for state_dtype in ("bfloat16", "8bit"):
        ours = optim.AdamW(parameters(), state_dtype=state_dtype)
        assert ours.state_dict() == torch.optim.AdamW(parameters()).state_dict()
