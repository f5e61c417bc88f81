"""The definition of every op, in plain NumPy: each public name of fastopt with the same signature and the same bits.

This is what the compiled kernels are tested against and what the benchmarks call the naive way. It is written to be
read; it allocates freely and checks little. Where the order of the operations matters for the bits, the order written
here is the definition.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import random as _random
from fastopt._tree import ArrayTree, group_dicts, leaves, same_structure
from fastopt.masking import DropoutMask, mask_address

Array = NDArray[Any]

# ---- activations -----------------------------------------------------------------------------------------------------


def leaky_relu(x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    return _into(out, np.where(x > 0, x, x * x.dtype.type(negative_slope)))


def leaky_relu_backward(grad: Array, x: Array, negative_slope: float = 0.01, *, out: Array | None = None) -> Array:
    return _into(out, np.where(x > 0, grad, grad * grad.dtype.type(negative_slope)))


def inactive_fraction(x: Array, axis: int | tuple[int, ...] = 0) -> Array:
    return np.asarray(np.mean(x <= 0, axis=axis))


# ---- random numbers by address ---------------------------------------------------------------------------------------


def philox4x32(counter: NDArray[np.uint32], key: NDArray[np.uint32], rounds: int = 10) -> NDArray[np.uint32]:
    """Philox4x32 of counters, shape (..., 4), under one key, shape (2,). Salmon, Moraes, Dror and Shaw, SC11."""
    x0, x1, x2, x3 = (counter[..., k].astype(np.uint64) for k in range(4))
    k0, k1 = int(key[0]), int(key[1])
    low = np.uint64(0xFFFFFFFF)
    for _ in range(rounds):
        p0 = np.uint64(0xD2511F53) * x0
        p1 = np.uint64(0xCD9E8D57) * x2
        x0, x1 = p1 >> np.uint64(32) ^ x1 ^ np.uint64(k0), p1 & low
        x2, x3 = p0 >> np.uint64(32) ^ x3 ^ np.uint64(k1), p0 & low
        k0 = k0 + 0x9E3779B9 & 0xFFFFFFFF
        k1 = k1 + 0xBB67AE85 & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def words(seed: int, stream: int, domain: int, first: int, count: int) -> NDArray[np.uint32]:
    """32-bit words first, first + 1, ...: word e is word e % 4 of block e // 4."""
    blocks = np.arange((first % 4 + count + 3) // 4, dtype=np.uint64) + np.uint64(first // 4)
    counter = np.empty((len(blocks), 4), np.uint32)
    counter[:, 0] = blocks & np.uint64(0xFFFFFFFF)
    counter[:, 1] = blocks >> np.uint64(32)
    counter[:, 2] = stream & 0xFFFFFFFF
    counter[:, 3] = stream >> 32 | domain << 24
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    return philox4x32(counter, key).ravel()[first % 4 : first % 4 + count]


def uniforms(dtype: Any, seed: int, stream: int, first: int, count: int) -> Array:
    """Uniform in [0, 1): 24 bits of word e for float32; 53 bits of words 2e (low) and 2e + 1 (high) for float64."""
    if dtype == np.float32:
        top = words(seed, stream, _random.DOMAIN_UNIFORM, first, count) >> np.uint32(8)
        return top.astype(np.float32) * np.float32(2**-24)
    pair = words(seed, stream, _random.DOMAIN_UNIFORM, 2 * first, 2 * count).reshape(-1, 2).astype(np.uint64)
    bits: NDArray[np.uint64] = pair[:, 1] << np.uint64(32) | pair[:, 0]
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Philox4x32(_random.Philox4x32):
    __slots__ = ()

    def _fill_raw(self, out: NDArray[np.uint32], stream: int, offset: int) -> None:
        out[...] = words(self.seed, stream, _random.DOMAIN_RAW, offset, out.size).reshape(out.shape)

    def _fill_uniform(self, out: Array, stream: int, offset: int) -> None:
        out[...] = uniforms(out.dtype, self.seed, stream, offset, out.size).reshape(out.shape)


# ---- dropout ---------------------------------------------------------------------------------------------------------


def dropout(
    x: Array, p: float = 0.5, *, training: bool = True, rng: Any = None, out: Array | None = None
) -> tuple[Array, DropoutMask]:
    mask = mask_address(x.shape, p, training, rng)
    return _into(out, _drop(x, mask)), mask


def dropout_backward(grad: Array, mask: DropoutMask, *, out: Array | None = None) -> Array:
    return _into(out, _drop(grad, mask))


def _drop(x: Array, mask: DropoutMask) -> Array:
    if mask.p == 0:
        return x.copy()
    if mask.p == 1:
        return np.zeros_like(x)
    threshold = min(max(round(65536 * mask.p), 1), 65535)
    scale = x.dtype.type(1 / (1 - threshold / 65536))
    values = words(mask.seed, mask.stream, _random.DOMAIN_DROPOUT, 0, (x.size + 1) // 2)
    low_high = np.stack([values & np.uint32(0xFFFF), values >> np.uint32(16)], axis=-1).ravel()[: x.size]
    return np.where(low_high.reshape(x.shape) >= threshold, x * scale, x.dtype.type(0))


# ---- optimisers ------------------------------------------------------------------------------------------------------


def adam_step(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    step: int,
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    dtype = param.dtype.type
    beta1, beta2 = betas
    correction = math.sqrt(1 - math.pow(beta2, step))
    lr_t = dtype(lr * correction / (1 - math.pow(beta1, step)))
    eps_t = dtype(eps * correction)
    coupled = dtype(0 if decoupled_weight_decay else weight_decay)

    g = grad * dtype(-grad_multiplier if maximize else grad_multiplier)
    if decoupled_weight_decay:
        param *= dtype(1 - lr * weight_decay)
    if coupled != 0:
        g = g + coupled * param
    m = exp_avg + dtype(1 - beta1) * (g - exp_avg) if dtype(1 - beta1) != 1 else g
    v = dtype(1 - beta2) * (g * g)
    if dtype(beta2) != 0:
        v = dtype(beta2) * exp_avg_sq + v
    if lr_t != 0:
        param -= lr_t * (m / (np.sqrt(v) + eps_t))
    exp_avg[...] = _flush_subnormal(m)
    exp_avg_sq[...] = _flush_subnormal(v)


def sgd_step(
    param: Array,
    grad: Array,
    momentum_buffer: Array | None,
    step: int,
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    maximize: bool = False,
    grad_multiplier: float = 1.0,
) -> None:
    dtype = param.dtype.type
    g = grad * dtype(-grad_multiplier if maximize else grad_multiplier)
    if dtype(weight_decay) != 0:
        g = g + dtype(weight_decay) * param
    if dtype(momentum) != 0 and momentum_buffer is not None:
        if step == 1:
            b = g
        else:
            b = dtype(momentum) * momentum_buffer
            if dtype(1 - dampening) != 0:
                b = b + dtype(1 - dampening) * g
        g = g + dtype(momentum) * b if nesterov else b
        momentum_buffer[...] = _flush_subnormal(b)
    if dtype(lr) != 0:
        param -= dtype(lr) * g


class _Optimizer:
    """Calls a step function on every parameter that has a gradient."""

    def __init__(self, params: ArrayTree, defaults: dict[str, Any], states: tuple[str, ...], options: dict[str, Any]):
        self.params, groups = group_dicts(params, defaults)
        self.param_groups = [own for _, own in groups]
        self._options = options
        self._group = [own for tree, own in groups for _ in leaves(tree)]
        self._names = [name for name, _ in leaves(self.params)]
        self._steps = [0] * len(self._names)
        self._states = {state: [np.zeros_like(p) for _, p in leaves(self.params)] for state in states}
        self.step_count = 0

    @property
    def lr(self) -> float:
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = lr

    def _work(self, grads: Any) -> Iterator[tuple[Array, Array, list[Array], int, dict[str, Any]]]:
        """Yield (parameter, gradient, states, step, hyper-parameters) for each parameter that has a gradient."""
        for k, (grad, param) in enumerate(same_structure(grads, self.params, "grads")):
            if grad is not None:
                self._steps[k] += 1
                states = [arrays[k] for arrays in self._states.values()]
                yield param, grad, states, self._steps[k], {**self._group[k], **self._options}
        self.step_count += 1

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"step_count": self.step_count}
        for index, group in enumerate(self.param_groups):
            for key, value in group.items():
                state[f"param_groups/{index}/{key}"] = np.array(value) if isinstance(value, tuple) else value
        for k, name in enumerate(self._names):
            state[f"step/{name}"] = self._steps[k]
            for key, arrays in self._states.items():
                state[f"{key}/{name}"] = arrays[k].copy()
        return state


class Adam(_Optimizer):
    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ):
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        options = {"maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, defaults, ("exp_avg", "exp_avg_sq"), options)

    def step(self, grads: Any, *, grad_multiplier: float = 1.0) -> None:
        for param, grad, (exp_avg, exp_avg_sq), step, hyper in self._work(grads):
            adam_step(param, grad, exp_avg, exp_avg_sq, step, **hyper, grad_multiplier=grad_multiplier)


class AdamW(Adam):
    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize, decoupled_weight_decay=True)


class SGD(_Optimizer):
    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, defaults, ("momentum_buffer",), {"maximize": maximize})

    def step(self, grads: Any, *, grad_multiplier: float = 1.0) -> None:
        for param, grad, (momentum_buffer,), step, hyper in self._work(grads):
            sgd_step(param, grad, momentum_buffer, step, **hyper, grad_multiplier=grad_multiplier)


def l2_penalty(params: ArrayTree, weight_decay: float) -> float:
    return 0.5 * weight_decay * sum(sum_squares(p) for _, p in leaves(params))


# ---- sums in a fixed order -------------------------------------------------------------------------------------------


def sum_squares(x: Array) -> float:
    """Sum of x**2 in float64: blocks of 4,096 elements in C order; in a block lane j of 16 adds j, j + 16, ..., then
    the lanes fold 16 -> 8 -> 4 -> 2 -> 1 by adding the upper half; the block sums are added in order."""
    squares = np.square(x.ravel(), dtype=np.float64)
    total = 0.0
    for begin in range(0, x.size, 4096):
        block = squares[begin : begin + 4096]
        whole = len(block) // 16 * 16
        lanes = np.zeros(16)
        for row in block[:whole].reshape(-1, 16):
            lanes += row
        lanes[: len(block) - whole] += block[whole:]
        while len(lanes) > 1:
            lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
        total += float(lanes[0])
    return total


# ---- shared ----------------------------------------------------------------------------------------------------------


def _into(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def _flush_subnormal(x: Array) -> Array:
    """A stored state below the smallest normal number is +0.0: subnormal arithmetic is slow. NaN stays."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)
