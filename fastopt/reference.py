"""The definition of every op, in plain NumPy: each public name of fastopt with the same signature and the same bits.

This is what the compiled kernels are tested against and what the benchmarks call the naive way. It is written to be
read; it allocates freely and checks little. Where the order of the operations matters for the bits, the order written
here is the definition. (The cross-entropy method: :mod:`fastopt.reference_cem`; policies: `reference_policy`.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastopt import random as _random
from fastopt._tree import ArrayTree, SparseRows, group_dicts, leaves, rebuilt, same_structure
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


def uniforms(dtype: Any, seed: int, stream: int, first: int, count: int, domain: int = _random.DOMAIN_UNIFORM) -> Array:
    """Uniform in [0, 1): 24 bits of word e for float32; 53 bits of words 2e (low) and 2e + 1 (high) for float64."""
    if dtype == np.float32:
        top = words(seed, stream, domain, first, count) >> np.uint32(8)
        return top.astype(np.float32) * np.float32(2**-24)
    pair = words(seed, stream, domain, 2 * first, 2 * count).reshape(-1, 2).astype(np.uint64)
    bits: NDArray[np.uint64] = pair[:, 1] << np.uint64(32) | pair[:, 0]
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def natural_log(u: Array, below_one: Array) -> Array:
    """ln u for 0 < u <= 1: u = m * 2**e with m in [sqrt(1/2), sqrt(2)), and a polynomial of correctly rounded steps.

    `below_one` is 1 - u to its own precision: next to 1 a float32 u has lost the last bits of the word it came from.
    """
    if u.dtype == np.float32:
        bits = u.view(np.int32)
        e = bits - np.int32(0x3F3504F3) >> np.int32(23)  # the bits of sqrt(1/2)
        f = np.where(e == 0, -below_one, (bits - (e << np.int32(23))).view(np.float32) - np.float32(1))
        ff, k = f * f, e.astype(np.float32)
        p = _horner(f, LOG_FLOAT32)
        low = (f * ff) * p + k * np.float32(-2.12194440e-4)  # ln 2 in two parts, the first of 9 bits
        return k * np.float32(0.693359375) + (f - (np.float32(0.5) * ff - low))
    bits = u.view(np.int64)
    e = (bits >> np.int64(32)) - np.int64(0x3FE6A09E) >> np.int64(20)
    f = (bits - (e << np.int64(52))).view(np.float64) - 1.0
    s, k = f / (2.0 + f), e.astype(np.float64)
    z = s * s
    return k * 0.6931471803691238165 + (2.0 * s + (s * (z * _horner(z, LOG_FLOAT64)) + k * 1.9082149292705877000e-10))


def sine_cosine(t: Array) -> tuple[Array, Array]:
    """sin and cos of 2 pi t for t in [-1/8, 1/8]."""
    single = t.dtype == np.float32
    q = t * t
    return _horner(q, SINE_FLOAT32 if single else SINE_FLOAT64) * t, _horner(
        q, COSINE_FLOAT32 if single else COSINE_FLOAT64
    )


def _horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y = y * x + x.dtype.type(c)
    return y


# Chebyshev fits on the reduced ranges: of (ln(1 + f) - f + f**2 / 2) / f**3; of (2 artanh s - 2 s) / s**3 against s**2;
# of sin(2 pi t) / t and cos(2 pi t) against t**2.
LOG_FLOAT32 = (
    *(0.0697161147, -0.114797338, 0.116854199, -0.124256873, 0.142490576, -0.166678023),
    *(0.200007157, -0.249999970, 0.333333312),
)
LOG_FLOAT64 = (
    *(0.1461644968504340586, 0.15331721600556041269, 0.1818288912526172208, 0.22222211134795079855),
    *(0.28571428625975484921, 0.3999999999989950449, 0.66666666666666696862),
)
SINE_FLOAT32 = (-75.4016127, 81.5925429, -41.3416626, 6.28318529)
COSINE_FLOAT32 = (59.2201690, -85.4428447, 64.9393161, -19.7392087, 1.0)
SINE_FLOAT64 = (
    *(-0.71163580907816659965, 3.8197881201632114229, -15.094640403891545649, 42.058693928988783438),
    *(-76.70585975299812673, 81.605249276074930668, -41.341702240399760142, 6.2831853071795864769),
)
COSINE_FLOAT64 = (
    *(-1.6968494702918826806, 7.9030916877516976361, -26.426250908622135959, 60.24464132886729332),
    *(-85.456817206522712487, 64.939394022667957529, -19.739208802178716989, 1.0),
)


def normals(dtype: Any, seed: int, stream: int, first: int, count: int, domain: int = _random.DOMAIN_NORMAL) -> Array:
    """Standard normal numbers: elements j and j + 16 of an aligned group of 32 are sqrt(-2 ln u1) times the cosine and
    the sine of 2 pi u2, with u1 from the words of element j and u2 from those of element j + 16."""
    dtype = np.dtype(dtype)
    width = dtype.itemsize // 4  # words an element
    group = first // 32
    groups = (first + count + 31) // 32 - group if count else 0
    w = words(seed, stream, domain, group * 32 * width, groups * 32 * width)
    w = w.reshape(groups, 2, 16, width)
    high = w[..., width - 1]
    quarter = high[:, 1] + np.uint32(0x20000000) >> np.uint32(30)  # of the turn u2
    rest = (high[:, 1] - (quarter << np.uint32(30))).view(np.int32).astype(dtype) * dtype.type(2**-32)
    if width == 1:
        u1 = (high[:, 0].astype(dtype) + dtype.type(1)) * dtype.type(2**-32)
        below_one = (~high[:, 0]).astype(dtype) * dtype.type(2**-32)
    else:
        low = (w[..., 0] >> np.uint32(11)).astype(dtype) * 2.0**-53
        u1 = (high[:, 0].astype(dtype) * 2.0**-32 + low[:, 0]) + 2.0**-53
        rest, below_one = rest + low[:, 1], 1 - u1
    radius = np.sqrt(dtype.type(-2) * natural_log(u1, below_one))
    sine, cosine = sine_cosine(rest)
    odd = quarter & np.uint32(1) != 0
    x, y = np.where(odd, sine, cosine), np.where(odd, cosine, sine)
    x = np.where(quarter + np.uint32(1) & np.uint32(2) != 0, -x, x)
    y = np.where(quarter & np.uint32(2) != 0, -y, y)
    z = np.stack([radius * x, radius * y], axis=1).ravel()
    return z[first % 32 : first % 32 + count]


class Philox4x32(_random.Philox4x32):
    __slots__ = ()

    def _fill_raw(self, out: NDArray[np.uint32], stream: int, offset: int) -> None:
        out[...] = words(self.seed, stream, _random.DOMAIN_RAW, offset, out.size).reshape(out.shape)

    def _fill_uniform(self, out: Array, stream: int, offset: int) -> None:
        out[...] = uniforms(out.dtype, self.seed, stream, offset, out.size).reshape(out.shape)

    def _fill_normal(self, out: Array, stream: int, offset: int) -> None:
        out[...] = normals(out.dtype, self.seed, stream, offset, out.size).reshape(out.shape)


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
    return np.where(_kept(mask), x * x.dtype.type(_scale(mask.p)), x.dtype.type(0))


def _threshold(p: float) -> int:
    return min(max(round(65536 * p), 1), 65535) if p > 0 else 0


def _scale(p: float) -> float:
    return 1 / (1 - _threshold(p) / 65536) if p < 1 else 0.0


def _kept(mask: DropoutMask) -> NDArray[np.bool]:
    if mask.p in (0, 1):  # no random numbers are needed
        return np.full(mask.shape, mask.p == 0)
    values = values16(mask.seed, mask.stream, _random.DOMAIN_DROPOUT, math.prod(mask.shape))
    return values.reshape(mask.shape) >= _threshold(mask.p)


def bias_leaky_relu_dropout(
    x: Array,
    bias: Array,
    negative_slope: float,
    p: float,
    *,
    training: bool = True,
    rng: Any = None,
    out: Array | None = None,
) -> tuple[Array, DropoutMask]:
    mask = mask_address(x.shape, p, training, rng)
    one = x.dtype.type
    y = leaky_relu(x + bias, negative_slope) * one(_scale(mask.p))
    y = np.where(y == 0, one(-0.0), y)
    return _into(out, np.where(_kept(mask), y, one(0))), mask


def bias_leaky_relu_dropout_backward(
    grad: Array, y: Array, mask: DropoutMask, negative_slope: float, *, out: Array | None = None
) -> tuple[Array, Array]:
    dx = leaky_relu_backward(grad * grad.dtype.type(_scale(mask.p)), y, negative_slope)
    dropped = (y == 0) & ~np.signbit(y) | (mask.p == 1)
    dx = np.where(dropped, grad.dtype.type(0), dx)
    return _into(out, dx), _column_sums(dx)


def _column_sums(x: Array) -> Array:
    """Sums over all axes but the last, in float64: the rows of each block of 64 in order, then the blocks in order."""
    rows, columns = math.prod(x.shape[:-1]), x.shape[-1]
    padded = np.zeros((-(-rows // 64) * 64, columns))
    padded[:rows] = x.reshape(rows, columns)
    blocks = np.cumsum(padded.reshape(len(padded) // 64, 64, columns), axis=1)[:, -1]
    with np.errstate(over="ignore"):
        return np.cumsum([np.zeros(columns), *blocks], axis=0)[-1].astype(x.dtype)


def values16(seed: int, stream: int, domain: int, count: int) -> NDArray[np.uint16]:
    """16-bit values 0, 1, ...: the low half of word e // 2 when e is even, the high half when odd."""
    pairs = words(seed, stream, domain, 0, (count + 1) // 2)
    low_high = np.stack([pairs & np.uint32(0xFFFF), pairs >> np.uint32(16)], axis=-1)
    return low_high.ravel()[:count].astype(np.uint16)


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
    grad_scale = -grad_multiplier if maximize else grad_multiplier
    _adam(param, grad, [exp_avg, exp_avg_sq], step, grad_scale, lr, betas, eps, weight_decay, decoupled_weight_decay)


def _adam(
    param: Array,
    grad: Array,
    states: list[Array],
    step: int,
    grad_scale: float,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
) -> None:
    """`states` are exp_avg, exp_avg_sq and, for AMSGrad, max_exp_avg_sq."""
    dtype = param.dtype.type
    exp_avg, exp_avg_sq, *maximum = states
    beta1, beta2 = betas
    correction = math.sqrt(1 - math.pow(beta2, step))
    lr_t = dtype(lr * correction / (1 - math.pow(beta1, step)))
    eps_t = dtype(eps * correction)
    coupled = dtype(0 if decoupled_weight_decay else weight_decay)

    g = grad * dtype(grad_scale)
    if decoupled_weight_decay:
        param *= dtype(1 - lr * weight_decay)
    if coupled != 0:
        g = g + coupled * param
    m = exp_avg + dtype(1 - beta1) * (g - exp_avg) if dtype(1 - beta1) != 1 else g
    v = dtype(1 - beta2) * (g * g)
    if dtype(beta2) != 0:
        v = dtype(beta2) * exp_avg_sq + v
    largest = np.maximum(maximum[0], v) if maximum else v
    if lr_t != 0:
        param -= lr_t * (m / (np.sqrt(largest) + eps_t))
    exp_avg[...] = _flush_subnormal(m)
    exp_avg_sq[...] = _flush_subnormal(v)
    if maximum:
        maximum[0][...] = _flush_subnormal(largest)


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
    grad_scale = -grad_multiplier if maximize else grad_multiplier
    states = [] if momentum_buffer is None else [momentum_buffer]
    _sgd(param, grad, states, step, grad_scale, lr, momentum, dampening, weight_decay, nesterov)


def _sgd(
    param: Array,
    grad: Array,
    states: list[Array],
    step: int,
    grad_scale: float,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    dtype = param.dtype.type
    g = grad * dtype(grad_scale)
    if dtype(weight_decay) != 0:
        g = g + dtype(weight_decay) * param
    if dtype(momentum) != 0:
        (buffer,) = states
        if step == 1:
            b = g
        else:
            b = dtype(momentum) * buffer
            if dtype(1 - dampening) != 0:
                b = b + dtype(1 - dampening) * g
        g = g + dtype(momentum) * b if nesterov else b
        buffer[...] = _flush_subnormal(b)
    if dtype(lr) != 0:
        param -= dtype(lr) * g


def ema_update(average: Array, value: Array, decay: float) -> None:
    rate = average.dtype.type(1 - decay)
    if rate != 0:
        average += rate * (value - average)


class _Optimizer:
    """Calls a step function on every parameter that has a gradient."""

    _step_function: Any  # (param, grad, states, step, grad_scale, **hyper-parameters)

    def __init__(
        self,
        params: ArrayTree,
        defaults: dict[str, Any],
        state_names: tuple[str, ...],
        fixed: dict[str, Any],
        *,
        maximize: bool,
        max_grad_norm: float | None,
        skip_nonfinite: bool,
        ema_decay: float | None,
        state_dtype: str | None,
        rng: Any,
    ):
        self.params, groups = group_dicts(params, defaults)
        self.param_groups = [own for _, own in groups]
        self._fixed = fixed  # hyper-parameters that no group changes
        self._group = [own for tree, own in groups for _ in leaves(tree)]
        self._names = [name for name, _ in leaves(self.params)]
        self._steps = [0] * len(self._names)
        self._maximize, self._max_grad_norm, self._skip_nonfinite = maximize, max_grad_norm, skip_nonfinite
        self._ema_decay, self._state_dtype = ema_decay, state_dtype
        self._rounding_key = _random.run_key(rng) if state_dtype else 0
        arrays = [array for _, array in leaves(self.params)]
        self._states = {
            name: [_State(array, state_dtype, signed=number == 0) for array in arrays]
            for number, name in enumerate(state_names)
        }
        self._ema = [] if ema_decay is None else [array.copy() for array in arrays]
        self.step_count = self.skipped_steps = 0
        self.grad_norm: float | None = None

    @property
    def lr(self) -> float:
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, lr: float) -> None:
        for group in self.param_groups:
            group["lr"] = lr

    @property
    def ema_params(self) -> Any:
        return rebuilt(self.params, iter(self._ema)) if self._ema else None

    def step(self, grads: Any, *, grad_multiplier: float = 1.0, zero_grads: bool = False) -> None:
        pairs = list(same_structure(grads, self.params, "grads"))
        grad_scale = -grad_multiplier if self._maximize else grad_multiplier
        skip = False
        if self._max_grad_norm is not None or self._skip_nonfinite:
            self.grad_norm = abs(grad_multiplier) * grad_norm([grad for grad, _ in pairs])
            skip = self._skip_nonfinite and not math.isfinite(self.grad_norm)
            if self._max_grad_norm is not None:
                grad_scale *= min(1.0, self._max_grad_norm / (self.grad_norm + 1e-6))
        for k, (grad, param) in enumerate(pairs):
            if grad is not None and not skip:
                self._update(k, grad, param, grad_scale)
            if grad is not None and zero_grads:
                (grad.values if isinstance(grad, SparseRows) else grad)[...] = 0
        self.skipped_steps += skip
        self.step_count += not skip

    def _update(self, k: int, grad: Any, param: Array, grad_scale: float) -> None:
        self._steps[k] += 1
        step = self._steps[k]
        hyper = {**self._group[k], **self._fixed}
        states = [of_kind[k] for of_kind in self._states.values()]
        if isinstance(grad, SparseRows):  # only these rows move
            rows, grad = summed_rows(grad)
            chosen, values = param[rows], [state.array[rows] for state in states]
            self._step_function(chosen, grad, values, step, grad_scale, **hyper)
            param[rows] = chosen
            for state, value in zip(states, values, strict=True):
                state.array[rows] = value
            return
        values = [state.load() for state in states]
        self._step_function(param, grad, values, step, grad_scale, **hyper)
        for number, (state, value) in enumerate(zip(states, values, strict=True)):
            if self._state_dtype:
                state.store(value, self._chance(k, param, step, 0 if number == 0 else 1))
        if self._ema:
            assert self._ema_decay is not None
            ema_update(self._ema[k], param, self._ema_decay)

    def _chance(self, k: int, param: Array, step: int, half: int) -> Array:
        """The 16 bits that decide how each element is rounded at this step: those of its block of 256, the step number
        being in the upper half of the block counter, plus its place in the block times 0xC141."""
        count = -(-param.size // 256)
        word = words(self._rounding_key, k, _random.DOMAIN_ROUNDING, (step % 2**32) << 34, count)
        of_block = word >> np.uint32(16 * half) & np.uint32(0xFFFF)
        index = np.arange(param.size)
        chance = of_block[index // 256] + index % 256 * 0xC141 & 0xFFFF
        return np.asarray(chance.reshape(param.shape))

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"step_count": self.step_count, "skipped_steps": self.skipped_steps}
        if self._state_dtype:
            state |= {"state_dtype": self._state_dtype, "rounding_key": self._rounding_key}
        for index, group in enumerate(self.param_groups):
            for key, value in group.items():
                state[f"param_groups/{index}/{key}"] = np.array(value) if isinstance(value, tuple) else value
        for k, name in enumerate(self._names):
            state[f"step/{name}"] = self._steps[k]
            for kind, states in self._states.items():
                state[f"{kind}/{name}"] = states[k].array.copy()
                if self._state_dtype == "8bit":
                    state[f"{kind}_exponent/{name}"] = states[k].exponents.copy()
            if self._ema:
                state[f"ema/{name}"] = self._ema[k].copy()
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
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ):
        self._step_function = _adam
        super().__init__(
            params,
            {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay},
            ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if amsgrad else ("exp_avg", "exp_avg_sq"),
            {"decoupled_weight_decay": decoupled_weight_decay},
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


class AdamW(Adam):
    def __init__(
        self,
        params: ArrayTree,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **options: Any,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True, **options)


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
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = None,
    ):
        self._step_function = _sgd
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
            ("momentum_buffer",),
            {},
            maximize=maximize,
            max_grad_norm=max_grad_norm,
            skip_nonfinite=skip_nonfinite,
            ema_decay=ema_decay,
            state_dtype=state_dtype,
            rng=rng,
        )


