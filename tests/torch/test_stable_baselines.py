"""Stable-Baselines3 trains with our optimisers as with torch's: `policy_kwargs` name the class and its options."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest

from ..support import run_python

torch = pytest.importorskip("torch")
optim = pytest.importorskip("fastopt.torch.optim")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    sb3 = pytest.importorskip("stable_baselines3")

pytestmark = pytest.mark.filterwarnings("ignore")

# SB3 gives eps=1e-5 to torch's own Adam alone: whoever names another class names it too.
RUNS = [
    ("PPO", "CartPole-v1", "Adam", {"eps": 1e-5}, {"n_steps": 64, "batch_size": 32, "n_epochs": 4}, 128),
    ("A2C", "CartPole-v1", "RMSprop", {"alpha": 0.99, "eps": 1e-5}, {"n_steps": 16}, 256),
    ("A2C", "CartPole-v1", "Adam", {"eps": 1e-5}, {"n_steps": 16}, 256),
    ("SAC", "Pendulum-v1", "Adam", {"eps": 1e-5}, {"learning_starts": 20, "batch_size": 16}, 60),
]


@pytest.fixture(autouse=True)
def _one_thread_of_torch():
    """Networks this small are slower by two, and wait for both on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("algorithm", "env", "rule", "options", "recipe", "steps"), RUNS, ids=lambda x: str(x))
def test_training(algorithm, env, rule, options, recipe, steps):
    found = []
    for module in (optim, torch.optim):
        model = getattr(sb3, algorithm)(
            "MlpPolicy",
            env,
            seed=0,
            device="cpu",
            policy_kwargs={
                "net_arch": [16, 16],
                "optimizer_class": getattr(module, rule),
                "optimizer_kwargs": options,
            },
            **recipe,
        )
        model.learn(steps)
        actor = getattr(model.policy, "actor", model.policy)
        assert type(actor.optimizer) is getattr(module, rule)
        assert all(float(own["step"]) > 3 for own in actor.optimizer.state.values())
        found.append({name: value.numpy().copy() for name, value in model.policy.state_dict().items()})
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-3, atol=1e-5, err_msg=name)


SUBPROCESSES = """
import warnings
warnings.simplefilter("ignore")
import stable_baselines3 as sb3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
import torch
import fastopt, fastopt.torch.optim as optim

if __name__ == "__main__":
    torch.set_num_threads(1)
    fastopt.set_num_threads(2)
    fork = {"vec_env_cls": SubprocVecEnv, "vec_env_kwargs": {"start_method": "fork"}}
    policy = {"optimizer_class": optim.Adam, "optimizer_kwargs": {"eps": 1e-5}, "net_arch": [256, 256]}
    model = None
    for seed in range(2):  # the second ones are forked after steps by two threads
        envs = make_vec_env("CartPole-v1", 2, seed=seed, **fork)
        if model is None:
            recipe = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}
            model = sb3.PPO("MlpPolicy", envs, policy_kwargs=policy, **recipe)
        else:
            model.set_env(envs)
        model.learn(32)
        envs.close()
    assert all(own["step"] == 4 for own in model.policy.optimizer.state.values())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_environments_in_forked_processes():
    run_python(SUBPROCESSES, timeout=120)
