"""The same seed is Stable-Baselines3's own run: the same actions, and what is computed from them to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

import fastopt

from .models import CONTINUOUS, VECTOR, Anything, assert_alike, environment, model, ours, sb3, torch, trained

optim = pytest.importorskip("fastopt.torch.optim")

IMAGE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
EACH = pytest.mark.parametrize("algorithm", ["PPO", "A2C"])


def assert_same_run(*args, **options):
    a, b = (trained(package, *args, **options) for package in (sb3, ours))
    assert_alike(a, b)
    return b


@EACH
@pytest.mark.parametrize(
    "actions",
    [spaces.Discrete(3), spaces.MultiDiscrete([2, 3, 4]), CONTINUOUS, spaces.Box(-1, 1, (2, 1), np.float64)],
    ids=["discrete", "multi-discrete", "box", "box of float64"],
)
def test_actions(algorithm, actions):
    assert_same_run(algorithm, environment(actions=actions), ent_coef=0.01)


@EACH
@pytest.mark.parametrize(
    "observations",
    [
        spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
        spaces.Box(0, 255, (5,), np.uint8),
        IMAGE,
        spaces.Discrete(5),
        spaces.MultiDiscrete([3, 2]),
        spaces.MultiBinary(4),
    ],
    ids=["float64", "uint8", "image", "discrete", "multi-discrete", "multi-binary"],
)
def test_observations(algorithm, observations):
    assert_same_run(algorithm, environment(observations))


@pytest.mark.parametrize("activation", [torch.nn.Tanh, torch.nn.ReLU, torch.nn.LeakyReLU], ids=lambda c: c.__name__)
@pytest.mark.parametrize("arch", [[], [70], {"pi": [4], "vf": [9, 3, 17]}, {"pi": [6, 6], "vf": []}], ids=str)
def test_networks(arch, activation):
    assert_same_run(policy_kwargs={"net_arch": arch, "activation_fn": activation}, steps=32)


@pytest.mark.parametrize(
    "options",
    [
        {"clip_range_vf": 0.05},
        {"normalize_advantage": False},
        {"target_kl": 1e-4, "learning_rate": 0.01},
        {"learning_rate": lambda left: 1e-3 * left, "clip_range": lambda left: 0.3 * left},
        {"n_steps": 15, "batch_size": 15, "n_epochs": 3},
        {"gamma": 1.0, "gae_lambda": 1.0, "vf_coef": 0.0},
        {"max_grad_norm": 0.01},
    ],
    ids=lambda options: "-".join(options),
)
def test_options_of_ppo(options):
    assert_same_run(**options)


def linear(left):
    """Below 0 in the last update of a run whose length is no multiple of a rollout's."""
    return 0.1 * left


@pytest.mark.parametrize(
    ("algorithm", "schedule"),
    [("PPO", "learning_rate"), ("PPO", "clip_range"), ("PPO", "clip_range_vf"), ("A2C", "learning_rate")],
)
def test_a_schedule_that_ends_below_zero(algorithm, schedule):
    m = assert_same_run(algorithm, steps=40, n_steps=16, **{schedule: linear})
    assert m._current_progress_remaining < 0


def test_the_rate_that_a_schedule_ended_with_is_no_reason():
    runs = [trained(package, steps=16) for package in (sb3, ours)]
    for m in runs:
        m.policy.optimizer = torch.optim.AdamW(m.policy.parameters())
        m.policy.optimizer.param_groups[0]["lr"] = -1e-5
        m.set_random_seed(3)
        m.learn(16)
    assert_alike(*runs)


@pytest.mark.parametrize("option", ["clip_range", "clip_range_vf"])
def test_an_infinite_range(option):
    with pytest.warns(UserWarning, match=r"fastopt\.sb3: a learning rate or clip range is inf;"):
        assert_same_run(**{option: float("inf")})


def test_one_minibatch_of_all():
    runs = []
    for package in (sb3, ours):
        m = model(package)
        m.batch_size = None
        runs.append(m.learn(32))
    assert_alike(*runs)


class Numbers(Anything):
    """Observations that the space has not."""

    def __init__(self, observation):
        super().__init__(spaces.Discrete(5) if np.ndim(observation) == 0 else spaces.MultiDiscrete([3, 2]), None)
        self.action_space, self._observation = spaces.Discrete(3), observation

    def _observe(self):
        return self._observation


@pytest.mark.parametrize("observation", [-1, 5, [-1, 1], [2, 2]], ids=str)
def test_numbers_that_are_no_observations(observation):
    said = []
    for package in (sb3, ours):
        with pytest.raises(RuntimeError) as error:
            model(package, env=Numbers(observation)).learn(16)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_many_numbers_take_no_table_of_their_squares():
    assert_same_run(env=environment(spaces.Discrete(100_000)), steps=16)


