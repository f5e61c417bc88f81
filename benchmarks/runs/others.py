"""Whole runs with one line changed, in turn, with their results: what an optimiser alone wins, and what more ops do.

    python benchmarks/runs/others.py               every row, five times
    python benchmarks/runs/others.py --only PPO --repeat 1

PPO in one file, in torch's idiom: the imports of the optimiser and of the clipping are changed. scikit-learn's
MLPClassifier with our step in place of its own. The network of the handwritten digits in NumPy and on the kernels.
A small network's loop in plain NumPy, with the kernels, and with them inside @njit. One thread. What a row needs and is
not installed is said.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", FASTOPT_NUM_THREADS="1")  # before they are imported

import numpy as np

import fastopt
from fastopt import reference
from fastopt.demo import digits

Run = Callable[[int], float]  # from a seed to the result

STEPS, ENVS, EPOCHS, MINIBATCH, GAMMA, LAMBDA, CLIP, ENTROPY = 128, 4, 4, 128, 0.99, 0.95, 0.2, 0.01
UPDATES = 80


def ppo_in_one_file() -> dict[str, Run]:
    import gymnasium
    import torch
    from torch import nn

    import fastopt.torch.nn
    import fastopt.torch.optim

    torch.set_num_threads(1)

    def perceptron(outputs: int, gain: float) -> Any:
        layers = [nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)]
        for layer, std in zip(layers[::2], (2**0.5, 2**0.5, gain), strict=True):
            nn.init.orthogonal_(layer.weight, std)
            nn.init.zeros_(layer.bias)
        return nn.Sequential(*layers)

    def train(optim: Any, clip_grad_norm_: Any, seed: int) -> float:
        torch.manual_seed(seed)
        envs = gymnasium.make_vec("CartPole-v1", ENVS)
        actor, critic = perceptron(2, 0.01), perceptron(1, 1.0)
        params = [*actor.parameters(), *critic.parameters()]
        optimizer = optim.Adam(params, lr=2.5e-4, eps=1e-5)
        observation, running, returns = envs.reset(seed=seed)[0], np.zeros(ENVS), []
        observations, actions = torch.zeros(STEPS, ENVS, 4), torch.zeros(STEPS, ENVS, dtype=torch.int64)
        log_probs, rewards, dones, values = (torch.zeros(STEPS, ENVS) for _ in range(4))
        for _ in range(UPDATES):
            for t in range(STEPS):
                observations[t] = torch.from_numpy(observation)
                with torch.no_grad():
                    policy = torch.distributions.Categorical(logits=actor(observations[t]))
                    actions[t] = policy.sample()
                    log_probs[t], values[t] = policy.log_prob(actions[t]), critic(observations[t]).flatten()
                observation, reward, terminated, truncated, _ = envs.step(actions[t].numpy())
                over = terminated | truncated
                rewards[t], dones[t] = torch.from_numpy(reward), torch.from_numpy(over)
                running += reward
                returns += running[over].tolist()
                running[over] = 0
            with torch.no_grad():
                after, advantages, last = critic(torch.from_numpy(observation)).flatten(), torch.zeros(STEPS, ENVS), 0
                for t in reversed(range(STEPS)):
                    delta = rewards[t] + GAMMA * after * (1 - dones[t]) - values[t]
                    advantages[t] = last = delta + GAMMA * LAMBDA * (1 - dones[t]) * last
                    after = values[t]
            targets = advantages + values
            x, chosen, old, gains, aims = (
                a.flatten(0, 1) for a in (observations, actions, log_probs, advantages, targets)
            )
            for _ in range(EPOCHS):
                for rows in torch.randperm(len(x)).split(MINIBATCH):
                    policy, gain = torch.distributions.Categorical(logits=actor(x[rows])), gains[rows]
                    gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                    ratio = (policy.log_prob(chosen[rows]) - old[rows]).exp()
                    loss = -torch.min(gain * ratio, gain * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
                    loss = loss + 0.25 * (critic(x[rows]).flatten() - aims[rows]).square().mean()
                    optimizer.zero_grad()
                    (loss - ENTROPY * policy.entropy().mean()).backward()
                    clip_grad_norm_(params, 0.5)
                    optimizer.step()
        envs.close()
        return float(np.mean(returns[-50:]))

    return {
        "torch": lambda seed: train(torch.optim, nn.utils.clip_grad_norm_, seed),
        "ours": lambda seed: train(fastopt.torch.optim, fastopt.torch.nn.utils.clip_grad_norm_, seed),
    }


def mlp_classifier() -> dict[str, Run]:
    from sklearn.neural_network import _multilayer_perceptron as theirs

    own, data = theirs.AdamOptimizer, digits.load_digits(0)

    class Adam(own):  # type: ignore[misc,valid-type]
        def __init__(self, params: Any, learning_rate: float, beta_1: float, beta_2: float, epsilon: float) -> None:
            super().__init__(params, learning_rate, beta_1, beta_2, epsilon)
            self.adam = fastopt.Adam(params, lr=learning_rate, betas=(beta_1, beta_2), eps=epsilon)

        def update_params(self, params: Any, grads: Any) -> None:
            self.adam.step(grads)

    def train(optimizer: Any, seed: int) -> float:
        theirs.AdamOptimizer = optimizer
        try:
            model = theirs.MLPClassifier((64, 64), batch_size=32, max_iter=30, tol=0, random_state=seed)
            model.fit(data.train_x, data.train_labels)
        finally:
            theirs.AdamOptimizer = own
        return float(model.score(data.test_x, data.test_labels))

    return {"scikit-learn": lambda seed: train(own, seed), "ours": lambda seed: train(Adam, seed)}


def digits_network() -> dict[str, Run]:
    data = digits.load_digits(0)

    def train(ops: Any, seed: int) -> float:
        return digits.train(ops, data, digits.Recipe(epochs=20, seed=seed)).test_accuracy

    return {"plain NumPy": lambda seed: train(reference, seed), "ours": lambda seed: train(fastopt, seed)}


def loop_in_njit() -> dict[str, Run]:
    from fastopt.demo import njit

    first, x, target = njit.problem(1)

    def train(loop: Any, seed: int) -> float:
        return float(loop(first.copy(), x, target, 4000, 32, 1e-3, 0.1, seed)[-100:].mean())

    train(njit.train, 0)  # compiles it
    loops = {"plain NumPy": njit.train_in_numpy, "ours in Python": njit.train_in_python, "ours": njit.train}
    return {name: partial(train, loop) for name, loop in loops.items()}


ROWS: dict[str, Callable[[], dict[str, Run]]] = {
    "PPO in one file, CartPole-v1, 40,960 steps: mean return": ppo_in_one_file,
    "MLPClassifier, digits, 30 epochs: accuracy": mlp_classifier,
    "network of the digits, 20 epochs: accuracy": digits_network,
    "network of 4-64-64-2, 4,000 steps: loss": loop_in_njit,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print(f"seconds (result) of each, medians of {options.repeat}; the first's over ours")
    for name, contenders in ROWS.items():
        if options.only not in name:
            continue
        try:
            runs = contenders()
        except ImportError as error:
            print(f"{name}: does not run here: {error}")
            continue
        found: dict[str, list[tuple[float, float]]] = {contender: [] for contender in runs}
        for seed in range(options.repeat):
            for contender, run in runs.items():
                start = perf_counter()
                result = run(seed)
                found[contender].append((perf_counter() - start, result))
        middle = {c: [statistics.median(column) for column in zip(*pairs, strict=True)] for c, pairs in found.items()}
        rival = found[next(iter(found))]
        ratio = statistics.median(a / b for (a, _), (b, _) in zip(rival, found["ours"], strict=True))
        each = ", ".join(f"{contender} {seconds:.2f} ({result:.4g})" for contender, (seconds, result) in middle.items())
        print(f"{name}: {each}; {ratio:.2f} times", flush=True)


if __name__ == "__main__":
    main()
