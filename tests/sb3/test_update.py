"""One update from the same rollout and weights is Stable-Baselines3's, whatever the configuration."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from .models import CONTINUOUS, VECTOR, assert_alike, environment, logged, model, ours, sb3, torch, twin

ACTIONS = [spaces.Discrete(4), spaces.MultiDiscrete([3, 2]), CONTINUOUS]
ACTIVATIONS = [torch.nn.Tanh, torch.nn.ReLU, torch.nn.LeakyReLU]


def configuration(seed):
    """Of PPO, at random."""
    rng = np.random.default_rng(seed)

    def choose(*values):
        return values[rng.integers(len(values))]

    return environment(VECTOR, choose(*ACTIONS)), {
        "learning_rate": choose(3e-4, 0.003),
        "n_steps": 48,
        "batch_size": choose(12, 16, 48),
        "n_epochs": choose(1, 3, 6),
        "clip_range": choose(0.05, 0.2),
        "clip_range_vf": choose(None, 0.02, 0.2),
        "normalize_advantage": choose(True, False),
        "ent_coef": choose(0.0, 0.02),
        "vf_coef": choose(0.5, 1.0),
        "max_grad_norm": choose(0.1, 0.5, 10.0),
        "target_kl": choose(None, None, 0.003),
        "policy_kwargs": {
            "net_arch": choose([16], [8, 8], {"pi": [12, 7, 5], "vf": []}, {"pi": [], "vf": [9]}),
            "activation_fn": choose(*ACTIVATIONS),
            "log_std_init": choose(0.0, -1.0),
        },
    }


def assert_same_update(seed):
    env, options = configuration(seed)
    theirs = model(sb3, env=env, **options)
    _, callback = theirs._setup_learn(96)
    theirs.collect_rollouts(theirs.env, callback, theirs.rollout_buffer, theirs.n_steps)
    mine = twin(theirs, ours)
    for m in (theirs, mine):
        np.random.seed(seed)
        m.train()
    assert "train/approx_kl" in logged(theirs)
    assert_alike(theirs, mine)


@pytest.mark.parametrize("seed", [*range(12), 66])  # 66 stops early, with a log_std
def test_configurations(seed):
    assert_same_update(seed)


if __name__ == "__main__":  # python -m tests.sb3.test_update: many more
    for seed in range(500):
        assert_same_update(seed)
    print("500 configurations: the same updates")