class Watched(Anything):
    """What an environment is given."""

    def step(self, action):
        self.given = type(action), np.shape(action), np.asarray(action).dtype
        return super().step(action)


@pytest.mark.parametrize(
    "actions",
    [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), CONTINUOUS, spaces.Box(-1, 1, ()), spaces.Box(-1, 1, (2, 1))],
)
def test_an_environment_is_given_the_same(actions):
    given = []
    for package in (sb3, ours):
        env = Watched(VECTOR, actions)
        trained(package, env=env, steps=16)
        given.append(env.given)
    assert given[0] == given[1]


def test_names_of_a_subclass_are_its_own():
    class Mine(ours.PPO):
        def _update(self, x):
            return x

        def _act(self):
            raise AssertionError

        _network = _values = _ranges = _act

    m = Mine("MlpPolicy", environment(), seed=1, device="cpu", n_steps=16, batch_size=8, n_epochs=2)
    m._networks = "mine"
    assert m._update(1) == 1
    m.learn(32)
    other = ours.PPO("MlpPolicy", environment(), seed=1, device="cpu", n_steps=16, batch_size=8, n_epochs=2).learn(32)
    assert_alike(other, m)


def test_another_default_device_once_the_model_is_made():
    runs = []
    for package in (sb3, ours):
        for actions in (spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), CONTINUOUS):
            m = model(package, env=environment(actions=actions))
            with torch.device("meta"):
                runs.append(m.learn(32))
    for one, other in zip(runs[:3], runs[3:], strict=True):
        assert_alike(one, other)


def test_another_default_dtype_once_the_model_is_made():
    runs = []
    try:
        for package in (sb3, ours):
            for actions in (spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), CONTINUOUS):
                torch.set_default_dtype(torch.float32)
                m = model(package, env=environment(actions=actions))
                torch.set_default_dtype(torch.float64)
                runs.append(m.learn(32))
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(runs[:3], runs[3:], strict=True):
        assert_alike(one, other)


def test_no_step_leaves_no_gradients():
    m = assert_same_run(target_kl=-1.0)
    assert all(p.grad is None for p in m.policy.parameters())


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_a_last_minibatch_of_one_sample_is_not_normalised():
    assert_same_run(n_steps=17, batch_size=8)


@pytest.mark.parametrize(
    "options", [{"normalize_advantage": True}, {"use_rms_prop": False}, {"gae_lambda": 0.9}], ids=str
)
def test_options_of_a2c(options):
    assert_same_run("A2C", **options)


@pytest.mark.parametrize(
    ("optimizer", "kwargs"),
    [
        (torch.optim.AdamW, {"weight_decay": 0.1}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.RMSprop, {"momentum": 0.9, "centered": True}),
        (optim.Adam, {"eps": 1e-5}),
        (optim.SGD, {"momentum": 0.9}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_optimisers(optimizer, kwargs):
    assert_same_run(policy_kwargs={"net_arch": [6], "optimizer_class": optimizer, "optimizer_kwargs": kwargs})


@EACH
def test_several_environments_and_normalisation(algorithm):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    runs = []
    for package in (sb3, ours):
        env = VecNormalize(DummyVecEnv([environment] * 4))
        runs.append(trained(package, algorithm, env, steps=192))
    assert_alike(*runs)


def test_separate_features_extractors():
    assert_same_run(policy_kwargs={"net_arch": [6], "share_features_extractor": False})


def test_the_generators_are_left_alike():
    """What is drawn after a run is what would have been drawn: as many numbers were taken, in the same order."""
    after = []
    for package in (sb3, ours):
        for actions in (spaces.MultiDiscrete([2, 3]), CONTINUOUS):
            trained(package, env=environment(actions=actions))
            after.append((torch.rand(3).tolist(), np.random.random(3).tolist()))
    assert after[:2] == after[2:]


def test_cartpole():
    """Thousands of steps of a known environment, with the same actions."""
    a, b = (trained(package, env="CartPole-v1", n_steps=512, batch_size=64, steps=2048) for package in (sb3, ours))
    assert_alike(a, b, rtol=1e-3, atol=1e-4)


def test_the_same_bits_again_for_any_number_of_threads():
    runs = []
    for threads in (1, 2):
        with fastopt.num_threads(threads):
            runs.append(trained(ours, policy_kwargs={"net_arch": [256, 256]}, n_steps=512, batch_size=256, steps=512))
    for one, other in zip(*(m.policy.parameters() for m in runs), strict=True):
        assert torch.equal(one, other)
