"""What two processes over gloo do together, each a rank: test_distributed.py starts them and looks for "ok NAME".

A run by both is compared with one that each rank makes alone, with the mean of both gradients. Sums of two are the same
in either order and halves are exact, so that bits are compared wherever no norm is taken over shards.
"""

from __future__ import annotations

import copy
import datetime
import warnings
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

import fastopt.torch.optim as optim

RANKS = 2
OPTIONS = [
    ("AdamW", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1, "ema_decay": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
]
OURS = {"max_grad_norm": 0.1, "skip_nonfinite": True, "ema_decay": 0.9}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def model():
    """Its last layer has one row, of which the second rank has none; 7 rows are 4 and 3."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))


def sharded(module):
    for layer in module:
        if isinstance(layer, torch.nn.Linear):
            fully_shard(layer, mesh=MESH)
    return fully_shard(module, mesh=MESH)


def backward(module, step, rank):
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(2 * step + rank))
    module(x).square().mean().backward()


def train(module, optimizer, steps, first=0):
    """Steps of this rank with its own half of the data, or with both halves where the module is not shared out."""
    alone = type(module) is torch.nn.Sequential
    for step in range(first, first + steps):
        optimizer.zero_grad()
        backward(module, step, 0 if alone else dist.get_rank())
        if alone:
            grads = [p.grad for p in module.parameters()]
            module.zero_grad()
            backward(module, step, 1)
            for p, grad in zip(module.parameters(), grads, strict=True):
                p.grad = (grad + p.grad) / RANKS
        optimizer.step()
    return module


def whole(tensors):
    return [t.full_tensor() if isinstance(t, DTensor) else t.detach() for t in tensors]


def assert_same(ours, theirs, exact=True):
    for one, other in zip(whole(ours), whole(theirs), strict=True):
        torch.testing.assert_close(one, other, **({"rtol": 0, "atol": 0} if exact else {}))


def assert_states(optimizer, twin, exact=True):
    """The states of a run of both ranks, which are sharded as their parameters are, and of one alone."""
    for p, q in zip(optimizer.param_groups[0]["params"], twin.param_groups[0]["params"], strict=True):
        ours, theirs = optimizer.state[p], twin.state[q]
        assert set(ours) == set(theirs)
        for name, value in ours.items():
            assert isinstance(value, DTensor) == (isinstance(p, DTensor) and name != "step"), name
            assert_same([value], [theirs[name]], exact)


def assert_agreed(value):
    """All ranks have this value, to the bit."""
    values = [None] * RANKS
    dist.all_gather_object(values, value)
    assert values[0] == values[1], values


# ---- every rank has all parameters -----------------------------------------------------------------------------------


@check
def ddp(folder):
    for name, options in [*OPTIONS, ("AdamW", OURS)]:
        single, shared = model(), DistributedDataParallel(model())
        twin = getattr(optim, name)(single.parameters(), **options)
        optimizer = getattr(optim, name)(shared.parameters(), **options)
        train(single, twin, 4)
        train(shared, optimizer, 4)
        assert_same(shared.parameters(), single.parameters())
        assert_states(optimizer, twin)
        assert optimizer.grad_norm == twin.grad_norm


@check
def zero_redundancy(folder):
    """Each rank steps its own parameters and has their states alone."""
    for name, options in OPTIONS:
        rule = getattr(optim, name)

        def zero(module, rule=rule, options=options):
            return ZeroRedundancyOptimizer(module.parameters(), optimizer_class=rule, **options)

        single, shared = model(), DistributedDataParallel(model())
        twin, optimizer = rule(single.parameters(), **options), zero(shared)
        train(single, twin, 3)
        train(shared, optimizer, 3)
        assert_same(shared.parameters(), single.parameters())
        assert 0 < len(optimizer.optim.state) < len(twin.state)
        optimizer.consolidate_state_dict(to=0)
        if dist.get_rank() == 0:
            torch.save(optimizer.state_dict(), folder / "zero.pt")
        dist.barrier()
        saved = torch.load(folder / "zero.pt", weights_only=True)
        resumed = DistributedDataParallel(copy.deepcopy(shared.module))
        by_two, by_one = zero(resumed), rule(single.parameters(), **options)
        by_two.load_state_dict(copy.deepcopy(saved))
        by_one.load_state_dict(saved)
        assert_states(by_one, twin)
        train(single, by_one, 3, first=3)
        train(shared, optimizer, 3, first=3)
        train(resumed, by_two, 3, first=3)
        assert_same(shared.parameters(), single.parameters())
        assert_same(resumed.parameters(), single.parameters())


# ---- every rank has a shard ------------------------------------------------------------------------------------------


@check
def fsdp(folder):
    for name, options in OPTIONS:
        single, shared = model(), sharded(model())
        twin = getattr(optim, name)(single.parameters(), **options)
        optimizer = getattr(optim, name)(shared.parameters(), **options)
        assert shared[2].weight.to_local().shape[0] == 1 - dist.get_rank()
        train(single, twin, 4)
        train(shared, optimizer, 4)
        assert_same(shared.parameters(), single.parameters())
        assert_states(optimizer, twin)
        assert optimizer.grad_norm is None
        if "ema_decay" in options:
            assert_same(optimizer.ema_params, twin.ema_params)


@check
def fsdp_clipped(folder):
    """The norm is that of the whole gradients, on every rank."""
    single, shared = model(), sharded(model())
    twin, optimizer = optim.AdamW(single.parameters(), **OURS), optim.AdamW(shared.parameters(), **OURS)
    for step in range(4):
        train(single, twin, 1, step)
        train(shared, optimizer, 1, step)
        assert_agreed(optimizer.grad_norm)
        assert optimizer.grad_norm > OURS["max_grad_norm"]
        torch.testing.assert_close(optimizer.grad_norm, twin.grad_norm, rtol=1e-6, atol=0)
    assert_same(shared.parameters(), single.parameters(), exact=False)
    assert_states(optimizer, twin, exact=False)


@check
def fsdp_skips(folder):
    """A gradient that is not finite in the shard of one rank has both skip the step."""
    for bad_rank, value in ((0, float("nan")), (1, float("inf"))):
        shared = sharded(model())
        optimizer = optim.AdamW(shared.parameters(), **OURS)
        train(shared, optimizer, 2)
        before, state = whole(shared.parameters()), copy.deepcopy(optimizer.state_dict()["state"])
        if dist.get_rank() == bad_rank:
            shared[0].weight.grad.to_local()[1, 2] = value
        optimizer.step()
        assert optimizer.skipped_steps == 1
        assert_same(shared.parameters(), before)
        for k, values in optimizer.state_dict()["state"].items():
            assert_same(values.values(), state[k].values())


@check
def fsdp_large(folder):
    """The squares of finite gradients may overflow, as on one process."""
    single, shared = model(), sharded(model())
    twin, optimizer = optim.SGD(single.parameters(), **OURS), optim.SGD(shared.parameters(), **OURS)
    for p, q in zip(single.parameters(), shared.parameters(), strict=True):
        p.grad = torch.full_like(p, 1e30)
        q.grad = torch.full_like(q, 1e30)
    twin.step()
    optimizer.step()
    assert optimizer.skipped_steps == twin.skipped_steps == 0
    assert_agreed(optimizer.grad_norm)
    torch.testing.assert_close(optimizer.grad_norm, twin.grad_norm, rtol=1e-6, atol=0)
    assert_same(shared.parameters(), single.parameters(), exact=False)


@check
def shards_beside_whole_parameters(folder):
    """The norm is over parameters of several kinds: sharded, the same on all ranks, and of no mesh."""
    values = [torch.arange(6.0).reshape(3, 2) + k for k in range(3)]
    single = [torch.nn.Parameter(v.clone()) for v in values]
    shared = [
        torch.nn.Parameter(distribute_tensor(values[0], MESH, [Shard(0)])),
        torch.nn.Parameter(distribute_tensor(values[1], MESH, [Replicate()])),
        torch.nn.Parameter(values[2].clone()),
    ]
    for p, q, v in zip(single, shared, values, strict=True):
        p.grad = v - 2
        q.grad = distribute_tensor(v - 2, MESH, q.placements) if isinstance(q, DTensor) else v - 2
    twin, optimizer = optim.Adam(single, **OURS), optim.Adam(shared, **OURS)
    twin.step()
    optimizer.step()
    assert_agreed(optimizer.grad_norm)
    torch.testing.assert_close(optimizer.grad_norm, twin.grad_norm, rtol=1e-6, atol=0)
    assert_same(shared, single, exact=False)


@check
def gradients_laid_out_otherwise(folder):
    """A gradient that lies on the ranks otherwise than its parameter is not taken for a part of it."""
    value = torch.arange(6.0).reshape(2, 3)
    grad = value - 2
    parts = DTensor.from_local(grad / RANKS, MESH, [Partial()], run_check=False)
    for options in ({}, OURS):
        single = torch.nn.Parameter(value.clone())
        single.grad = grad
        optim.SGD([single], lr=0.5, **options).step()
        for placement, other in ((Shard(0), distribute_tensor(grad, MESH, [Replicate()])), (Replicate(), parts)):
            shared = torch.nn.Parameter(distribute_tensor(value, MESH, [placement]))
            shared.grad = other
            optimizer = optim.SGD([shared], lr=0.5, **options)
            optimizer.step()
            assert_agreed(optimizer.grad_norm)
            assert_same([shared], [single], exact=not options)


@check
def tensor_parallel(folder):
    """Each rank has some columns or rows of a layer; gradients of a norm's weights come in parts to be added up."""
    torch.manual_seed(0)
    single = torch.nn.Sequential(torch.nn.LayerNorm(5), torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
    plan = {
        "0": SequenceParallel(sequence_dim=0),
        "1": ColwiseParallel(input_layouts=Shard(0)),
        "3": RowwiseParallel(),
    }
    shared = parallelize_module(copy.deepcopy(single), MESH, plan)
    options = {"lr": 0.1, "momentum": 0.9, **OURS}
    twin, optimizer = optim.SGD(single.parameters(), **options), optim.SGD(shared.parameters(), **options)
    for step in range(3):
        for module, stepped in ((single, twin), (shared, optimizer)):
            stepped.zero_grad()
            backward(module, step, 0)
            stepped.step()
        assert_agreed(optimizer.grad_norm)
        torch.testing.assert_close(optimizer.grad_norm, twin.grad_norm, rtol=1e-5, atol=0)
        assert any(p.grad.placements != p.placements for p in shared.parameters() if isinstance(p, DTensor))
    assert_same(shared.parameters(), single.parameters(), exact=False)
    assert_agreed([p.tolist() for p in whole(shared.parameters())])


@check
def states_laid_out_otherwise(folder):
    shared = torch.nn.Parameter(distribute_tensor(torch.ones(2, 3), MESH, [Shard(0)]))
    shared.grad = torch.ones_like(shared)
    optimizer = optim.Adam([shared])
    optimizer.step()
    for other in (distribute_tensor(torch.ones(2, 3), MESH, [Replicate()]), torch.ones(1, 3)):
        optimizer.state[shared]["exp_avg"] = other
        before = shared.full_tensor()
        with pytest.raises(RuntimeError, match="state: expected a tensor on"):
            optimizer.step()
        assert_same([shared], [before])


@check
def fsdp_scaled(folder):
    """A gradient that overflows on one rank alone has both leave the step out, and the scale is divided out."""
    single, shared = model(), sharded(model())
    twin, optimizer = optim.Adam(single.parameters(), **OURS), optim.Adam(shared.parameters(), **OURS)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(3):
        optimizer.zero_grad()
        x = torch.randn(6, 5, generator=torch.Generator().manual_seed(2 * step + dist.get_rank()))
        scaler.scale(shared(x).square().mean()).backward()
        if step == 1 and dist.get_rank() == 1:
            shared[0].weight.grad.to_local()[0, 0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        if step != 1:
            train(single, twin, 1, step)
    assert scaler.get_scale() == 512.0
    assert_agreed(optimizer.grad_norm)
    assert_same(shared.parameters(), single.parameters(), exact=False)


@check
def versions_of_shards(folder):
    shared = sharded(model())
    optimizer = optim.SGD(shared.parameters(), lr=0.1)
    train(shared, optimizer, 1)
    backward(shared, 1, dist.get_rank())
    before = [p._version for p in shared.parameters()]
    optimizer.step()
    assert all(p._version > v for p, v in zip(shared.parameters(), before, strict=True))


# ---- checkpoints -----------------------------------------------------------------------------------------------------


@check
def checkpoints(folder):
    """Saved by both ranks; both go on with them, and one process does."""
    for k, (name, options) in enumerate([*OPTIONS, ("AdamW", OURS), ("AdamW", {"lr": torch.tensor(0.1)})]):
        exact = "max_grad_norm" not in options
        rule = getattr(optim, name)
        for full in (False, True):
            how = StateDictOptions(full_state_dict=full)
            single, shared = model(), sharded(model())
            optimizer = rule(shared.parameters(), **options)
            train(shared, optimizer, 3)
            weights, states = get_state_dict(shared, optimizer, options=how)
            path = folder / f"checkpoint{k}{full}"
            checkpoint.save({"model": weights, "optimizer": states}, checkpoint_id=path)
            train(single, rule(single.parameters(), **options), 6)
            train(shared, optimizer, 3, first=3)
            assert_same(shared.parameters(), single.parameters(), exact)
            for resumed in (sharded(model()), model()):
                again = rule(resumed.parameters(), **options)
                weights, states = get_state_dict(resumed, again, options=how)
                found = {"model": weights, "optimizer": states}
                alone = type(resumed) is torch.nn.Sequential
                checkpoint.load(found, checkpoint_id=path, no_dist=alone)
                set_state_dict(
                    resumed, again, model_state_dict=found["model"], optim_state_dict=found["optimizer"], options=how
                )
                train(resumed, again, 3, first=3)
                assert_same(resumed.parameters(), shared.parameters(), exact)
                if "ema_decay" in options:
                    assert_same(again.ema_params, optimizer.ema_params, exact)


@check
def states_that_torch_begins(folder):
    """torch makes states that are missing by a step with gradients and lr of zero, which moves no parameter."""
    for name, options in [*OPTIONS, ("AdamW", OURS), ("SGD", {**OURS, "momentum": 0.9, "weight_decay": 0.1})]:
        for lr in (0.1, torch.tensor(0.1)):
            shared = sharded(model())
            optimizer = getattr(optim, name)(shared.parameters(), **{**options, "lr": lr})
            before = whole(shared.parameters())
            get_optimizer_state_dict(shared, optimizer)
            assert_same(shared.parameters(), before)
            assert optimizer.param_groups[0]["lr"] is lr
            assert optimizer.skipped_steps == 0
            assert len(optimizer.state) == len(before)
            if "ema_decay" in options:
                assert_same(optimizer.ema_params, before)


@check
def states_from_the_first_rank(folder):
    """One rank has read a whole checkpoint, and the other takes its part from there."""
    shared, resumed = sharded(model()), sharded(model())
    optimizer, again = (optim.Adam(module.parameters(), **OURS) for module in (shared, resumed))
    train(shared, optimizer, 3)
    how = StateDictOptions(full_state_dict=True, cpu_offload=True)  # only the first rank has it then
    weights, states = get_state_dict(shared, optimizer, options=how)
    how = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(resumed, weights, options=how)
    set_optimizer_state_dict(resumed, again, copy.deepcopy(states), options=how)  # torch lends "step" as it is
    train(shared, optimizer, 2, first=3)
    train(resumed, again, 2, first=3)
    assert_same(resumed.parameters(), shared.parameters())
    assert_same(again.ema_params, optimizer.ema_params)


def main(rank, folder):
    global MESH
    from . import ranks_states  # noqa: F401  # whose checks are of this list too

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=int(rank),
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )
    MESH = init_device_mesh("cpu", (RANKS,))
    for function in CHECKS:
        function(Path(folder))
        print("ok", function.__name__, flush=True)
    dist.destroy_process_group()
