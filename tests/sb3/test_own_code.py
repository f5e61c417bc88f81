"""What the ops cannot do runs on Stable-Baselines3's own code, as one warning says; and what was changed counts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from gymnasium import spaces

from .models import assert_alike, environment, model, ours, sb3, torch, trained

why_not = pytest.importorskip("fastopt.sb3.supported").why_not
optim = pytest.importorskip("fastopt.torch.optim")
nn = torch.nn


class OwnPolicy(sb3.common.policies.ActorCriticPolicy):
    pass


class OwnBuffer(sb3.common.buffers.RolloutBuffer):
    pass


class OwnLinear(nn.Linear):
    pass


class OwnAdam(torch.optim.Adam):
    pass


class OwnExtractor(sb3.common.torch_layers.FlattenExtractor):
    def forward(self, observations):
        return super().forward(observations) * 2


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
    assert_own_code("OwnExtractor", policy_kwargs={"net_arch": [4], "features_extractor_class": OwnExtractor})
    assert_own_code("slope of -0.5", policy_kwargs={"net_arch": [4], "activation_fn": lambda: nn.LeakyReLU(-0.5)})
    assert_own_code("gamma is 1.5", gamma=1.5)


REASONS = {
    "a network has 34 layers": {"policy_kwargs": {"net_arch": {"pi": [2] * 33, "vf": [2]}}},
    "the observations are numbers from -2": {"env": environment(spaces.Discrete(3, start=-2))},
    "the observations are numbers from [0 3]": {"env": environment(spaces.MultiDiscrete([2, 2], start=[0, 3]))},
    "gae_lambda is -0.1": {"gae_lambda": -0.1},
    "vf_coef is inf": {"vf_coef": float("inf")},
    "ent_coef is nan": {"ent_coef": float("nan")},
    "max_grad_norm is None": {"max_grad_norm": None},
}


@pytest.mark.parametrize("reason", REASONS)
def test_reasons(reason):
    assert why_not(model(ours, **REASONS[reason])) == reason


@pytest.mark.parametrize(
    "option",
    [{"ema_decay": 0.0}, {"max_grad_norm": 0.1}, {"skip_nonfinite": True}, {"state_dtype": "bfloat16"}],
    ids="".join,
)
def test_options_that_torch_has_not(option):
    kwargs = {"net_arch": [4], "optimizer_class": optim.Adam}
    assert why_not(model(ours, policy_kwargs=kwargs)) is None
    assert why_not(model(ours, policy_kwargs={**kwargs, "optimizer_kwargs": option})) is not None


def replace_layer(m):
    old = m.policy.action_net
    m.policy.action_net = OwnLinear(old.in_features, old.out_features)
    m.policy.action_net.load_state_dict({k: torch.zeros_like(v) for k, v in old.state_dict().items()})


def replace_evaluate(m):
    evaluate = m.policy.evaluate_actions
    m.policy.evaluate_actions = lambda *args: evaluate(*args)


def replace_sample(m):
    dist = m.policy.action_dist
    dist.sample = lambda: torch.zeros(len(dist.distribution.logits), dtype=torch.long)


def add_layers(name):
    def change(m):
        setattr(m.policy, name, nn.Sequential(getattr(m.policy, name), nn.Tanh()))

    return change


def nest_activations(m):
    for net in (m.policy.mlp_extractor.policy_net, m.policy.mlp_extractor.value_net):
        for k in (1, 3):
            net[k] = nn.Sequential(net[k], nn.Tanh())


def bend_the_features(m):
    m.policy.features_extractor.flatten = nn.Sequential(nn.Flatten(), nn.Tanh())


def share_a_layer(m):
    nets = m.policy.mlp_extractor
    nets.value_net[0] = nets.policy_net[0]
    m.policy.optimizer = torch.optim.Adam(m.policy.parameters())


def freeze(m):
    next(m.policy.parameters()).requires_grad_(False)


CHANGES = {
    "a Linear has a hook": lambda m: m.policy.action_net.register_forward_hook(lambda *_: None),
    "a parameter has a hook": lambda m: m.policy.action_net.weight.register_hook(lambda g: g * 2),
    "a method of a ActorCriticPolicy": replace_evaluate,
    "a method of the CategoricalDistribution": replace_sample,
    "a parameter is frozen": freeze,
    "OwnLinear": replace_layer,
    "the action_net is a Sequential": add_layers("action_net"),
    "the value_net is a Sequential": add_layers("value_net"),
    "not linear ones and activations in turns": nest_activations,
    "features extractor is not the flattening one": bend_the_features,
    "layers share theirs": share_a_layer,
    "the optimiser has a hook": lambda m: m.policy.optimizer.register_step_pre_hook(lambda *_: None),
    "the optimiser's eps is 1e-30": lambda m: m.policy.optimizer.param_groups[0].update(eps=1e-30),
    "ent_coef is True": lambda m: setattr(m, "ent_coef", True),
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


def new_policy(m):
    torch.manual_seed(5)
    m.policy = type(m.policy)(m.observation_space, m.action_space, m.lr_schedule, **m.policy_kwargs)


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


class Wrapper:
    """No optimiser of torch's, as some packages hand out."""

    def __init__(self, inner):
        self.param_groups, self.step, self.zero_grad = inner.param_groups, inner.step, inner.zero_grad
        self.state_dict, self.load_state_dict = inner.state_dict, inner.load_state_dict


