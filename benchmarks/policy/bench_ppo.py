"""The losses of PPO on 4,096 samples: loss, gradients and statistics, into arrays that are there; and V-trace.

NumPy works in arrays of its own, allocated once. torch is what Stable-Baselines3 writes, with its backward pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bench_policy import BATCH, GAE, GAMMA, LAM, TIME, Rows
from harness import Array, Call, Case, cases, from_numpy, torch

import fastopt

CLIP, ENTROPY, VALUE = 0.2, 0.01, 0.5


class CategoricalPPO(Rows):
    name = "categorical_ppo_loss"
    data = tuple((np.float32, BATCH * actions) for actions in (2, 4, 18))
    contenders = ("reference", "numpy", "numpy_by_columns", "torch", "fastopt")

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.old_log_prob = (self.normal(7)[:BATCH] / 8 - np.log(self.shape[1])).astype(dtype)
        self.values, self.returns = self.normal(8)[:BATCH], self.normal(9)[:BATCH]
        self.options = {"entropy_coef": ENTROPY, "out": self.outputs()}

    def outputs(self) -> tuple[Array, ...]:
        return np.empty(self.shape, self.dtype), np.empty(BATCH, self.dtype)

    def batch(self) -> tuple[Array, ...]:
        return self.advantages, self.old_log_prob, self.values, self.returns

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.actions, *self.batch()

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(part) for part in (*returned[:-1], *returned[-1])]

    def clipped(self, log_prob: Array, entropy: float) -> tuple[Array, Array, Any]:
        """The weights of log-probabilities, dvalues, and (loss, statistics)."""
        log_ratio = log_prob - self.old_log_prob
        ratio = np.exp(log_ratio)
        whole, cut = self.advantages * ratio, self.advantages * np.clip(ratio, 1 - CLIP, 1 + CLIP)
        error = self.values - self.returns
        policy_loss, value_loss = -np.mean(np.minimum(whole, cut)), np.vdot(error, error) / BATCH
        kl, fraction = np.mean((ratio - 1) - log_ratio), np.count_nonzero(np.abs(ratio - 1) > CLIP) / BATCH
        loss = policy_loss - ENTROPY * entropy + VALUE * value_loss
        weight = np.where(whole <= cut, whole, 0) * self.dtype(1 / BATCH)
        return weight, error * self.dtype(2 * VALUE / BATCH), (loss, (policy_loss, value_loss, -entropy, kl, fraction))

    def numpy(self) -> Call:
        grad = self.c

        def call() -> tuple[Any, ...]:
            x, p = self.a, self.b
            total = self.softmax(self.x, x, p)
            np.divide(p, total[:, None], out=p)
            np.subtract(x, np.log(total)[:, None], out=x)
            np.multiply(p, x, out=grad)
            entropy = -self.sums(grad)
            weight, dvalues, (loss, stats) = self.clipped(x[self.rows, self.actions], entropy.mean())
            np.add(x, entropy[:, None], out=x)
            np.multiply(x, p, out=x)
            np.multiply(x, ENTROPY / BATCH, out=x)
            p[self.rows, self.actions] -= 1
            np.multiply(p, weight[:, None], out=grad)
            np.add(grad, x, out=grad)
            return loss, grad, dvalues, stats

        return call

    def torch(self) -> Call:
        logits, *batch = from_numpy(self.x, *self.batch())
        actions = torch.from_numpy(self.actions)
        values = batch[2].clone().requires_grad_()
        logits = logits.clone().requires_grad_()

        def call() -> tuple[Any, ...]:
            kind = torch.distributions.Categorical(logits=logits)
            loss, stats = torch_loss(kind.log_prob(actions), kind.entropy(), batch, values)
            logits.grad = values.grad = None
            loss.backward()
            return loss.item(), logits.grad.numpy(), values.grad.numpy(), stats

        return call


def torch_loss(log_prob: Any, entropy: Any, batch: list[Any], values: Any) -> tuple[Any, tuple[float, ...]]:
    advantages, old_log_prob, _, returns = batch
    ratio = torch.exp(log_prob - old_log_prob)
    cut = advantages * torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
    policy_loss = -torch.min(advantages * ratio, cut).mean()
    value_loss, entropy_loss = torch.nn.functional.mse_loss(returns, values), -torch.mean(entropy)
    with torch.no_grad():
        log_ratio = log_prob - old_log_prob
        kl = torch.mean((torch.exp(log_ratio) - 1) - log_ratio).item()
        fraction = torch.mean((torch.abs(ratio - 1) > CLIP).float()).item()
    loss = policy_loss + ENTROPY * entropy_loss + VALUE * value_loss
    return loss, (policy_loss.item(), value_loss.item(), entropy_loss.item(), kl, fraction)


class GaussianPPO(CategoricalPPO):
    """One log_std for all samples."""

    name = "gaussian_ppo_loss"
    contenders = ("reference", "numpy", "numpy_by_columns", "torch", "fastopt")

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.log_std = self.log_std / 4
        log_prob = fastopt.policy.gaussian_log_prob(self.x, self.log_std, self.z)
        self.old_log_prob = log_prob + self.normal(7)[:BATCH] / 8

    def outputs(self) -> tuple[Array, ...]:
        return np.empty(self.shape, self.dtype), np.empty(self.shape[1], self.dtype), np.empty(BATCH, self.dtype)

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.log_std, self.z, *self.batch()

    def numpy(self) -> Call:
        mean, log_std, actions = self.arguments()[:3]
        columns = self.shape[1]

        def call() -> tuple[Any, ...]:
            t, squares, dmean = self.a, self.b, self.c
            inverse = np.exp(-log_std)
            np.subtract(actions, mean, out=t)
            np.multiply(t, inverse, out=t)
            np.multiply(t, t, out=squares)
            log_prob = -0.5 * self.sums(squares) - log_std.sum() - columns * self.dtype(0.5 * np.log(2 * np.pi))
            entropy = float(log_std.sum() + columns * 0.5 * np.log(2 * np.pi * np.e))
            w, dvalues, (loss, stats) = self.clipped(log_prob, entropy)
            np.multiply(t, inverse, out=dmean)
            np.multiply(dmean, -w[:, None], out=dmean)
            dlog_std = w.sum() - w @ squares - self.dtype(ENTROPY)
            return loss, dmean, dlog_std, dvalues, stats

        return call

    def torch(self) -> Call:
        mean, log_std, actions, *batch = from_numpy(*self.arguments())
        leaves = [x.clone().requires_grad_() for x in (mean, log_std, batch[2])]

        def call() -> tuple[Any, ...]:
            kind = torch.distributions.Normal(leaves[0], leaves[1].exp())
            loss, stats = torch_loss(kind.log_prob(actions).sum(1), kind.entropy().sum(1), batch, leaves[2])
            for leaf in leaves:
                leaf.grad = None
            loss.backward()
            return loss.item(), *(leaf.grad.numpy() for leaf in leaves), stats

        return call


class VTrace(GAE):
    name = "vtrace"
    contenders = ("reference", "numpy", "fastopt")

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.log_ratios = self.normal(5).reshape(TIME, -1) / 4
        self.options = {"lam": LAM}

    def arguments(self) -> tuple[Any, ...]:
        return self.log_ratios, self.rewards, self.values, self.following, self.terminated, self.truncated, GAMMA

    def numpy(self) -> Call:
        log_ratios, rewards, values, following, terminated, truncated, gamma = self.arguments()
        corrections, after = self.out[0], np.zeros_like(rewards)

        def call() -> tuple[Array, Array]:
            rho = np.minimum(np.exp(log_ratios), 1)
            goes_on = ~(terminated | truncated)
            discount = (gamma * ~terminated).astype(self.dtype)
            delta = rho * (rewards + discount * following - values)
            keep = rho * (goes_on * self.dtype(gamma * LAM))
            last = np.zeros_like(rewards[0])
            for t in range(TIME - 1, -1, -1):
                np.multiply(goes_on[t], last, out=after[t])
                row = corrections[t]
                np.multiply(keep[t], last, out=row)
                np.add(row, delta[t], out=row)
                last = row
            return values + corrections, rho * (rewards + discount * (following + after) - values)

        return call


PPO = (CategoricalPPO, GaussianPPO)


@pytest.mark.parametrize("case", cases(*PPO, VTrace), ids=str)
def test_ppo(case: Case, race: Any) -> None:
    race(case)
