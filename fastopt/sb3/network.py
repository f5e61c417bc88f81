"""The networks of a policy of Stable-Baselines3 as arrays: views of the memory of its parameters and gradients."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn

import fastopt
from fastopt import _core
from fastopt.sb3.supported import STEPS, modules_of, nets

Array = NDArray[Any]


class Features:
    """Observations as rows of float32, as `preprocess_obs` and the flattening extractor make them."""

    def __init__(self, space: Any, normalize_images: bool):
        self._scale = np.float32(255) if normalize_images and is_image_space(space) else None
        self._sizes: Array | None = None  # of choices, each of which has a column for each of its numbers
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            self._sizes = np.array([space.n] if isinstance(space, spaces.Discrete) else space.nvec.ravel(), np.int64)
            *self._firsts, self._columns = np.cumsum([0, *self._sizes])

    def __call__(self, observations: Array) -> Array:
        rows = observations if observations.ndim == 2 else observations.reshape(len(observations), -1)
        if self._sizes is not None:
            numbers = rows.astype(np.int64)
            if not ((numbers >= 0) & (numbers < self._sizes)).all():
                for column, size in zip(numbers.T.copy(), self._sizes.tolist(), strict=True):
                    nn.functional.one_hot(torch.from_numpy(column), size)  # which has the error
            hot = np.zeros((len(rows), self._columns), np.float32)
            np.put_along_axis(hot, numbers + self._firsts, 1, axis=1)
            return hot
        rows = np.ascontiguousarray(rows, np.float32)
        return rows if self._scale is None else rows / self._scale


class Network:
    """The actor and the critic of a policy, their gradients, and the step of its optimiser."""

    def __init__(self, policy: Any):
        self.policy = policy
        self.parameters = list(policy.parameters())
        self.modules = modules_of(policy)
        self._modules, self._held = ([of[kind] for of in self.modules] for kind in ("_modules", "_parameters"))
        self._found = [dict(modules) for modules in self._modules], self._addresses()
        self.grads = [torch.zeros_like(p) for p in self.parameters]
        view = {id(p): (p.detach().numpy(), grad.numpy()) for p, grad in zip(self.parameters, self.grads, strict=True)}
        self._grad_arrays = [grad for _, grad in view.values()]
        actor, critic = nets(policy)
        self.actor, actor_grads = _layers(view, actor)
        self.critic, critic_grads = _layers(view, critic)
        self.log_std: Any
        self.log_std_grad: Any
        space = policy.action_space
        self.log_std, self.log_std_grad = view[id(policy.log_std)] if isinstance(space, spaces.Box) else (None, None)
        found = [m for m in (*actor, *critic) if not isinstance(m, nn.Linear)]
        tanh = not found or isinstance(found[0], nn.Tanh)
        slope = getattr(found[0], "negative_slope", 0.0) if found else 0.0
        activation = "tanh" if tanh else "leaky_relu"
        self.layers = _core.ActorCritic(self.actor, self.critic, actor_grads, critic_grads, activation, slope)
        self.features = Features(policy.observation_space, policy.normalize_images)
        self.scores = len(self.actor[-1][1])  # logits or means
        self.choices = list(map(int, space.nvec)) if isinstance(space, spaces.MultiDiscrete) else None
        self._ends = np.cumsum((0, *(self.choices or ()))).tolist()
        self._step: tuple[Any, Any] = None, None
        self.looks: list[Any] = []  # of the model that it was made for
        self._noise: dict[int, tuple[Any, Array]] = {}

    def is_of(self, policy: Any) -> bool:
        """Whether the views are those of this policy's parameters, as they are now."""
        return self.policy is policy and (self._modules, self._addresses()) == self._found

    def _addresses(self) -> list[int]:
        return [p.data_ptr() for held in self._held for p in held.values() if p is not None]

    def set_training_mode(self, mode: bool) -> None:
        """As the policy's own, which takes a tenth of a millisecond for it."""
        for own in self.modules:
            own["training"] = mode

    def parts(self, scores: Array) -> Any:
        """The columns of each choice; of a single one the array."""
        return (
            scores if self.choices is None else [scores[:, first:end] for first, end in itertools.pairwise(self._ends)]
        )

    # ---- acting ------------------------------------------------------------------------------------------------------

    def act(self, observations: Any) -> tuple[Array, Array, Array]:
        """Actions, values and log-probabilities, drawn from torch's generator as torch.distributions does."""
        observations = self.features(observations)
        count = len(observations)
        if count not in self._noise:
            noise = torch.empty(count, self.scores, dtype=torch.float32, device="cpu")
            self._noise[count] = noise, noise.numpy()
        tensor, numbers = self._noise[count]
        if self.log_std is not None:
            tensor.normal_()
            actions, log_prob, values = self.layers.gaussian_act(observations, self.log_std, numbers)
            return actions, values, log_prob
        if self.choices is None:
            tensor.exponential_()
        else:  # one draw for each choice, as of several distributions
            for part in tensor.split(self.choices, dim=1):
                part.copy_(torch.empty(part.shape, dtype=torch.float32, device="cpu").exponential_())
        actions, log_prob, values = self.layers.categorical_act(observations, numbers, self.choices)
        return actions, values, log_prob

    def values(self, observations: Array) -> Array:
        return self.layers.values(self.features(observations))

    # ---- learning ----------------------------------------------------------------------------------------------------

    def optimizer_step(self, optimizer: Any, max_grad_norm: float) -> Callable[[], None]:
        """A function that clips the gradients and takes a step of this optimiser of torch, on its own states.

        Between its calls only the numbers in the gradients may change.
        """
        for p, grad in zip(self.parameters, self.grads, strict=True):
            if p.grad is not grad:
                p.grad = grad
        of, fused = self._step
        if of is not optimizer:
            fused = STEPS[type(optimizer)](self.parameters, lr=0.0)
            fused._tensor_step.repeatable = True
            self._step = optimizer, fused
        fused.param_groups, fused.state = optimizer.param_groups, optimizer.state
        fused.max_grad_norm = max_grad_norm
        taken = False

        def step() -> None:
            nonlocal taken
            if not (taken and fused._tensor_step.repeat(max_grad_norm)):
                fused._take_step()
            taken = True

        return step

    def clip_gradients(self, max_grad_norm: float) -> None:
        """Leave the gradients as `clip_grad_norm_` does: the step clips on its way and writes none."""
        fastopt.clip_grad_norm_(self._grad_arrays, max_grad_norm)


def _layers(view: dict[int, tuple[Array, Array]], net: list[Any]) -> tuple[list[Any], list[Any]]:
    pairs = [(view[id(m.weight)], view[id(m.bias)]) for m in net if isinstance(m, nn.Linear)]
    layers = [(weight[0], bias[0]) for weight, bias in pairs]
    grads = [(weight[1], bias[1]) for weight, bias in pairs]
    return layers, grads