def summed_rows(sparse: SparseRows) -> tuple[NDArray[np.int64], Array]:
    """The distinct row numbers as they come, and the gradient of each: repeated rows are added in their order."""
    rows = np.array(list(dict.fromkeys(sparse.indices.tolist())), np.int64)
    sums = np.empty((len(rows), sparse.values.shape[1]), sparse.values.dtype)
    for k, row in enumerate(rows):
        first, *others = sparse.values[sparse.indices == row]
        sums[k] = first
        for other in others:
            sums[k] += other
    return rows, sums


def l2_penalty(params: ArrayTree, weight_decay: float) -> float:
    return 0.5 * weight_decay * sum(sum_squares(p) for _, p in leaves(params))


def grad_norm(grads: Any) -> float:
    dense = (summed_rows(g)[1] if isinstance(g, SparseRows) else g for _, g in leaves(grads) if g is not None)
    return math.sqrt(sum(sum_squares(g) for g in dense))


def clip_grad_norm_(grads: Any, max_norm: float) -> float:
    norm = grad_norm(grads)
    factor = min(1.0, max_norm / (norm + 1e-6))
    for _, g in leaves(grads):
        if g is not None:
            array = g.values if isinstance(g, SparseRows) else g
            array *= array.dtype.type(factor)
    return norm


