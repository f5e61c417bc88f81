"""One update and one action of PPO, by Stable-Baselines3's code and by ours, in turn: microseconds.

    python benchmarks/runs/sb3_pieces.py

CartPole-v1, a minibatch of 64, 4-64-64-2 and a critic of its own; one thread of torch, of the BLAS and of fastopt.
Medians of 9 turns, and the median of the turns' ratios.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", FASTOPT_NUM_THREADS="1")  # before they are imported

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.utils import obs_as_tensor

import fastopt.sb3
from fastopt import policy
from fastopt.machine import config
from fastopt.sb3.network import Network

TURNS, STEPS, MINIBATCHES, ACTIONS = 9, 2048, 320, 200  # 10 epochs


def trained(package: Any) -> Any:
    return package.PPO("MlpPolicy", "CartPole-v1", seed=0, device="cpu").learn(STEPS)


def sb3_action(model: Any) -> None:
    """What `collect_rollouts` does from an observation to an action."""
    with torch.no_grad():
        actions, _, _ = model.policy(obs_as_tensor(model._last_obs, model.device))
    actions.cpu().numpy()


def microseconds(call: Callable[[], Any], times: int) -> float:
    start = perf_counter()
    for _ in range(times):
        call()
    return (perf_counter() - start) / times * 1e6


def of_a_minibatch(model: Any) -> float:
    return microseconds(model.train, 1) / MINIBATCHES


def main() -> None:
    torch.set_num_threads(1)
    theirs, ours = trained(stable_baselines3), trained(fastopt.sb3)
    network = Network(ours.policy)
    alone = network.features(ours._last_obs), network.actor, network.critic, np.ones((1, 2), np.float32)
    rows: dict[str, tuple[Callable[[], float], ...]] = {
        "a minibatch, of train()": (partial(of_a_minibatch, theirs), partial(of_a_minibatch, ours)),
        "an action, through fastopt.sb3": (
            partial(microseconds, partial(sb3_action, theirs), ACTIONS),
            partial(microseconds, partial(network.act, ours._last_obs), ACTIONS),
        ),
        "an action, by policy.categorical_act": (
            partial(microseconds, partial(sb3_action, theirs), ACTIONS),
            partial(microseconds, partial(policy.categorical_act, *alone), ACTIONS),
        ),
    }
    versions = f"Stable-Baselines3 {stable_baselines3.__version__}, torch {torch.__version__}"
    print(f"{config()['CPU']}, {config()['instruction set']}; {versions}")
    for name, contenders in rows.items():
        turns = np.array([[call() for call in contenders] for _ in range(TURNS)])
        rival, own = np.median(turns, axis=0)
        ratio = np.median(turns[:, 0] / turns[:, 1])
        print(f"{name}: SB3 {rival:.0f} us, ours {own:.1f} us; {ratio:.1f} times")


if __name__ == "__main__":
    main()
