"""Checks of ranks.py that are about states of few bits and checkpoints of other numbers of ranks."""

from __future__ import annotations

import copy

import torch
import torch.distributed as dist
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import fastopt.torch.optim as optim
from fastopt.torch.nn.utils import clip_grad_norm_

from .ranks import OPTIONS, OURS, assert_agreed, assert_same, backward, check, model, sharded, train, whole

SMALL = [("Adam", {"lr": 0.1, "state_dtype": dtype}) for dtype in ("bfloat16", "8bit")]


def small_states(optimizer):
    """The tensors of all states, whole, as the state dict has them."""
    found = {}
    for number, own in optimizer.state_dict()["state"].items():
        for name, value in own.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            found |= {(number, name, part): whole([tensor])[0].clone() for part, tensor in parts}
    return found


def assert_same_states(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert value.dtype == theirs[key].dtype, key
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=0, msg=str(key))


@check
def small_states_of_copies(folder):
    """All ranks round alike, as one process does."""
    for name, options in SMALL:
        single, shared = model(), DistributedDataParallel(model())
        twin, optimizer = (getattr(optim, name)(m.parameters(), **options) for m in (single, shared))
        train(single, twin, 4)
        train(shared, optimizer, 4)
        assert_same(shared.parameters(), single.parameters())
        assert_same_states(small_states(optimizer), small_states(twin))


@check
def small_states_of_zero_redundancy(folder):
    for name, options in SMALL:

        def zero(module, name=name, options=options):
            return ZeroRedundancyOptimizer(module.parameters(), optimizer_class=getattr(optim, name), **options)

        shared = DistributedDataParallel(model())
        optimizer = zero(shared)
        train(shared, optimizer, 3)
        optimizer.consolidate_state_dict(to=0)
        if dist.get_rank() == 0:
            torch.save(optimizer.state_dict(), folder / "small.pt")
        dist.barrier()
        resumed = DistributedDataParallel(copy.deepcopy(shared.module))
        again = zero(resumed)
        again.load_state_dict(torch.load(folder / "small.pt", weights_only=True))
        train(shared, optimizer, 3, first=3)
        train(resumed, again, 3, first=3)
        assert_same(resumed.parameters(), shared.parameters())


@check
def small_states_of_shards(folder):
    """Saved by both ranks, gathered or not; both go on to the bit, and one process with the same codes."""
    for k, (name, options) in enumerate(SMALL):
        for full in (False, True):
            how = StateDictOptions(full_state_dict=full)
            shared = sharded(model())
            optimizer = getattr(optim, name)(shared.parameters(), **options)
            train(shared, optimizer, 3)
            before = small_states(optimizer)
            state = optimizer.state[shared[0].weight]["exp_avg"]["codes"]
            assert isinstance(state, DTensor)
            assert state.dtype == (torch.uint8 if k else torch.bfloat16)
            weights, states = get_state_dict(shared, optimizer, options=how)
            path = folder / f"small{k}{full}"
            checkpoint.save({"model": weights, "optimizer": states}, checkpoint_id=path)
            train(shared, optimizer, 3, first=3)
            for resumed in (sharded(model()), model()):
                again = getattr(optim, name)(resumed.parameters(), **options)
                load(resumed, again, path, how)
                assert_same_states(small_states(again), before)
                train(resumed, again, 3, first=3)
                # one process rounds the elements of the second shard by other chances
                if type(resumed) is torch.nn.Sequential:
                    for one, other in zip(whole(resumed.parameters()), whole(shared.parameters()), strict=True):
                        torch.testing.assert_close(one, other, rtol=0, atol=0.1)
                else:
                    assert_same(resumed.parameters(), shared.parameters())


def load(module, optimizer, path, how):
    weights, states = get_state_dict(module, optimizer, options=how)
    found = {"model": weights, "optimizer": states}
    checkpoint.load(found, checkpoint_id=path, no_dist=type(module) is torch.nn.Sequential)
    set_state_dict(module, optimizer, model_state_dict=found["model"], optim_state_dict=found["optimizer"], options=how)


@check
def checkpoints_of_one_process(folder):
    """Saved by one process, loaded by both ranks, sharded or not."""
    for k, (name, options) in enumerate([*OPTIONS, ("AdamW", OURS), *SMALL]):
        exact = not {"max_grad_norm", "state_dtype"} & options.keys()
        rule, path, how = getattr(optim, name), folder / f"one{k}", StateDictOptions()
        single = model()
        twin = rule(single.parameters(), **options)
        train(single, twin, 3)
        weights, states = get_state_dict(single, twin, options=how)
        if dist.get_rank() == 0:
            checkpoint.save({"model": weights, "optimizer": states}, checkpoint_id=path, no_dist=True)
        dist.barrier()
        before = small_states(twin)
        train(single, twin, 3, first=3)
        for resumed in (sharded(model()), DistributedDataParallel(model())):
            again = rule(resumed.parameters(), **options)
            load(resumed, again, path, how)
            assert_same_states(small_states(again), before)
            train(resumed, again, 3, first=3)
            if "state_dtype" not in options:
                assert_same(resumed.parameters(), single.parameters(), exact)


@check
def gradients_clipped_over_shards(folder):
    """clip_grad_norm_ of shards is torch's, whose norm is of the whole gradients."""
    single, shared = model(), sharded(model())
    for module in (single, shared):
        backward(module, 0, 0)
    norm, twin = clip_grad_norm_(shared.parameters(), 0.1), clip_grad_norm_(single.parameters(), 0.1)
    torch.testing.assert_close(whole([norm])[0], twin)
    assert_same([p.grad for p in shared.parameters()], [p.grad for p in single.parameters()], exact=False)


@check
def ranks_with_parameters_of_their_own(folder):
    """ZeroRedundancyOptimizer gives a rank plain tensors: max_grad_norm goes by their norm, clip_grad_norm_ by all."""
    shared = DistributedDataParallel(model())
    optimizer = ZeroRedundancyOptimizer(shared.parameters(), optimizer_class=optim.SGD, lr=0.1, max_grad_norm=1e-3)
    backward(shared, 0, dist.get_rank())
    mine = [p.grad for group in optimizer.optim.param_groups for p in group["params"]]
    own = torch.linalg.vector_norm(torch.cat([g.flatten() for g in mine]))
    optimizer.step()
    torch.testing.assert_close(torch.tensor(optimizer.optim.grad_norm, dtype=own.dtype), own)
    norm = clip_grad_norm_(shared.parameters(), 1e-3)
    assert norm > own
    assert_agreed(norm.item())
