"""Stands in for the ops of fastopt.policy until they are there."""

from collections import namedtuple

import numpy as np

PPOStats = namedtuple("PPOStats", "policy_loss value_loss entropy_loss approx_kl clip_fraction")


def _rest(
    log_prob,
    entropy,
    advantages,
    old_log_prob,
    values,
    returns,
    clip_range,
    clip_range_vf,
    old_values,
    entropy_coef,
    value_coef,
):
    n = len(values)
    lr = log_prob - old_log_prob
    r = np.exp(lr)
    whole, cut = advantages * r, advantages * np.clip(r, np.float32(1 - clip_range), np.float32(1 + clip_range))
    weight = np.where(whole > cut, 0, whole / n).astype(values.dtype)
    pred, moves = values, True
    if clip_range_vf is not None:
        d = values - old_values
        c = np.float32(clip_range_vf)
        pred, moves = old_values + np.clip(d, -c, c), ~((d < -c) | (d > c))
    e = pred - returns
    dv = np.where(moves, e * np.float32(2 * value_coef / n), 0).astype(values.dtype)
    st = PPOStats(
        -float(np.minimum(whole, cut).mean()),
        float((e * e).mean()),
        -float(entropy.mean()),
        float(((r - 1) - lr).mean()),
        float((np.abs(r - 1) > clip_range).mean()),
    )
    return weight, dv, st, st.policy_loss + entropy_coef * st.entropy_loss + value_coef * st.value_loss


def gaussian_ppo_loss(
    mean,
    log_std,
    actions,
    advantages,
    old_log_prob,
    values,
    returns,
    *,
    clip_range=0.2,
    clip_range_vf=None,
    old_values=None,
    entropy_coef=0.0,
    value_coef=0.5,
    out=None,
):
    inv = np.exp(-log_std)
    t = (actions - mean) * inv
    log_prob = -(0.5 * t * t + log_std + np.float32(0.9189385332)).sum(1)
    H = np.full(len(mean), (log_std + np.float32(1.4189385332)).sum())
    w, dv, st, loss = _rest(
        log_prob,
        H,
        advantages,
        old_log_prob,
        values,
        returns,
        clip_range,
        clip_range_vf,
        old_values,
        entropy_coef,
        value_coef,
    )
    out[0][...] = -w[:, None] * t * inv
    out[1][...] = -(w[:, None] * (t * t - 1)).sum(0) - np.float32(entropy_coef)
    out[2][...] = dv
    return loss, *out, st


def normalize_advantage(a, *, ddof, out):
    out[...] = (a - a.mean()) / (a.std(ddof=ddof) + 1e-8)
    return out


from fastopt.policy import categorical_log_prob, categorical_ppo_loss, gaussian_log_prob  # noqa
