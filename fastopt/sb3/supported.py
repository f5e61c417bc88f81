"""What of a model the compiled ops can do, and why they cannot."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

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

from fastopt.torch import optim

_DISTRIBUTIONS = (CategoricalDistribution, MultiCategoricalDistribution, DiagGaussianDistribution)
_OBSERVATIONS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
_ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.LeakyReLU)
STEPS = {
    torch.optim.Adam: optim.Adam,
    torch.optim.AdamW: optim.AdamW,
    torch.optim.RMSprop: optim.RMSprop,
    torch.optim.SGD: optim.SGD,
}  # whose step is taken in place of another's, on its own states
_GLOBAL_HOOKS = (
    torch_module._global_forward_pre_hooks,
    torch_module._global_forward_hooks,
    torch_module._global_backward_pre_hooks,
    torch_module._global_backward_hooks,
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_MODULES = (ActorCriticPolicy, MlpExtractor, FlattenExtractor, nn.Sequential, nn.Flatten, nn.Linear, *_ACTIVATIONS)


def looks(model: Any) -> list[Any]:
    """What the reasons below are read from, in a fifth of their time: equal lists have the same reason."""
    policy = model.policy
    buffer, optimizer = model.rollout_buffer, policy.optimizer
    found = [
        model.use_sde,
        model.max_grad_norm,
        model.observation_space,
        type(policy.action_dist),
        list(map(len, _GLOBAL_HOOKS)),
    ]
    found += (type(buffer), tuple(vars(buffer)), type(optimizer), tuple(vars(optimizer)))
    found += (len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks))
    for group in optimizer.param_groups:
        found.append(list(map(id, group["params"])))
        found.append([value for name, value in group.items() if name not in ("params", "lr")])
    modules = [policy]
    for module in modules:  # which grows
        own = vars(module)
        modules += own["_modules"].values()
        found += (module, tuple(own), own.get("negative_slope"), [len(own[hooks]) for hooks in _HOOKS])
        for p in own["_parameters"].values():
            found += (id(p), p.data_ptr(), p.requires_grad, p._backward_hooks, p._post_accumulate_grad_hooks)
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
    if type(policy.action_dist) not in _DISTRIBUTIONS:
        yield f"the actions are drawn from a {type(policy.action_dist).__name__}"
    if type(model.rollout_buffer) is not RolloutBuffer or _replaced(model.rollout_buffer):
        yield f"the rollout buffer is a {type(model.rollout_buffer).__name__} of its own"
    yield from _wrong_modules(policy)
    yield from _wrong_parameters(policy)
    yield from _wrong_optimizer(model, policy)


def _replaced(thing: Any) -> bool:
    """Whether an object has something callable of its own in the place of a method of its class."""
    return any(callable(value) and hasattr(type(thing), name) for name, value in vars(thing).items())


def _wrong_modules(policy: Any) -> Iterator[str]:
    for module in policy.modules():
        if type(module) not in _MODULES:
            yield f"the policy contains a {type(module).__name__}"
        if _replaced(module):
            yield f"a method of a {type(module).__name__} was replaced"
        if any(getattr(module, hooks) for hooks in _HOOKS):
            yield f"a {type(module).__name__} has a hook"
    if any(_GLOBAL_HOOKS):
        yield "there are hooks of all modules"
    shared = {id(policy.features_extractor), id(policy.pi_features_extractor), id(policy.vf_features_extractor)}
    if len(shared) > 2 or any(
        list(m.parameters()) for m in (policy.pi_features_extractor, policy.vf_features_extractor)
    ):
        yield "the features extractor is not the flattening one"
    nets = policy.mlp_extractor.policy_net, policy.mlp_extractor.value_net
    for net in nets:
        if [isinstance(m, nn.Linear) for m in net] != [True, False] * (len(net) // 2):
            yield "the layers are not linear ones and activations in turns"
    if len({repr(m) for net in nets for m in net if not isinstance(m, nn.Linear)}) > 1:
        yield "the layers have several activations"


def _wrong_parameters(policy: Any) -> Iterator[str]:
    parameters = list(policy.parameters())
    linear = [m for m in policy.modules() if isinstance(m, nn.Linear)]
    own = {id(p) for m in linear for p in (m.weight, m.bias)} | {id(getattr(policy, "log_std", None))}
    if len(parameters) != 2 * len(linear) + hasattr(policy, "log_std") or {id(p) for p in parameters} - own:
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


def _wrong_optimizer(model: Any, policy: Any) -> Iterator[str]:
    optimizer = policy.optimizer
    if type(optimizer) not in STEPS:
        yield f"the optimiser is a {type(optimizer).__name__} of {type(optimizer).__module__}"
        return
    if _replaced(optimizer) or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        yield "the optimiser has a hook, or a method of it was replaced"
    if {id(p) for g in optimizer.param_groups for p in g["params"]} != {id(p) for p in policy.parameters()}:
        yield "the optimiser's parameters are not the policy's"
    if any(group.get("capturable") or group.get("differentiable") for group in optimizer.param_groups):
        yield "the optimiser is capturable or differentiable"
    ours = STEPS[type(optimizer)]([torch.zeros(1)], lr=0.0)
    try:
        for group in optimizer.param_groups:
            ours._numbers(group)
    except (TypeError, ValueError) as error:
        yield f"the optimiser has another value: {error}"
    if not isinstance(model.max_grad_norm, (int, float)) or not 0 < model.max_grad_norm < math.inf:
        yield f"max_grad_norm is {model.max_grad_norm}"
