"""torch's optimisers with a compiled step: everything around the step is torch's, and works as there."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import fastopt

torch = pytest.importorskip("torch")
optim = pytest.importorskip("fastopt.torch.optim")

RULES = [
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
]
each_rule = pytest.mark.parametrize(("name", "options"), RULES, ids=lambda x: str(x))


def parameters(seed=0, dtype=torch.float32, shapes=((3, 4), (4,), (2, 3, 5))):
    rng = np.random.default_rng(seed)
    return [torch.nn.Parameter(torch.tensor(rng.standard_normal(shape), dtype=dtype)) for shape in shapes]


def give_gradients(params, seed):
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad = torch.tensor(rng.standard_normal(p.shape), dtype=p.dtype)


def train(optimizer, params, steps, first=0):
    for step in range(first, first + steps):
        give_gradients(params, step)
        optimizer.step()


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())


# ---- the same bits as the NumPy side ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each_rule
@pytest.mark.parametrize("ours", [{}, {"max_grad_norm": 0.5}, {"ema_decay": 0.9, "skip_nonfinite": True}], ids=str)
def test_the_bits_of_the_numpy_side(name, options, ours, dtype):
    params = parameters(dtype=dtype)
    arrays = [p.detach().numpy().copy() for p in params]
    optimizer, twin = getattr(optim, name)(params, **options, **ours), getattr(fastopt, name)(arrays, **options, **ours)
    for step in range(5):
        give_gradients(params, step)
        if step == 3 and "skip_nonfinite" in ours:
            params[1].grad[2] = np.nan
        twin.step([p.grad.numpy() for p in params])
        optimizer.step()
        assert_same(params, map(torch.from_numpy, arrays))
        np.testing.assert_equal(optimizer.grad_norm, twin.grad_norm)
    assert optimizer.skipped_steps == twin.skipped_steps
    if "ema_decay" in ours:
        assert_same(optimizer.ema_params, map(torch.from_numpy, twin.ema_params))


@each_rule
@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_a_repeated_step_is_a_step(name, options, max_norm):
    params, others = parameters(), parameters()
    repeating, plain = (getattr(optim, name)(own, max_grad_norm=max_norm, **options) for own in (params, others))
    compiled = repeating._tensor_step
    compiled.repeatable = True
    limit = float("inf") if max_norm is None else max_norm
    assert not compiled.repeat(limit)  # before any step
    give_gradients(params, 0)
    for step in range(6):
        give_gradients(others, step)
        plain.step()
        for p, other in zip(params, others, strict=True):
            p.grad.copy_(other.grad)
        if step in (0, 3):
            repeating.step()
        else:
            assert compiled.repeat(limit)
    assert_same(params, others)
    for p, other in zip(params, others, strict=True):
        assert p._version == other._version
        assert repeating.state[p].keys() == plain.state[other].keys()
        for key, value in repeating.state[p].items():
            assert value is None or torch.equal(torch.as_tensor(value), torch.as_tensor(plain.state[other][key])), key


@pytest.mark.parametrize(
    ("ours", "scale"),
    [
        ({"ema_decay": 0.9}, None),
        ({"skip_nonfinite": True}, None),
        ({"state_dtype": "8bit"}, None),
        ({}, torch.tensor(2.0)),
    ],
    ids=["average", "skipped", "8bit", "scaled"],
)
def test_what_is_not_repeated(ours, scale):
    params = parameters()
    optimizer = optim.Adam(params, **ours)
    optimizer._tensor_step.repeatable = True
    give_gradients(params, 0)
    if scale is not None:  # as GradScaler hands it over
        optimizer.grad_scale, optimizer.found_inf = scale, torch.tensor(0.0)
    optimizer.step()
    before = [p.detach().clone() for p in params]
    assert not optimizer._tensor_step.repeat(1.0)
    assert all(map(torch.equal, params, before))


def test_a_repeated_step_is_of_the_same_parameters():
    params = parameters()
    optimizer = optim.Adam(params)
    give_gradients(params, 0)
    optimizer.step()
    assert not optimizer._tensor_step.repeat(1.0)  # nothing is kept unless asked for
    optimizer._tensor_step.repeatable = True
    params[0].requires_grad_(False)
    params[0].grad = None
    optimizer.step()
    before = params[0].detach().clone()
    assert optimizer._tensor_step.repeat(float("inf"))
    assert torch.equal(params[0], before)


# ---- hooks, closures, schedulers -------------------------------------------------------------------------------------


def test_hooks_of_the_optimizer_and_of_all():
    all_optimizers = sys.modules["torch.optim.optimizer"]
    params = parameters()
    optimizer = optim.Adam(params)
    give_gradients(params, 0)
    seen = []
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append("before")),
        optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append("after")),
        all_optimizers.register_optimizer_step_pre_hook(lambda o, args, kwargs: seen.append("before all")),
        all_optimizers.register_optimizer_step_post_hook(lambda o, args, kwargs: seen.append("after all")),
    ]
    optimizer.step()
    assert seen == ["before all", "before", "after", "after all"]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(seen) == 4


def test_hooks_run_once_in_a_subclass():
    class Own(optim.Adam):
        def step(self, closure=None):
            return super().step(closure)

    params = parameters()
    optimizer = Own(params)
    give_gradients(params, 0)
    seen = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(1))
    optimizer.step()
    assert seen == [1]


@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")  # of torch 2.11
def test_the_profiler_records_a_step():
    params = parameters()
    optimizer = optim.Adam(params)
    give_gradients(params, 0)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        optimizer.step()
        optimizer.zero_grad()
    names = {event.key for event in profile.key_averages()}
    assert {"Optimizer.step#Adam.step", "Optimizer.zero_grad#Adam.zero_grad"} <= names


@pytest.mark.parametrize(
    "made",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 2, gamma=0.5),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 7),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=12),  # changes the momentum or betas too
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=0),
    ],
)
@each_rule
def test_schedulers(name, options, made):
    params, others = parameters(), parameters()
    options = {"momentum": 0.8, **options} if name == "SGD" else options
    optimizer, twin = getattr(optim, name)(params, **options), getattr(torch.optim, name)(others, **options)
    schedulers = made(optimizer), made(twin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of a scheduler before its optimiser
        for step in range(10):
            train(optimizer, params, 1, step)
            train(twin, others, 1, step)
            for scheduler in schedulers:
                scheduler.step(*(1.0,) * isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau))
    assert optimizer.param_groups[0]["lr"] == twin.param_groups[0]["lr"] != options.get("lr", 1e-3)
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
def test_a_learning_rate_that_is_a_tensor(name):
    lr, params, others = torch.tensor(0.1), parameters(), parameters()
    optimizer, twin = (
        getattr(optim, name)(params, lr=lr),
        getattr(fastopt, name)([p.detach().numpy() for p in others], lr=0.1),
    )
    twin.lr = float(lr)
    give_gradients(params, 0)
    optimizer.step()
    twin.step([p.grad.numpy() for p in params])
    lr.fill_(0.01)
    twin.lr = float(lr)
    optimizer.step()
    twin.step([p.grad.numpy() for p in params])
    assert_same(params, others)
    assert optimizer.param_groups[0]["lr"] is lr


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_groups_named_parameters_and_groups_that_are_added():
    params, others = parameters(), parameters()
    both = []
    for module, ps in ((optim, params), (torch.optim, others)):
        optimizer = module.AdamW([("a", ps[0])], lr=0.1)
        optimizer.add_param_group({"params": [("b", ps[1])], "lr": 0.01, "weight_decay": 0.0, "amsgrad": True})
        optimizer.add_param_group({"params": [("c", ps[2])], "maximize": True})
        train(optimizer, ps, 5)
        both.append(optimizer)
    ours, theirs = both
    for one, other in zip(params, others, strict=True):
        torch.testing.assert_close(one, other)
    assert [set(g) for g in ours.param_groups] == [set(g) for g in theirs.param_groups]
    assert [g["param_names"] for g in ours.param_groups] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(("name", "options"), [*RULES, ("SparseAdam", {})], ids=lambda x: str(x))
def test_the_keys_of_a_group_are_torchs(name, options):
    """Or torch.distributed.checkpoint finds keys missing."""
    ours, theirs = getattr(optim, name)(parameters(), **options), getattr(torch.optim, name)(parameters(), **options)
    assert ours.state_dict() == theirs.state_dict()
    assert ours.defaults == theirs.defaults


@each_rule
@pytest.mark.parametrize("of_second", [{}, {"momentum": 0.0}], ids=str)
def test_the_keys_of_the_states_are_torchs(name, options, of_second):
    """SGD without momentum has none."""
    kept = []
    for package in (optim, torch.optim):
        params = parameters()
        groups = [{"params": params[:1]}, {"params": params[1:], **(of_second if name == "SGD" else {})}]
        optimizer = getattr(package, name)(groups, **options)
        train(optimizer, params, 2)
        kept.append({k: sorted(own) for k, own in optimizer.state_dict()["state"].items()})
    assert kept[0] == kept[1]


@pytest.mark.parametrize("option", ["foreach", "fused"])
@pytest.mark.parametrize("value", [None, True, False])
def test_options_that_change_nothing(option, value):
    params, others = parameters(), parameters()
    train(optim.Adam(params, **{option: value}), params, 3)
    train(optim.Adam(others), others, 3)
    assert_same(params, others)


@pytest.mark.parametrize("option", ["capturable", "differentiable"])
def test_options_that_would_change_something_are_refused(option):
    with pytest.raises(ValueError, match=f"{option}: expected False, got True"):
        optim.AdamW(parameters(), **{option: True})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": -1.0}, "learning rate"),
        ({"betas": (1.0, 0.9)}, "beta"),
        ({"eps": 0.0}, "eps"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"ema_decay": 2.0}, "ema_decay"),
        ({"lr": float("nan")}, "learning rate|lr"),
    ],
)
def test_values_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        optim.Adam(parameters(), **values)


def test_a_group_that_is_refused_is_not_added():
    params = parameters()
    optimizer = optim.Adam(params[:1])
    with pytest.raises(ValueError, match="beta"):
        optimizer.add_param_group({"params": params[1:], "betas": (2.0, 0.9)})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: torch.zeros(3, device="meta"), "CPU"),
        (lambda: torch.zeros(3, dtype=torch.float16), "float16"),
        (lambda: torch.eye(3).to_sparse(), "dense|layout"),
    ],
)
def test_tensors_that_it_cannot_take_are_refused_at_once(made, message):
    with pytest.raises((TypeError, ValueError), match=message):
        optim.Adam([torch.nn.Parameter(made())])


# ---- state -----------------------------------------------------------------------------------------------------------


@each_rule
@pytest.mark.parametrize("way", ["torch to ours", "ours to torch", "ours", "deepcopy", "pickle", "file"])
def test_states_go_on(name, options, way, tmp_path):
    first, second = {
        "torch to ours": (torch.optim, optim),
        "ours to torch": (optim, torch.optim),
    }.get(way, (optim, optim))
    params, twin_params = parameters(), parameters()
    optimizer, twin = getattr(first, name)(params, **options), getattr(first, name)(twin_params, **options)
    train(optimizer, params, 3)
    train(twin, twin_params, 6)
    if way == "deepcopy":
        optimizer = copy.deepcopy(optimizer)
        params = optimizer.param_groups[0]["params"]
    elif way == "pickle":
        optimizer = pickle.loads(pickle.dumps(optimizer))
        params = optimizer.param_groups[0]["params"]
    else:
        state = optimizer.state_dict()
        if way == "file":
            torch.save(state, tmp_path / "state.pt")
            state = torch.load(tmp_path / "state.pt", weights_only=True)
        optimizer = getattr(second, name)(params, **options)
        optimizer.load_state_dict(state)
    train(optimizer, params, 3, first=3)
    for one, other in zip(params, twin_params, strict=True):
        if first is second:
            np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())
        else:
            torch.testing.assert_close(one, other)


def test_options_of_ours_are_copied():
    optimizer = optim.Adam(parameters(), max_grad_norm=0.5, skip_nonfinite=True, ema_decay=0.9)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert (other.max_grad_norm, other.skip_nonfinite, other.ema_decay) == (0.5, True, 0.9)


# ---- the other way to memory, and torch itself -----------------------------------------------------------------------


@each_rule
def test_without_the_table_of_functions(name, options):
    from fastopt import _core
    from fastopt.torch.optim import base

    params, others = parameters(), parameters()
    train(getattr(optim, name)(others, **options), others, 3)
    _core.reach_tensors(None, base._described)
    try:
        train(getattr(optim, name)(params, **options), params, 3)
    finally:
        _core.reach_tensors(getattr(torch.Tensor, "__dlpack_c_exchange_api__", None), base._described)
    assert_same(params, others)


def test_the_package_does_not_import_torch():
    script = "import sys, fastopt; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
