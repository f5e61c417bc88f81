"""What of a model the compiled ops can do, and why they cannot."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import optimizer as torch_optimizer

from fastopt._core import MOST_LAYERS
from fastopt.torch import optim

_DISTRIBUTIONS = (CategoricalDistribution, MultiCategoricalDistribution, DiagGaussianDistribution)
_OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.LeakyReLU)
_LEAST, _MOST = sys.float_info.min, sys.float_info.max
_LEAST_EPS = 2**-87  # of `fastopt.Adam`, for float32
STEPS: dict[type, type] = {
    torch.optim.Adam: optim.Adam,
    torch.optim.AdamW: optim.AdamW,
    torch.optim.RMSprop: optim.RMSprop,
    torch.optim.SGD: optim.SGD,
    **{ours: ours for ours in (optim.Adam, optim.AdamW, optim.RMSprop, optim.SGD)},
}  # whose step is taken in place of another's, on its own states
_OPTIONS = ("max_grad_norm", "skip_nonfinite", "ema_decay", "state_dtype")  # which that step has not
_GLOBAL_HOOKS = (
    torch_module._global_forward_pre_hooks,
    torch_module._global_forward_hooks,
    torch_module._global_backward_pre_hooks,
    torch_module._global_backward_hooks,
    torch_optimizer._global_optimizer_pre_hooks,
    torch_optimizer._global_optimizer_post_hooks,
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_MODULES = (ActorCriticPolicy, MlpExtractor, FlattenExtractor, nn.Sequential, nn.Flatten, nn.Linear, *_ACTIVATIONS)


def nets(policy: Any) -> tuple[list[Any], list[Any]]:
    """The modules of the actor and of the critic, in their order."""
    extractor = policy.mlp_extractor
    return [*extractor.policy_net, policy.action_net], [*extractor.value_net, policy.value_net]


def modules_of(policy: Any) -> list[dict[str, Any]]:
    """What each module holds; of those that are in several places as often."""
    found = [vars(policy)]
    for own in found:  # which grows
        found += [vars(inner) for inner in own["_modules"].values() if inner is not None]
    return found


def looks(model: Any, modules: list[dict[str, Any]]) -> list[Any]:
    """What the reasons below are read from, in an eighth of their time: equal lists have the same reason.

    `modules` is what :func:`modules_of` found, now or when the list was made that this one is to equal.
    """
    policy = model.policy
    buffer, optimizer = model.rollout_buffer, policy.optimizer
    found: list[Any] = [
        policy,
        model.use_sde,
        model.max_grad_norm,
        model.ent_coef,
        model.vf_coef,
        model.observation_space,
        policy.normalize_images,
        type(policy.action_dist),
        _replaced(policy.action_dist),
        [len(hooks) for hooks in _GLOBAL_HOOKS],
    ]
    found += (type(buffer), tuple(vars(buffer)), vars(buffer).get("gamma"), vars(buffer).get("gae_lambda"))
    found += (type(optimizer), tuple(vars(optimizer)), [getattr(optimizer, name, None) for name in _OPTIONS])
    found += (len(getattr(optimizer, hooks, ())) for hooks in _STEP_HOOKS)
    for group in optimizer.param_groups:
        found.append(list(map(id, group["params"])))
        found.append([value for name, value in group.items() if name not in ("params", "lr")])
    found += map(tuple, modules)  # by names, of a replaced method too
    for own in modules:
        found += (tuple(own["_modules"].values()), own.get("negative_slope"))
    found += [len(own[hooks]) for own in modules for hooks in _HOOKS]
    for p in [p for own in modules for p in own["_parameters"].values() if p is not None]:
        hooks = p._backward_hooks, p._post_accumulate_grad_hooks
        found += (id(p), p.data_ptr(), p.stride(), p.requires_grad, any(hooks))
    return found


def why_not(model: BaseAlgorithm) -> str | None:
    """Why a model runs on Stable-Baselines3's own code; None where the compiled ops do all that it does."""
    return next(_reasons(model, model.policy), None)


def _reasons(model: Any, policy: Any) -> Iterator[str]:
    if type(policy) is not ActorCriticPolicy:
        yield f"the policy is a {type(policy).__name__}"
        return
    if model.use_sde or policy.use_sde:
        yield "gSDE is used"
    if policy.device.type != "cpu" or model.device.type != "cpu":
        yield f"the policy is on {policy.device}"
    if not isinstance(model.observation_space, _OBSERVATIONS):
        yield f"the observations are a {type(model.observation_space).__name__}"
    if np.any(getattr(model.observation_space, "start", 0)):
        yield f"the observations are numbers from {model.observation_space.start}"
    if type(policy.action_dist) not in _DISTRIBUTIONS:
        yield f"the actions are drawn from a {type(policy.action_dist).__name__}"
    if _replaced(policy.action_dist):
        yield f"a method of the {type(policy.action_dist).__name__} was replaced"
    if type(model.rollout_buffer) is not RolloutBuffer or _replaced(model.rollout_buffer):
        yield f"the rollout buffer is a {type(model.rollout_buffer).__name__} of its own"
    yield from _wrong_numbers(model)
    yield from _wrong_modules(policy)
    yield from _wrong_parameters(policy)
    yield from _wrong_optimizer(policy)