def wrapped_optimizer(m):
    m.policy.optimizer = Wrapper(m.policy.optimizer)


def worse_discount(m):
    m.rollout_buffer.gamma = 1.5


def own_features(m):
    m.policy.features_extractor = m.policy.pi_features_extractor = OwnExtractor(m.observation_space)


def own_average(m):
    m.policy.optimizer = optim.Adam(m.policy.parameters(), max_grad_norm=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        *(new_optimizer, new_memory, new_layer, other_numbers, own_groups, freeze, replace_evaluate),
        *(new_policy, worse_discount, own_features, own_average, wrapped_optimizer),
    ],
)
def test_changes_between_calls(change):
    assert_same_after(change)


def test_images_that_are_no_longer_divided():
    images = environment(spaces.Box(0, 255, (36, 36, 1), np.uint8))
    assert_same_after(lambda m: setattr(m.policy, "normalize_images", False), env=images)


def test_a_hook_in_the_place_of_another():
    handles = {}

    def doubled(m):
        handles[m] = m.policy.action_net.weight.register_hook(lambda g: g * 2)

    def none(m):
        handles.pop(m).remove()

    runs = []
    for package in (sb3, ours):
        m = trained(package, steps=16)
        for change in (doubled, none, doubled):
            change(m)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="fastopt.sb3")
                m.learn(16, reset_num_timesteps=False)
        runs.append(m)
    assert_alike(*runs)


def test_hooks_of_all_optimisers():
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    calls = []
    for register in (register_optimizer_step_pre_hook, register_optimizer_step_post_hook):
        handle = register(lambda optimizer, *_: calls.append(optimizer))
        try:
            with pytest.warns(UserWarning, match="hooks of all"):
                trained(ours, steps=16)
        finally:
            handle.remove()
    assert len(calls) == 2 * 4


@pytest.mark.parametrize("change", [new_memory, new_layer, freeze, replace_evaluate, worse_discount])
@pytest.mark.filterwarnings("ignore:fastopt.sb3")
def test_what_a_callback_changes_at_the_start_of_a_rollout(change):
    class Changes(sb3.common.callbacks.BaseCallback):
        def _on_rollout_start(self):
            change(self.model)

        def _on_step(self):
            return True

    assert_alike(*(model(package).learn(32, callback=Changes()) for package in (sb3, ours)))


@pytest.mark.parametrize("change", [new_memory, new_layer])
@pytest.mark.parametrize("step", [3, 15, None], ids=["third", "last", "truncating"])
def test_what_a_callback_replaces_at_a_step(step, change):
    """At the last one the value after it is another, and at one that truncates an episode that of its end."""
    changed = []

    def replace(local, _):
        if local["n_steps"] == step or (step is None and local["infos"][0].get("TimeLimit.truncated")):
            changed.append(change(local["self"]))
        return True

    assert_alike(*(model(package, n_steps=16).learn(64, callback=replace) for package in (sb3, ours)))
    assert len(changed) >= 2


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


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
def test_modules_are_in_the_mode_of_what_is_done(algorithm):
    m, modes = model(ours, algorithm), []

    def look(local, _):
        modes.append({module.training for module in local["self"].policy.modules()})
        return True

    m.policy.train()
    m.learn(16, callback=look)
    assert modes == 16 * [{False}]
    assert {module.training for module in m.policy.modules()} == {True}  # after an update


def test_a_callback_ends_a_rollout():
    runs = [model(package).learn(32, callback=lambda local, _: local["n_steps"] < 5) for package in (sb3, ours)]
    assert runs[0].num_timesteps == runs[1].num_timesteps == 6
    assert runs[0].rollout_buffer.pos == runs[1].rollout_buffer.pos == 5


@pytest.fixture(autouse=True)
def checked_distributions(monkeypatch):
    """torch.compile turns torch's checks off for the whole process, as another test may have done."""
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)


@pytest.mark.parametrize("checked", [True, False])
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


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
@pytest.mark.parametrize("actions", [spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32)], ids=["discrete", "box"])
def test_what_becomes_no_distribution_in_an_update_is_an_error_as_there(algorithm, actions):
    said = []
    for package in (sb3, ours):
        m = model(package, algorithm, env=environment(actions=actions))
        _, callback = m._setup_learn(16)
        m.collect_rollouts(m.env, callback, m.rollout_buffer, m.n_steps)
        m.rollout_buffer.advantages[3] = np.nan  # the step after it makes every weight NaN
        if algorithm == "A2C":
            with torch.no_grad():
                m.policy.action_net.bias.fill_(np.nan)
        np.random.seed(0)
        with pytest.raises(ValueError, match="nan") as raised:
            m.train()
        said.append((m._n_updates, str(raised.value)))
    assert said[0] == said[1]
