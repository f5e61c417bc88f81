"""The fifteen kinds of problems that users of third-party optimisers report most, a number for each."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
optim = pytest.importorskip("fastopt.torch.optim")

from .test_optim import assert_same, each_rule, give_gradients, parameters, train  # noqa: E402


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
def test_01_small_states_are_nested_in_the_shape_of_the_parameter(state_dtype):
    """How two ranks gather them and take their parts: ranks_states.py."""
    params = parameters()
    optimizer = optim.Adam(params, state_dtype=state_dtype)
    train(optimizer, params, 1)
    for p, own in zip(params, optimizer.state_dict()["state"].values(), strict=True):
        tensors = {name for name, value in own.items() if torch.is_tensor(value)}
        assert tensors == {"step"}
        assert all(part.shape == p.shape for name in ("exp_avg", "exp_avg_sq") for part in own[name].values())


@pytest.fixture
def mesh():
    dist = pytest.importorskip("torch.distributed")
    if not dist.is_available() or not dist.is_gloo_available() or dist.is_initialized():
        pytest.skip("no group of one process can be made here")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield pytest.importorskip("torch.distributed.device_mesh").DeviceMesh("cpu", [0])
    dist.destroy_process_group()


@each_rule
def test_02_the_kernel_gets_the_shard_of_a_dtensor(name, options, mesh):
    from torch.distributed.tensor import Shard, distribute_tensor

    params, plain = parameters(), parameters()
    shards = [torch.nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0)])) for p in params]
    optimizer, twin = getattr(optim, name)(shards, **options), getattr(optim, name)(plain, **options)
    for step in range(3):
        give_gradients(plain, step)
        for shard, p in zip(shards, plain, strict=True):
            shard.grad = distribute_tensor(p.grad, mesh, [Shard(0)])
        optimizer.step()
        twin.step()
    assert_same([shard.to_local() for shard in shards], plain)


@pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
def test_03_loading_casts_no_small_state(state_dtype):
    params = parameters(dtype=torch.float64)
    optimizer = optim.Adam(params, state_dtype=state_dtype)
    train(optimizer, params, 2)
    again = optim.Adam(params, state_dtype=state_dtype)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    code = {"bfloat16": torch.bfloat16, "8bit": torch.uint8}[state_dtype]
    for own in again.state.values():
        assert {part.dtype for part in own["exp_avg"].values()} == {code}
        assert own["rounding"]["numbers"].dtype == torch.int64
        assert own["step"].dtype == torch.float32


@each_rule
def test_04_a_resumed_run_goes_on(name, options):
    """To the bit: test_optim.py's test_states_go_on. The states have their effect; without "step" it is refused."""
    params, others = parameters(), parameters()
    optimizer = getattr(optim, name)(params, **options)
    train(optimizer, params, 5)
    for other, p in zip(others, params, strict=True):
        other.data.copy_(p.data)
    state = copy.deepcopy(optimizer.state_dict())
    train(optimizer, params, 1, first=5)
    fresh = getattr(optim, name)(others, **options)
    train(fresh, others, 1, first=5)
    assert all(torch.equal(p, q) for p, q in zip(others, params, strict=True)) == (name == "SGD" and not state["state"])
    if name != "SGD":
        before, of_first = copy.deepcopy(fresh.state_dict()), state["state"][0]
        del of_first["step"]
        with pytest.raises(ValueError, match=r"state\[0\]\['step'\]: expected the number of steps"):
            fresh.load_state_dict(state)
        torch.testing.assert_close(fresh.state_dict(), before, rtol=0, atol=0)


@each_rule
def test_05_options_that_old_checkpoints_do_not_have(name, options):
    params = parameters()
    optimizer = getattr(optim, name)(params, **options)
    train(optimizer, params, 1)
    state = copy.deepcopy(optimizer.state_dict())
    later = ("maximize", "foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay")
    for key in later:
        state["param_groups"][0].pop(key, None)
    optimizer.load_state_dict(state)
    train(optimizer, params, 2)
    again = copy.deepcopy(optimizer)
    train(again, again.param_groups[0]["params"], 1)


def test_05_options_that_torch_adds_later_are_kept():
    params = parameters()
    optimizer = optim.Adam(params)
    train(optimizer, params, 1)
    state = optimizer.state_dict()
    state["param_groups"][0]["an_option_of_2030"] = 7
    optimizer.load_state_dict(state)
    train(optimizer, params, 1)
    assert optimizer.state_dict()["param_groups"][0]["an_option_of_2030"] == 7


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop"])
def test_06_step_is_torchs_in_type_device_and_shape(name):
    for foreach in (None, True, False):
        params, others = parameters(), parameters()
        optimizer, twin = (getattr(m, name)(ps, foreach=foreach) for m, ps in ((optim, params), (torch.optim, others)))
        train(optimizer, params, 2)
        train(twin, others, 2)
        for own, its in zip(optimizer.state.values(), twin.state.values(), strict=True):
            torch.testing.assert_close(own["step"], its["step"], rtol=0, atol=0)


def test_06_a_step_that_is_a_number():
    params = parameters()
    optimizer = optim.Adam(params)
    train(optimizer, params, 2)
    state = optimizer.state_dict()
    for own in state["state"].values():
        own["step"] = 2
    again = optim.Adam(params)
    again.load_state_dict(state)
    train(again, params, 1)
    assert all(float(own["step"]) == 3 for own in again.state.values())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of the loss, by torch itself