def _replaced(thing: Any) -> bool:
    """Whether an object has something callable of its own in the place of a method of its class."""
    return any(callable(value) and hasattr(type(thing), name) for name, value in vars(thing).items())


def _wrong_numbers(model: Any) -> Iterator[str]:
    for thing, name, low, high in (
        (model, "max_grad_norm", _LEAST, _MOST),
        (model, "ent_coef", -_MOST, _MOST),
        (model, "vf_coef", -_MOST, _MOST),
        (model.rollout_buffer, "gamma", 0, 1),
        (model.rollout_buffer, "gae_lambda", 0, 1),
    ):
        value = getattr(thing, name)
        if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
            yield f"{name} is {value}"


def _wrong_modules(policy: Any) -> Iterator[str]:
    for module in policy.modules():
        if type(module) not in _MODULES:
            yield f"the policy contains a {type(module).__name__}"
        if _replaced(module):
            yield f"a method of a {type(module).__name__} was replaced"
        if any(getattr(module, hooks) for hooks in _HOOKS):
            yield f"a {type(module).__name__} has a hook"
    if any(_GLOBAL_HOOKS):
        yield "there are hooks of all modules or optimisers"
    for extractor in (policy.features_extractor, policy.pi_features_extractor, policy.vf_features_extractor):
        if type(extractor) is not FlattenExtractor or type(extractor.flatten) is not nn.Flatten:
            yield "the features extractor is not the flattening one"
    for name in ("action_net", "value_net"):
        if type(getattr(policy, name)) is not nn.Linear:
            yield f"the {name} is a {type(getattr(policy, name)).__name__}"
    inner = policy.mlp_extractor
    if type(inner) is not MlpExtractor or {type(inner.policy_net), type(inner.value_net)} != {nn.Sequential}:
        yield "the networks are not Stable-Baselines3's"
    actor, critic = nets(policy)
    for net in (actor, critic):
        if {type(m) for m in net[::2]} != {nn.Linear} or not {type(m) for m in net[1::2]} <= set(_ACTIVATIONS):
            yield "the layers are not linear ones and activations in turns"
        if len(net[::2]) > MOST_LAYERS:
            yield f"a network has {len(net[::2])} layers"
    activations = [*actor[1::2], *critic[1::2]]
    if len({repr(m) for m in activations}) > 1:
        yield "the layers have several activations"
    slope = getattr(activations[0], "negative_slope", 0) if activations else 0
    if not 0 <= slope <= _MOST:
        yield f"the activation has a slope of {slope}"


def _wrong_parameters(policy: Any) -> Iterator[str]:
    parameters = list(policy.parameters())
    own = [p for net in nets(policy) for m in net[::2] for p in (m.weight, m.bias)]
    if type(policy.action_dist) is DiagGaussianDistribution:
        own.append(policy.log_std)
        if policy.log_std.shape != policy.action_net.bias.shape:
            yield f"log_std is of shape {tuple(policy.log_std.shape)}"
    if len(parameters) != len(own) or {id(p) for p in parameters} != {id(p) for p in own}:
        yield "the policy has parameters of its own, or layers share theirs"
    for p in parameters:
        if type(p) is not nn.Parameter or p.dtype != torch.float32 or p.layout != torch.strided:
            yield f"a parameter is of {p.dtype}"
        if not p.requires_grad:
            yield "a parameter is frozen"
        if not p.is_contiguous():
            yield "a parameter is not contiguous"
        if p._backward_hooks or p._post_accumulate_grad_hooks:
            yield "a parameter has a hook"


def _wrong_optimizer(policy: Any) -> Iterator[str]:
    optimizer = policy.optimizer
    if type(optimizer) not in STEPS:
        yield f"the optimiser is a {type(optimizer).__name__} of {type(optimizer).__module__}"
        return
    if _replaced(optimizer) or any(getattr(optimizer, hooks) for hooks in _STEP_HOOKS):
        yield "the optimiser has a hook, or a method of it was replaced"
    if {id(p) for g in optimizer.param_groups for p in g["params"]} != {id(p) for p in policy.parameters()}:
        yield "the optimiser's parameters are not the policy's"
    if any(group.get("capturable") or group.get("differentiable") for group in optimizer.param_groups):
        yield "the optimiser is capturable or differentiable"
    options = [getattr(optimizer, name, None) for name in _OPTIONS]
    if any(value is not None and value is not False for value in options):
        yield "the optimiser has an option of its own"
    ours = STEPS[type(optimizer)]([torch.zeros(1, device="cpu")], lr=0.0)
    try:
        for group in optimizer.param_groups:
            ours._numbers({**group, "lr": 0.0})  # its rate is scheduled before each update
            if group.get("eps", 1) < _LEAST_EPS:
                yield f"the optimiser's eps is {group['eps']}"
    except (TypeError, ValueError) as error:
        yield f"the optimiser has another value: {error}"
