"""Every released function for compiled callers: its C signature, a call of it, and the same in Python."""

from __future__ import annotations

from ctypes import c_double, c_int64, c_uint64, c_void_p

import numpy as np

import fastopt
from fastopt import policy, reference
from fastopt.random import Philox4x32

from ..support import DTYPES

# The result's type stands first; the call is on arrays a and b of n elements. Lines are added, with a higher number if
# an op changes, and never changed or taken away: Numba's caches hold calls of all of them.


def _rows(x):
    return x.reshape(13, 5)


def _identity(dtype, *outputs):
    """Networks of one layer: the first outputs of five are the inputs."""
    layers = [[(np.eye(m, 5, dtype=dtype), np.zeros(m, dtype))] for m in outputs]
    return layers[0] if len(layers) == 1 else layers


def _table(addresses, size):
    return np.array([*addresses, *[0] * (4 - len(addresses)), size, 0, *[0] * 4], np.int64)


PPO = {"clip_range": 0.3, "clip_range_vf": 0.5, "entropy_coef": 0.25, "value_coef": 0.7}
i, u, d, array = c_int64, c_uint64, c_double, c_void_p
BOTH_TYPES = {
    "fastopt_1_leaky_relu": (
        (i, array, array, i, d),
        lambda f, a, b, n: f(a, b, n, 0.5),
        lambda a, b: fastopt.leaky_relu(b, 0.5, out=a),
    ),
    "fastopt_1_leaky_relu_backward": (
        (i, array, array, array, i, d),
        lambda f, a, b, n: f(a, b, a, n, 0.5),
        lambda a, b: fastopt.leaky_relu_backward(b, a, 0.5, out=a),
    ),
    "fastopt_1_tanh": (
        (i, array, array, i),
        lambda f, a, b, n: f(a, b, n),
        lambda a, b: fastopt.tanh(b, out=a),
    ),
    "fastopt_1_tanh_backward": (
        (i, array, array, array, i),
        lambda f, a, b, n: f(a, b, a, n),
        lambda a, b: fastopt.tanh_backward(b, a, out=a),
    ),
    "fastopt_1_bias_tanh": (
        (i, array, array, array, i, i),
        lambda f, a, b, n: f(a, a, b, n, 5),
        lambda a, b: fastopt.bias_tanh(_rows(a), b[:5], out=_rows(a)),
    ),
    "fastopt_1_bias_tanh_backward": (
        (i, array, array, array, array, i, i),
        lambda f, a, b, n: f(a, b + 8 * n, b, a, n, 5),
        lambda a, b: fastopt.bias_tanh_backward(_rows(b), _rows(a), out=_rows(a))[:0],
    ),
    "fastopt_1_dropout": (
        (i, array, array, i, d, u, u, i),
        lambda f, a, b, n: f(a, b, n, 0.3, 7, 8, 1),
        lambda a, b: fastopt.dropout(b, 0.3, rng=(7, 8), out=a),
    ),
    "fastopt_1_bias_leaky_relu_dropout": (
        (i, array, array, array, i, i, d, d, u, u, i),
        lambda f, a, b, n: f(a, a, b, n, 5, 0.1, 0.3, 7, 8, 1),
        lambda a, b: fastopt.bias_leaky_relu_dropout(
            a.reshape(13, 5), b[:5], 0.1, 0.3, rng=(7, 8), out=a.reshape(13, 5)
        ),
    ),
    "fastopt_1_bias_leaky_relu_dropout_backward": (
        (i, array, array, array, array, i, i, d, d),
        lambda f, a, b, n: f(a, b, a, a, n, 5, 0.3, 0.1),
        lambda a, b: fastopt.bias_leaky_relu_dropout_backward(
            a.reshape(13, 5), a.reshape(13, 5), fastopt.DropoutMask(7, 8, 0.3, (13, 5)), 0.1, out=a.reshape(13, 5)
        ),
    ),
    "fastopt_1_random_uniform": (
        (i, array, i, u, u, u, i),
        lambda f, a, b, n: f(a, n, 7, 8, 9, 7),
        lambda a, b: Philox4x32(7).random(dtype=a.dtype, out=a, stream=8, offset=9),
    ),
    "fastopt_1_random_normal": (
        (i, array, i, u, u, u, i),
        lambda f, a, b, n: f(a, n, 7, 8, 9, 2),
        lambda a, b: Philox4x32(7).standard_normal(dtype=a.dtype, out=a, stream=8, offset=9),
    ),
    "fastopt_1_adam_step": (
        (i, array, array, array, array, i, i, d, d, d, d, d, i, d),
        lambda f, a, b, n: f(a, b, b + 8 * n, b + 16 * n, n, 3, 0.1, 0.5, 0.75, 1e-3, 0.01, 1, -2.0),
        lambda a, b: fastopt.adam_step(
            *(a, b, np.zeros_like(a), np.zeros_like(a), 3),
            **{"lr": 0.1, "betas": (0.5, 0.75), "eps": 1e-3, "weight_decay": 0.01},
            **{"decoupled_weight_decay": True, "maximize": True, "grad_multiplier": 2.0},
        ),
    ),
    "fastopt_1_sgd_step": (
        (i, array, array, array, i, i, d, d, d, d, i, d),
        lambda f, a, b, n: f(a, b, b + 8 * n, n, 3, 0.1, 0.9, 0.25, 0.01, 0, -2.0),
        lambda a, b: fastopt.sgd_step(
            *(a, b, np.zeros_like(a), 3),
            **{"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "weight_decay": 0.01},
            **{"maximize": True, "grad_multiplier": 2.0},
        ),
    ),
    "fastopt_1_rmsprop_step": (
        (i, array, array, array, array, array, i, d, d, d, d, d, d),
        lambda f, a, b, n: f(a, b, b + 8 * n, b + 16 * n, b + 24 * n, n, 0.1, 0.75, 1e-3, 0.01, 0.9, -2.0),
        lambda a, b: fastopt.rmsprop_step(
            *(a, b, np.zeros_like(a), np.zeros_like(a), np.zeros_like(a)),
            **{"lr": 0.1, "alpha": 0.75, "eps": 1e-3, "weight_decay": 0.01, "momentum": 0.9},
            **{"maximize": True, "grad_multiplier": 2.0},
        ),
    ),
    "fastopt_1_ema_update": (
        (i, array, array, i, d),
        lambda f, a, b, n: f(a, b, n, 0.75),
        lambda a, b: fastopt.ema_update(a, b, 0.75),
    ),
    "fastopt_1_add_squares": (
        (d, array, i, d, d),
        lambda f, a, b, n: f(a, n, 0.5, 0.25),
        lambda a, b: 0.5 + fastopt.l2_penalty(a.astype(float) / 4, 2.0),
    ),
    # Thirteen rows of five; what is not in a or b is zeros.
    "fastopt_1_categorical_kl": (
        (i, array, array, array, i, i),
        lambda f, a, b, n: f(a, b, b + 8 * n, 13, 5),
        lambda a, b: np.copyto(a[:13], policy.categorical_kl(_rows(b), _rows(0 * b), per_sample=True)),
    ),
    "fastopt_1_gaussian_kl": (
        (i, array, array, array, array, array, i, i, i, i),
        lambda f, a, b, n: f(a, b, b + 8 * n, b + 16 * n, b, 13, 5, 5, 0),
        lambda a, b: np.copyto(
            a[:13], policy.gaussian_kl(_rows(b), _rows(0 * b), _rows(0 * b), b[:5], per_sample=True)
        ),
    ),
    "fastopt_1_categorical_policy_gradient": (
        (i, array, array, array, array, array, i, i, d),
        lambda f, a, b, n: f(b + 8 * n, a, a, b, b + 16 * n, 13, 5, 0.25),
        lambda a, b: policy.categorical_policy_gradient(
            _rows(a), np.zeros(13, int), b[:13], entropy_coef=0.25, out=_rows(a)
        )[2:],
    ),
    "fastopt_1_gaussian_policy_gradient": (
        (i, array, array, array, array, array, array, array, array, i, i, d),
        lambda f, a, b, n: f(b + 8 * n, b + 24 * n, a, b, b + 16 * n, b, b, b + 16 * n + 1600 // 4, 13, 5, 0.25),
        lambda a, b: np.copyto(
            a[:5], policy.gaussian_policy_gradient(_rows(b), 0 * b[:5], _rows(b), b[:13], entropy_coef=0.25)[2]
        ),
    ),
    "fastopt_2_categorical_policy_gradient": (
        (i, array, array, array, array, array, array, array, i, i, d),
        lambda f, a, b, n: f(b + 8 * n, a, a, b, b + 16 * n, None, b + 24 * n, 13, 5, 0.25),
        lambda a, b: policy.categorical_policy_gradient(
            _rows(a), np.zeros(13, int), b[:13], entropy_coef=0.25, out=_rows(a)
        )[2:],
    ),
    "fastopt_2_gaussian_policy_gradient": (
        (i, *[array] * 10, i, i, d),
        lambda f, a, b, n: f(
            *(b + 8 * n, b + 24 * n, a, b, b + 16 * n, b, b, None, b + 16 * n + 1600 // 4, b + 8 * n + 1600 // 4),
            *(13, 5, 0.25),
        ),
        lambda a, b: np.copyto(
            a[:5], policy.gaussian_policy_gradient(_rows(b), 0 * b[:5], _rows(b), b[:13], entropy_coef=0.25)[2]
        ),
    ),
    "fastopt_1_categorical_ppo_loss": (
        (i, *[array] * 13, i, i, i, d, d, d, d),
        lambda f, a, b, n: f(
            *(a, b + 8 * n, b, b, b, b, b, b, b + 16 * n, None, None, b + 24 * n, b + 24 * n + 80),
            *(n, 13, 1, 0.3, 0.5, 0.25, 0.7),
        ),
        lambda a, b: np.copyto(
            _rows(a),
            policy.categorical_ppo_loss(_rows(b), np.zeros(13, int), *[b[:13]] * 4, **PPO, old_values=b[:13])[1],
        ),
    ),
    "fastopt_1_gaussian_ppo_loss": (
        (i, *[array] * 15, i, i, d, d, d, d),
        lambda f, a, b, n: f(
            *(a, b + 24 * n, b + 8 * n, b, b + 16 * n, b, b, b, b, b, b, None, b + 16 * n + 80, b + 16 * n + 160),
            *(b + 16 * n + 240, 13, 5, 0.3, 0.5, 0.25, 0.7),
        ),
        lambda a, b: np.copyto(
            a[:13],
            policy.gaussian_ppo_loss(_rows(b), 0 * b[:5], _rows(b), *[b[:13]] * 4, **PPO, old_values=b[:13])[3],
        ),
    ),
    "fastopt_1_categorical_sample": (
        (i, array, array, i, i, u, u, i),
        lambda f, a, b, n: f(b, a, n, 5, 7, 8, 8),
        lambda a, b: np.copyto(a.view(np.uint8)[:104].view(int), policy.categorical_sample(_rows(b), (7, 8))),
    ),
    "fastopt_1_gaussian_sample": (
        (i, array, array, array, i, i, i, u, u, i),
        lambda f, a, b, n: f(a, b, b + 8 * n, n, 5, 0, 7, 8, 8),
        lambda a, b: np.copyto(_rows(a), policy.gaussian_sample(_rows(b), 0 * b[:5], (7, 8))),
    ),
    "fastopt_1_gae": (
        (i, array, array, array, array, array, array, array, i, i, d, d),
        lambda f, a, b, n: f(a, b + 8 * n, b, b + 16 * n, b, b + 24 * n, b + 24 * n, n, 13, 0.9, 0.8),
        lambda a, b: np.copyto(
            _rows(a), policy.gae(_rows(b), _rows(0 * b), _rows(b), *[_rows(b) > np.inf] * 2, 0.9, 0.8)[0]
        ),
    ),
    "fastopt_2_gae": (
        (i, *[array] * 8, i, i, d, d),
        lambda f, a, b, n: f(a, b + 8 * n, b, b + 16 * n, b, b + 24 * n, b + 24 * n, None, n, 13, 0.9, 0.8),
        lambda a, b: np.copyto(
            _rows(a), policy.gae(_rows(b), _rows(0 * b), _rows(b), *[_rows(b) > np.inf] * 2, 0.9, 0.8)[0]
        ),
    ),
    "fastopt_1_dense": (
        (i, array, array, array, array, i, i, i, i, d),
        lambda f, a, b, n: f(a, b, b, b, n, 5, 5, 1, 0.5),
        lambda a, b: np.copyto(_rows(a), policy.perceptron(_rows(b), [(b[:25].reshape(5, 5), b[:5])] * 2)[0]),
    ),
    "fastopt_1_dense_backward": (
        (i, array, array, array, array, i, i, i, i, d),
        lambda f, a, b, n: f(a, b, b, b, n, 5, 5, 2, 0.5),
        lambda a, b: np.copyto(
            _rows(a),
            np.where(_rows(b) > 0, 1, a.dtype.type(0.5)) * sum(_rows(b)[:, k, None] * _rows(b)[k] for k in range(5)),
        ),
    ),
    "fastopt_1_dense_gradient": (
        (i, array, array, array, array, i, i, i),
        lambda f, a, b, n: f(a, b + 8 * n, b, b, 25, 13, 5),
        lambda a, b: np.copyto(
            a[:25].reshape(5, 5), policy.perceptron_backward(*[_rows(b)] * 2, [_rows(b)], _identity(b.dtype, 5))[0][0]
        ),
    ),
    "fastopt_1_categorical_race": (
        (i, array, array, array, array, i, i, i, i, i, i),
        lambda f, a, b, n: f(a, b + 8 * n, b, b + 16 * n, 13, 0, 5, 5, 0, 1),
        lambda a, b: np.copyto(
            a[:13], policy.categorical_act(_rows(b), *_identity(b.dtype, 5, 1), _rows(np.zeros_like(b)))[1]
        ),
    ),
    "fastopt_1_gaussian_shift": (
        (i, array, array, array, array, i, i),
        lambda f, a, b, n: f(a, b, b + 8 * n, b, n, 5),
        lambda a, b: np.copyto(
            _rows(a), policy.gaussian_act(_rows(b), *_identity(b.dtype, 5, 1), 0 * b[:5], _rows(b))[0]
        ),
    ),
    "fastopt_1_vtrace": (
        (i, *[array] * 8, i, i, d, d, d, d),
        lambda f, a, b, n: f(a, b + 8 * n, b, b, b + 16 * n, b, b + 24 * n, b + 24 * n, n, 13, 0.9, 0.8, 1.5, 0.7),
        lambda a, b: np.copyto(
            _rows(a),
            policy.vtrace(
                *(_rows(b), _rows(b), _rows(0 * b), _rows(b), *[_rows(b) > np.inf] * 2, 0.9),
                **{"lam": 0.8, "rho_clip": 1.5, "c_clip": 0.7},
            )[0],
        ),
    ),
    "fastopt_1_categorical_log_prob": (
        (i, array, array, array, i, i),
        lambda f, a, b, n: f(a, b, b + 8 * n, 13, 5),
        lambda a, b: np.copyto(a[:13], policy.categorical_log_prob(_rows(b), np.zeros(13, int))),
    ),
    "fastopt_1_categorical_entropy": (
        (i, array, array, i, i),
        lambda f, a, b, n: f(a, b, 13, 5),
        lambda a, b: np.copyto(a[:13], policy.categorical_entropy(_rows(b))),
    ),
    "fastopt_1_gaussian_log_prob": (
        (i, array, array, array, array, i, i, i),
        lambda f, a, b, n: f(a, b, b + 8 * n, b + 16 * n, 13, 5, 0),
        lambda a, b: np.copyto(a[:13], policy.gaussian_log_prob(_rows(b), 0 * b[:5], _rows(0 * b))),
    ),
    "fastopt_1_gaussian_entropy": (
        (i, array, array, i, i),
        lambda f, a, b, n: f(a, b, 13, 5),
        lambda a, b: np.copyto(a[:13], policy.gaussian_entropy(_rows(b))),
    ),
    "fastopt_1_discounted_returns": (
        (i, array, array, array, array, array, i, i, d),
        lambda f, a, b, n: f(a, b, b + 8 * n, b + 16 * n, b + 24 * n, n, 13, 0.9),
        lambda a, b: np.copyto(
            _rows(a), policy.discounted_returns(_rows(b), *[_rows(b) > np.inf] * 2, 0.9, next_values=_rows(0 * b))
        ),
    ),
    "fastopt_1_normalize_advantage": (
        (i, array, array, i, d),
        lambda f, a, b, n: f(a, b, n, 0.5),
        lambda a, b: policy.normalize_advantage(b, eps=0.5, out=a),
    ),
    "fastopt_2_normalize_advantage": (
        (i, array, array, i, i, d),
        lambda f, a, b, n: f(a, b, n, 1, 0.5),
        lambda a, b: policy.normalize_advantage(b, eps=0.5, ddof=1, out=a),
    ),
    "fastopt_1_inactive_fraction": (
        (i, array, array, array, i, i),
        lambda f, a, b, n: f(b, b + 8 * n, b + 16 * n, n, 13) or f(a, b + 8 * n, b + 16 * n, n, 13),
        lambda a, b: None,
    ),
    "fastopt_1_mean": (
        (d, array, i),
        lambda f, a, b, n: f(a, n),
        lambda a, b: reference.ordered_sum(a.astype(float)) / a.size,
    ),
}
ONE_TYPE = {
    "fastopt_1_random_raw_uint32": (
        (i, array, i, u, u, u, i),
        lambda f, a, b, n: f(a, n, 7, 8, 9, 0),
        lambda a, b: np.copyto(a.view(np.uint32), Philox4x32(7).random_raw(a.size, stream=8, offset=9)),
    ),
    "fastopt_1_random_integers_int64": (
        (i, array, i, u, u, u, i, i, u),
        lambda f, a, b, n: f(a, n // 2, 7, 8, 9, 9, -4, 1000),
        lambda a, b: np.copyto(
            a[: a.size // 2 * 2].view(np.int64), Philox4x32(7).integers(-4, 996, a.size // 2, stream=8, offset=9)
        ),
    ),
    "fastopt_1_random_permutation_int64": (
        (i, array, i, u, u, i),
        lambda f, a, b, n: f(a, n // 2, 7, 8, 10),
        lambda a, b: np.copyto(a[: a.size // 2 * 2].view(np.int64), Philox4x32(7).permutation(a.size // 2, stream=8)),
    ),
    # Their tables: four addresses, a size and an element type, and room for four numbers.
    **{
        f"fastopt_1_{name}_int64": (
            (i, array, i, *scalars),
            lambda f, a, b, n, given=given, count=count: f(
                _table([a, b, b + 8 * n, b + 16 * n][:count], n).ctypes.data, 10, *given
            ),
            same,
        )
        for name, scalars, given, count, same in (
            (
                *("adam_steps", (i, d, d, d, d, d, i, d), (3, 0.1, 0.5, 0.75, 1e-3, 0.01, 1, -2.0), 4),
                BOTH_TYPES["fastopt_1_adam_step"][2],
            ),
            (
                *("sgd_steps", (i, d, d, d, d, i, d), (3, 0.1, 0.9, 0.25, 0.01, 0, -2.0), 3),
                BOTH_TYPES["fastopt_1_sgd_step"][2],
            ),
            ("ema_updates", (d,), (0.75,), 2, BOTH_TYPES["fastopt_1_ema_update"][2]),
            (
                "clip_grads",
                (d, d),
                (4.0, 1.0),
                1,
                lambda a, b: np.multiply(a, np.float32(1 / (4 + 1e-6)), out=a)[:0].sum(),
            ),
        )
    },
    "fastopt_1_norm": ((d, d, d), lambda f, a, b, n: f(9.0, 0.25), lambda a, b: 12.0),
    "fastopt_1_penalty": ((d, d, d, d), lambda f, a, b, n: f(3.0, 4.0, 0.25), lambda a, b: 96.0),
    "fastopt_1_square_scale": ((d, d), lambda f, a, b, n: f(3 * 2.0**600), lambda a, b: 2.0**-602),
    "fastopt_1_lost_squares": ((i, d), lambda f, a, b, n: f(1.0), lambda a, b: None),
}
CONTRACT = {f"{name}_{np.dtype(t)}": (t, *line) for name, line in BOTH_TYPES.items() for t in DTYPES}
CONTRACT |= {name: (np.float32, *line) for name, line in ONE_TYPE.items()}