def test_07_nothing_is_compiled_again():
    params = parameters(shapes=((3, 3),))
    optimizer = optim.Adam(params, lr=0.1)
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()

    @torch.compile(backend=counter)
    def loop(x):
        loss = (params[0] @ x).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    x = torch.ones(3)
    for _ in range(2):
        loop(x)
    frames = counter.frame_count
    losses = []
    for step in range(6):
        optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
        losses.append(loop(x).item())
    assert counter.frame_count == frames
    assert losses[-1] < losses[0]


def test_08_a_step_of_many_tensors_is_not_compiled():
    """So that it takes no time to compile, however many there are."""
    from torch._dynamo.testing import CompileCounter

    params = parameters(shapes=((3,),) * 200)
    optimizer, counter = optim.Adam(params), CompileCounter()
    give_gradients(params, 0)
    torch.compile(optimizer.step, backend=counter)()
    assert counter.frame_count == counter.op_count == 0
    assert all(own["step"] == 1 for own in optimizer.state.values())


@each_rule
def test_09_it_is_an_optimizer_without_modes(name, options):
    """Trainers look for a torch.optim.Optimizer, and call train() and eval() of those that have them."""
    optimizer = getattr(optim, name)(parameters(), **options)
    assert isinstance(optimizer, getattr(torch.optim, name))
    assert not hasattr(optimizer, "train")
    assert not hasattr(optimizer, "eval")


def test_10_closures_run_with_gradients():
    (w,) = params = parameters(shapes=((3,),))
    optimizer = optim.SGD(params, lr=0.1)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        before = w.clone()
        assert optimizer.step(closure).item() == (before * before).sum().item()
    torch.testing.assert_close(w.detach(), before * 0.8)


def test_11_the_common_norm_needs_one_optimizer():
    """Optimisers in backward see a gradient each; one of all has `max_grad_norm` without a call before the step."""
    together, single = parameters(shapes=((2,), (2,))), parameters(shapes=((2,), (2,)))
    for ps in (together, single):
        ps[0].grad, ps[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    before = [p.detach().clone() for p in together]
    of_all = optim.SGD(together, lr=1.0, max_grad_norm=1.0)
    of_all.step()
    assert of_all.grad_norm == 5
    for p, value in zip(together, before, strict=True):
        torch.testing.assert_close(value - p.detach(), p.grad / 5)
    for p in single:
        of_one = optim.SGD([p], lr=1.0, max_grad_norm=1.0)
        of_one.step()
        assert of_one.grad_norm == p.grad.norm()


@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "8bit"])
@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_12_the_decay_is_that_of_the_name(name, state_dtype):
    options = {"lr": 0.01, "weight_decay": 0.5}
    params = parameters(shapes=((400,),))
    moved = {}
    start = params[0].detach().clone()
    for key, rule, extra in [
        ("ours", getattr(optim, name), {"state_dtype": state_dtype}),
        ("Adam", torch.optim.Adam, {}),
        ("AdamW", torch.optim.AdamW, {}),
    ]:
        params[0].data.copy_(start)
        optimizer = rule(params, **options, **extra)
        train(optimizer, params, 10)
        moved[key] = params[0].detach() - start
    other = {"Adam": "AdamW", "AdamW": "Adam"}[name]
    assert (moved["ours"] - moved[name]).norm() < 0.2 * (moved["ours"] - moved[other]).norm()


def test_13_states_do_not_follow_the_default_dtype():
    params = parameters()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        optimizer = optim.Adam(params)
        train(optimizer, params, 1)
    finally:
        torch.set_default_dtype(before)
    own = optimizer.state[params[0]]
    assert own["exp_avg"].dtype == torch.float32
    assert own["step"].dtype == torch.float64  # as torch's


@each_rule
def test_14_tensors_of_unusual_memory_do_no_harm(name, options):
    """Of other strides, expanded, empty, of no dimension, and views of others; without memory: an error."""
    values = [
        torch.randn(4, 6).t(),
        torch.randn(4, 6)[:, ::2],
        torch.zeros(0, 3),
        torch.tensor(1.5),
        torch.randn(5)[1:],
    ]
    params, others = ([torch.nn.Parameter(v.clone()) for v in values] for _ in range(2))
    for k in (0, 1, 4):
        params[k] = torch.nn.Parameter(values[k])
    optimizer, twin = getattr(optim, name)(params, **options), getattr(torch.optim, name)(others, **options)
    for step in range(3):
        grads = [torch.full_like(v, 0.5 - step).contiguous() for v in values]
        grads[0] = torch.tensor(0.5 - step).expand(6, 4)
        for p, q, grad in zip(params, others, grads, strict=True):
            p.grad, q.grad = grad, grad.clone()
        optimizer.step()
        twin.step()
    for p, q in zip(params, others, strict=True):
        torch.testing.assert_close(p, q)
    (p,) = parameters(shapes=((3,),))
    p.grad = torch.ones(3)
    nothing = getattr(optim, name)([p], **options)
    p.data.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="memory"):
        nothing.step()


@each_rule
def test_15_the_losses_are_those_of_torch(name, options):
    losses = []
    for module in (optim, torch.optim):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
        optimizer = getattr(module, name)(model.parameters(), **options)
        x = torch.randn(64, 4)
        for _ in range(200):
            optimizer.zero_grad()
            loss = (model(x)[:, 0] - x.prod(dim=1)).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
