"""torch's own engines drive our optimisers: copies and shards on several ranks, checkpoints, forks, threads."""

from __future__ import annotations

import os
import subprocess
import threading
import time

import numpy as np
import pytest

from ..support import run_python, start_python

torch = pytest.importorskip("torch")
optim = pytest.importorskip("fastopt.torch.optim")

# ---- two processes ---------------------------------------------------------------------------------------------------

SECONDS = 120


def test_two_ranks(tmp_path):
    """All that ranks.py checks, in one test: to start two processes takes most of the time."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch is built without torch.distributed or without gloo")
    script = "import sys; from tests.torch.ranks import main; main(*sys.argv[1:])"
    processes = [start_python(script, arguments=(rank, tmp_path), OMP_NUM_THREADS="1") for rank in range(2)]
    end = time.monotonic() + SECONDS
    outputs = []
    for process in processes:
        try:
            outputs.append(process.communicate(timeout=max(1, end - time.monotonic()))[0])
        except subprocess.TimeoutExpired:
            process.kill()
            outputs.append(process.communicate()[0] + f"\nstill running after {SECONDS} s")
    for rank, (process, output) in enumerate(zip(processes, outputs, strict=True)):
        assert process.returncode == 0, f"rank {rank}: its output:\n{output}"
        assert output.count("ok ") >= 15, output


# ---- forks -----------------------------------------------------------------------------------------------------------

FORKS = """
import os, warnings
import torch
import fastopt, fastopt.torch.optim as optim

warnings.simplefilter("ignore")  # of forks beside threads: that they work is what is tested
torch.set_num_threads(1)
fastopt.set_num_threads(2)

def make():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(200_003))
    p.grad = torch.randn(200_003)
    return optim.AdamW([p], lr=0.1, max_grad_norm=1.0, ema_decay=0.9), p

def train(optimizer, p, steps):
    for _ in range(steps):
        optimizer.step()
    return p.detach().clone()

def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

wanted = train(*make(), 5)

# ---- a child goes on, and so does its parent

optimizer, p = make()
train(optimizer, p, 3)
for _ in range(5):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if torch.equal(train(optimizer, p, 2), wanted) else 2
        finally:
            os._exit(status)
    assert ended_well(child)
assert torch.equal(train(optimizer, p, 2), wanted)

# ---- workers that load data

optimizer, p = make()
train(optimizer, p, 3)

class Stepped(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, k):
        return train(optimizer, p, 2)

loader = torch.utils.data.DataLoader(Stepped(), batch_size=None, num_workers=2, multiprocessing_context="fork")
for _ in range(2):
    found = [loaded.clone() for loaded in loader]
    assert len(found) == 2 and all(torch.equal(one, wanted) for one in found)
assert torch.equal(train(optimizer, p, 2), wanted)

# ---- masks in workers: those of each, and of this process, are its own; pairs agree in half of the elements

import itertools
import fastopt.torch.nn.functional as F

class Masks(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, k):
        return F.dropout(torch.ones(2**16)) != 0

masks = []
for _ in range(2):
    masks += torch.utils.data.DataLoader(Masks(), batch_size=None, num_workers=2, multiprocessing_context="fork")
masks.append(Masks()[0])
for one, other in itertools.combinations(masks, 2):
    assert ((one == other).sum().item() - 2**15) ** 2 / 2**14 < 20

# ---- a fork during a step of another thread, which never ends in the child

import threading
ready, ended = threading.Event(), threading.Event()

class Slow(optim.AdamW):
    def _made(self, param, name):
        ready.set()
        ended.wait(30)
        return super()._made(param, name)

slow = Slow([p])
thread = threading.Thread(target=slow.step)
thread.start()
ready.wait(30)
child = os.fork()
if child == 0:
    ended.set()
    status = 1
    try:
        slow.step()
        status = 0 if slow.state[p]["step"] == 1 else 2
    finally:
        os._exit(status)
assert ended_well(child)
ended.set()
thread.join()
assert slow.state[p]["step"] == 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_forks_after_a_step():
    run_python(FORKS, timeout=SECONDS)


# ---- threads ---------------------------------------------------------------------------------------------------------


def parameter(size):
    p = torch.nn.Parameter(torch.linspace(-1, 1, size))
    p.grad = torch.linspace(2, 1, size)
    return p


def test_a_step_during_a_step_is_refused():
    inside, go_on = threading.Event(), threading.Event()

    class Slow(optim.AdamW):
        def _made(self, param, name):
            inside.set()
            assert go_on.wait(30)
            return super()._made(param, name)

    p, q = parameter(7), parameter(7)
    optimizer, twin = Slow([p]), optim.AdamW([q])
    thread = threading.Thread(target=optimizer.step)
    thread.start()
    try:
        assert inside.wait(30)
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            optimizer.step()
        np.testing.assert_array_equal(p.detach(), q.detach())
        assert not optimizer.state
    finally:
        go_on.set()
        thread.join()
    for _ in range(2):
        twin.step()
    optimizer.step()
    np.testing.assert_array_equal(p.detach(), q.detach())


def test_threads_that_step_at_once():
    """As many steps as were not refused are what the parameter has moved by."""
    p, q = parameter(100_003), parameter(100_003)
    optimizer, twin = optim.AdamW([p]), optim.AdamW([q])
    taken = [0, 0, 0]

    def work(k):
        for _ in range(30):
            try:
                optimizer.step()
            except RuntimeError as error:
                assert "in the middle of a step" in str(error)  # noqa: PT017
            else:
                taken[k] += 1

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(taken))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(sum(taken)):
        twin.step()
    assert optimizer.state[p]["step"].item() == sum(taken) > 0
    np.testing.assert_array_equal(p.detach(), q.detach())