# ---- optimiser states in few bits ------------------------------------------------------------------------------------


class _State:
    """One state of one parameter: in the parameter's dtype, or as codes of 16 or 8 bits.

    A code keeps the top bits of a float32's magnitude; 16 bits of chance are added to what is cut off first, so that it
    goes up in proportion. bfloat16 keeps 16 bits with the sign. 8 bits keep a sign, 4 bits of exponent and 3 of
    mantissa, or 5 and 3 without a sign, relative to the largest exponent in each block of 256 elements in C order. Code
    0 is zero; a value without a sign that is not zero has a code of at least 1.
    """

    def __init__(self, param: Array, state_dtype: str | None, signed: bool):
        self.kind, self.dtype, self.signed = state_dtype, param.dtype, signed
        codes = {None: param.dtype, "bfloat16": np.dtype(np.uint16), "8bit": np.dtype(np.uint8)}
        self.array = np.zeros(param.shape, codes[state_dtype])
        self.exponents = np.zeros(-(-param.size // 256), np.uint8)

    def load(self) -> Array:
        if self.kind is None:
            return self.array
        if self.kind == "bfloat16":
            return np.asarray((self.array.astype(np.uint32) << 16).view(np.float32).astype(self.dtype))
        codes = self.array.astype(np.int64)
        magnitude, sign = (codes & 0x7F, codes >> 7 << 31) if self.signed else (codes, codes * 0)
        bits = np.where(magnitude != 0, (magnitude << 20) + self._base() | sign, 0)
        return np.asarray(bits.astype(np.uint32).view(np.float32).astype(self.dtype))

    def store(self, value: Array, chance: Array) -> None:
        value = _flush_subnormal(value.astype(np.float32))
        bits = value.view(np.uint32).astype(np.int64)
        magnitude, negative = bits & 0x7FFFFFFF, value < 0
        nan = magnitude > 0x7F800000
        if self.kind == "bfloat16":
            code = np.where(nan, 0x7FC0, magnitude + chance >> 16)
            self.array[...] = code | np.where(negative & self.signed, 0x8000, 0)
            return
        magnitude = np.where(nan, 0, magnitude)
        largest = [block.max() for block in np.split(magnitude.ravel(), range(256, magnitude.size, 256)) if block.size]
        self.exponents[...] = np.maximum(np.array(largest, np.int64) + 0xFFFFF >> 23, 32)
        codes = magnitude - self._base() + (chance << 4) >> 20
        codes = np.maximum(codes, 0 if self.signed else magnitude > 0)
        self.array[...] = codes | np.where(negative & self.signed, 0x80, 0)

    def _base(self) -> NDArray[np.int64]:
        """Bits of the float whose code would be 0: the exponent of the block is the top exponent of a code."""
        exponents = self.exponents.astype(np.int64) - (15 if self.signed else 31)
        return (np.repeat(exponents, 256)[: self.array.size] << 23).reshape(self.array.shape)


# ---- sums in a fixed order -------------------------------------------------------------------------------------------


def sum_squares(x: Array) -> float:
    """Sum of x**2 in float64."""
    return ordered_sum(np.square(x, dtype=np.float64))


def ordered_sum(terms: NDArray[np.float64]) -> float:
    """Sum in blocks of 4,096 elements in C order; in a block lane j of 16 adds j, j + 16, ..., then the lanes fold
    16 -> 8 -> 4 -> 2 -> 1 by adding the upper half; the block sums are added in order."""
    terms = terms.ravel()
    total = 0.0
    for begin in range(0, terms.size, 4096):
        block = terms[begin : begin + 4096]
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
