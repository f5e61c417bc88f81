"""What the ops cannot do runs on Stable-Baselines3's own code, as one warning says; and what was changed counts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium import spaces

from .models import assert_alike, environment, model, ours, sb3, torch, trained

nn = torch.nn


class OwnPolicy(sb3.common.policies.ActorCriticPolicy):
    pass


class OwnBuffer(sb3.common.buffers.RolloutBuffer):
    pass


class OwnLinear(nn.Linear):
    pass


class OwnAdam(torch.optim.Adam):
    pass


def assert_own_code(reason, change=None, policy=None, **options):
    """The run is Stable-Baselines3's to the bit, and one warning says why."""
    runs = []
    for package in (sb3, ours):
        m = model(package, **options)
        if policy is not None:
            m.policy_class = policy
            m._setup_model()
        if change is not None:
            change(m)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            m.learn(32)
        said = [str(w.message) for w in said if str(w.message).startswith("fastopt.sb3: ")]
        assert len(said) == (package is ours)
        assert reason in "".join([*said, reason * (package is sb3)])
        runs.append(m)
    for one, other in zip(*(m.policy.parameters() for m in runs), strict=True):
        assert torch.equal(one, other)


def test_what_a_model_is_made_of():
    assert_own_code("gSDE", env=environment(actions=spaces.Box(-1, 1, (2,), np.float32)), use_sde=True)
    assert_own_code("BernoulliDistribution", env=environment(actions=spaces.MultiBinary(3)))
    assert_own_code("ELU", policy_kwargs={"net_arch": [4], "activation_fn": nn.ELU})
    assert_own_code("rollout buffer", rollout_buffer_class=OwnBuffer)
    assert_own_code("OwnAdam", policy_kwargs={"net_arch": [4], "optimizer_class": OwnAdam})
    assert_own_code("OwnPolicy", policy=OwnPolicy)


def replace_layer(m):
    old = m.policy.action_net
    m.policy.action_net = OwnLinear(old.in_features, old.out_features)
    m.policy.action_net.load_state_dict({k: torch.zeros_like(v) for k, v in old.state_dict().items()})


def replace_evaluate(m):
    evaluate = m.policy.evaluate_actions
    m.policy.evaluate_actions = lambda *args: evaluate(*args)


def freeze(m):
    next(m.policy.parameters()).requires_grad_(False)


CHANGES = {
    "a Linear has a hook": lambda m: m.policy.action_net.register_forward_hook(lambda *_: None),
    "a parameter has a hook": lambda m: m.policy.action_net.weight.register_hook(lambda g: g * 2),
    "a method of a ActorCriticPolicy": replace_evaluate,
    "a parameter is frozen": freeze,
    "OwnLinear": replace_layer,
    "the optimiser has a hook": lambda m: m.policy.optimizer.register_step_pre_hook(lambda *_: None),
    "max_grad_norm is inf": lambda m: setattr(m, "max_grad_norm", float("inf")),
    "parameters are not the policy's": lambda m: m.policy.optimizer.add_param_group(
        {"params": [nn.Parameter(torch.zeros(1))]}
    ),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_what_a_model_was_changed_to(reason):
    assert_own_code(reason, CHANGES[reason])


def assert_same_after(change, **options):
    """A change between two calls of learn counts as it does there."""
    runs = []
    for package in (sb3, ours):
        m = trained(package, steps=16, **options)
        change(m)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="fastopt.sb3")
            runs.append(m.learn(16, reset_num_timesteps=False))
    assert_alike(*runs)


def new_optimizer(m):
    m.policy.optimizer = torch.optim.AdamW(m.policy.parameters(), lr=0.01)


def new_memory(m):
    for p in m.policy.parameters():
        p.data = p.data.clone() * 0.5


def new_layer(m):
    torch.manual_seed(5)
    m.policy.value_net = nn.Linear(m.policy.value_net.in_features, 1)
    m.policy.optimizer = torch.optim.Adam(m.policy.parameters())


def other_numbers(m):
    m.policy.optimizer.param_groups[0].update(betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1)
    m.n_epochs, m.ent_coef, m.max_grad_norm, m.gamma = 3, 0.1, 0.2, 0.5


def own_groups(m):
    own = list(m.policy.parameters())
    m.policy.optimizer = torch.optim.Adam([{"params": own[:3], "weight_decay": 0.1}, {"params": own[3:]}], lr=1e-3)


@pytest.mark.parametrize(
    "change", [new_optimizer, new_memory, new_layer, other_numbers, own_groups, freeze, replace_evaluate]
)
def test_changes_between_calls(change):
    assert_same_after(change)


def test_what_a_callback_changes_counts_at_once():
    def halve(local, _):
        if local["n_steps"] == 3:
            for p in local["self"].policy.parameters():
                p.data.mul_(0.5)  # in place
        if local["n_steps"] == 7:
            for p in local["self"].policy.parameters():
                p.data = p.data * 1.5  # in other memory
        return True

    assert_alike(*(model(package).learn(32, callback=halve) for package in (sb3, ours)))


def test_a_callback_sees_the_same_variables():
    seen = {}

    def look(local, _):
        seen.setdefault(local["self"].__class__, []).append(dict(local))
        return True

    for package in (sb3, ours):
        model(package).learn(16, callback=look)
    theirs, mine = seen[sb3.PPO], seen[ours.PPO]
    assert len(theirs) == len(mine) == 16
    for one, other in zip(theirs, mine, strict=True):
        assert one.keys() <= other.keys()
        for name in ("obs_tensor", "actions", "values", "log_probs", "clipped_actions", "new_obs", "rewards", "dones"):
            assert type(one[name]) is type(other[name]), name
            np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_callback_ends_a_rollout():
    runs = [model(package).learn(32, callback=lambda local, _: local["n_steps"] < 5) for package in (sb3, ours)]
    assert runs[0].num_timesteps == runs[1].num_timesteps == 6
    assert runs[0].rollout_buffer.pos == runs[1].rollout_buffer.pos == 5


@pytest.mark.parametrize("checked", [True, False])  # torch.compile turns torch's checks off for the whole process
def test_what_is_not_a_distribution_is_an_error_as_there(checked, monkeypatch):
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", checked)
    said = []
    for package in (sb3, ours):
        m = model(package)
        with torch.no_grad():
            m.policy.action_net.bias.fill_(float("nan"))
        with pytest.raises((ValueError, RuntimeError), match="nan") as raised:
            m.learn(16)
        said.append((raised.type, str(raised.value)))
    assert said[0] == said[1]
