"""Policy gradients on batches of 4,096 samples with 2, 6 and 18 actions; advantages of 2,048 steps in 8 environments.

The size of a case is that of its largest array. NumPy works in arrays of its own, allocated once. Its reductions along
a short axis are slow: `numpy_by_columns` takes the largest column by column and sums rows as a product with ones (by
BLAS), as far as NumPy goes.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases, from_numpy, numba, torch

import fastopt
from fastopt import policy
from fastopt.reference import policy as reference_policy

BATCH, TIME, ENVIRONMENTS = 4096, 2048, 8
GAMMA, LAM = 0.99, 0.95


class Rows(Op):
    """Arrays of BATCH rows; `name` up to a comma is the function's."""

    data = tuple((np.float32, BATCH * actions) for actions in (2, 6, 18))
    contenders: tuple[str, ...] = ("reference", "numpy", "numpy_by_columns", "fastopt")
    one_thread = Op.one_thread | {"numpy_by_columns"}
    by_columns = False
    exact = frozenset({"reference", "fastopt"})
    rtol, atol = 2e-4, 2e-5  # NumPy's exponential and order of sums are its own
    options: dict[str, Any]

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.shape = (BATCH, size // BATCH)
        self.x, self.y, self.z = (self.normal(k).reshape(self.shape) for k in (1, 2, 3))
        self.log_std = self.normal(4)[: self.shape[1]]
        self.advantages = self.normal(5)[:BATCH]
        self.actions = np.random.default_rng(6).integers(0, self.shape[1], BATCH)
        self.rows, self.ones = np.arange(BATCH), np.ones(self.shape[1], dtype)
        self.a, self.b, self.c = (np.empty(self.shape, dtype) for _ in range(3))
        self.options = {}

    def traffic(self) -> tuple[list[Array], list[Array]]:
        raise NotImplementedError

    def result(self, returned: Any) -> list[Array]:
        parts = returned if isinstance(returned, tuple) else (returned,)
        return [np.asarray(part) for part in parts]

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        ours, theirs = (np.asarray(x, np.float64) if contender not in self.exact else x for x in (ours, theirs))
        super().compare(contender, ours, theirs)

    def arguments(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def reference(self) -> Call:
        return partial(getattr(reference_policy, self.name.partition(",")[0]), *self.arguments(), **self.options)

    def fastopt(self) -> Call:
        return partial(getattr(policy, self.name.partition(",")[0]), *self.arguments(), **self.options)

    def numpy(self) -> Call:
        raise NotImplementedError

    def numpy_by_columns(self) -> Call:
        other = copy.copy(self)  # the contenders of a goal are methods of one object
        other.by_columns = True
        return other.numpy()

    def sums(self, x: Array) -> Array:
        return x @ self.ones if self.by_columns else np.sum(x, axis=1)

    def softmax(self, logits: Array, x: Array, e: Array) -> Array:
        """x = logits - largest and e = exp(x); returns the sums of e."""
        if self.by_columns:
            largest = logits[:, 0].copy()
            for k in range(1, self.shape[1]):
                np.maximum(largest, logits[:, k], out=largest)
        else:
            largest = np.max(logits, axis=1)
        np.subtract(logits, largest[:, None], out=x)
        np.exp(x, out=e)
        return self.sums(e)


class CategoricalKL(Rows):
    name = "categorical_kl"
    contenders = ("reference", "numpy", "numpy_by_columns", "torch", "fastopt")

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.y

    def numpy(self) -> Call:
        x, e, y = self.a, self.b, self.c

        def call() -> float:
            after = self.softmax(self.y, y, e)
            before = self.softmax(self.x, x, e)
            np.subtract(x, y, out=x)
            np.multiply(x, e, out=x)
            return float(np.mean(self.sums(x) / before + np.log(after / before)))

        return call

    def torch(self) -> Call:
        old, new = from_numpy(self.x, self.y)
        f = torch.nn.functional
        return lambda: f.kl_div(
            f.log_softmax(new, -1), f.log_softmax(old, -1), reduction="batchmean", log_target=True
        ).item()


class CategoricalLogProb(Rows):
    name = "categorical_log_prob"

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.actions

    def numpy(self) -> Call:
        def call() -> Array:
            total = self.softmax(self.x, self.a, self.b)
            return self.a[self.rows, self.actions] - np.log(total)

        return call


class CategoricalEntropy(Rows):
    name = "categorical_entropy"

    def arguments(self) -> tuple[Any, ...]:
        return (self.x,)

    def numpy(self) -> Call:
        def call() -> Array:
            total = self.softmax(self.x, self.a, self.b)
            np.multiply(self.a, self.b, out=self.b)
            return np.log(total) - self.sums(self.b) / total

        return call


class CategoricalSample(Rows):
    name = "categorical_sample"

    def arguments(self) -> tuple[Any, ...]:
        return (self.x,)

    def reference(self) -> Call:
        return partial(reference_policy.categorical_sample, self.x, fastopt.Philox4x32(7))

    def fastopt(self) -> Call:
        return partial(policy.categorical_sample, self.x, fastopt.Philox4x32(7))

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in self.exact:
            super().compare(contender, ours, theirs)
            return
        # Numbers of their own: each action as often, within 6 standard deviations of the difference of two counts.
        counts = [np.bincount(actions, minlength=self.shape[1]) for actions in (ours, theirs)]
        assert np.all(np.abs(counts[0] - counts[1]) <= 6 * np.sqrt(counts[0] + counts[1] + 1))

    def numpy(self) -> Call:
        """By the inverse of the cumulative distribution too; NumPy has no sampler of a different one for each row."""
        rng = np.random.Generator(np.random.SFC64(7))
        u = np.empty(BATCH, self.dtype)

        def call() -> Array:
            total = self.softmax(self.x, self.a, self.b)
            np.cumsum(self.b, axis=1, out=self.b)
            rng.random(out=u, dtype=self.dtype)
            np.multiply(u, total, out=u)
            return (self.b <= u[:, None]).sum(axis=1)

        return call


class CategoricalGradient(Rows):
    name = "categorical_policy_gradient"

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.options = {"entropy_coef": 0.01, "out": np.empty(self.shape, dtype)}

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.actions, self.advantages

    def numpy(self) -> Call:
        coef, grad = self.options["entropy_coef"], self.c

        def call() -> tuple[float, Array]:
            x, p = self.a, self.b
            total = self.softmax(self.x, x, p)
            np.divide(p, total[:, None], out=p)
            np.subtract(x, np.log(total)[:, None], out=x)
            np.multiply(p, x, out=grad)
            entropy = -self.sums(grad)
            loss = -np.mean(self.advantages * x[self.rows, self.actions]) - coef * np.mean(entropy)
            np.add(x, entropy[:, None], out=x)
            np.multiply(x, p, out=x)
            np.multiply(x, coef / BATCH, out=x)
            p[self.rows, self.actions] -= 1
            np.multiply(p, (self.advantages * self.dtype(1 / BATCH))[:, None], out=grad)
            np.add(grad, x, out=grad)
            return float(loss), grad

        return call


class GaussianKL(Rows):
    """A log_std of its own for each sample."""

    name = "gaussian_kl"

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.y / 4, self.z, self.y / 8

    def numpy(self) -> Call:
        old_mean, old_log_std, new_mean, new_log_std = self.arguments()

        def call() -> float:
            np.subtract(old_log_std, new_log_std, out=self.a)
            np.multiply(self.a, 2, out=self.a)
            np.expm1(self.a, out=self.b)
            np.subtract(self.b, self.a, out=self.b)
            np.negative(new_log_std, out=self.a)
            np.exp(self.a, out=self.a)
            np.subtract(old_mean, new_mean, out=self.c)
            np.multiply(self.c, self.a, out=self.c)
            np.multiply(self.c, self.c, out=self.c)
            np.add(self.b, self.c, out=self.b)
            return float(0.5 * np.mean(self.sums(self.b)))

        return call


class SharedGaussianKL(Rows):
    """One log_std for all samples, so that NumPy takes its exponentials of a single row."""

    name = "gaussian_kl, shared log_std"

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.log_std / 4, self.z, self.log_std / 8

    def numpy(self) -> Call:
        old_mean, old_log_std, new_mean, new_log_std = self.arguments()

        def call() -> float:
            d = 2 * (old_log_std - new_log_std)
            np.subtract(old_mean, new_mean, out=self.a)
            np.multiply(self.a, np.exp(-new_log_std), out=self.a)
            np.multiply(self.a, self.a, out=self.a)
            return float(0.5 * (np.mean(self.sums(self.a)) + np.sum(np.expm1(d) - d)))

        return call


class GaussianLogProb(Rows):
    name = "gaussian_log_prob"

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.y / 4, self.z

    def numpy(self) -> Call:
        mean, log_std, actions = self.arguments()
        constant = self.shape[1] * 0.5 * np.log(2 * np.pi)

        def call() -> Array:
            np.negative(log_std, out=self.a)
            np.exp(self.a, out=self.a)
            np.subtract(actions, mean, out=self.b)
            np.multiply(self.a, self.b, out=self.a)
            np.multiply(self.a, self.a, out=self.a)
            np.multiply(self.a, 0.5, out=self.a)
            np.add(self.a, log_std, out=self.a)
            return -self.sums(self.a) - self.dtype(constant)

        return call


class GaussianEntropy(Rows):
    name = "gaussian_entropy"

    def arguments(self) -> tuple[Any, ...]:
        return (self.y,)

    def numpy(self) -> Call:
        constant = self.dtype(self.shape[1] * 0.5 * np.log(2 * np.pi * np.e))
        return lambda: self.sums(self.y) + constant


class GaussianSample(Rows):
    name = "gaussian_sample"
    contenders = ("reference", "numpy", "fastopt")

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.options = {"out": np.empty(self.shape, dtype)}

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.log_std / 4

    def reference(self) -> Call:
        return partial(reference_policy.gaussian_sample, *self.arguments(), fastopt.Philox4x32(7), **self.options)

    def fastopt(self) -> Call:
        return partial(policy.gaussian_sample, *self.arguments(), fastopt.Philox4x32(7), **self.options)

    def compare(self, contender: str, ours: Array, theirs: Array) -> None:
        if contender in self.exact:
            super().compare(contender, ours, theirs)
            return
        z = (ours - self.x) / np.exp(self.log_std / 4)
        assert abs(z.mean()) < 6 / z.size**0.5
        assert abs(z.var() - 1) < 6 * (2 / z.size) ** 0.5

    def numpy(self) -> Call:
        rng, (mean, log_std) = np.random.Generator(np.random.SFC64(7)), self.arguments()

        def call() -> Array:
            rng.standard_normal(out=self.a, dtype=self.dtype)
            np.multiply(self.a, np.exp(log_std), out=self.a)
            return np.add(self.a, mean, out=self.a)

        return call


class GaussianGradient(Rows):
    name = "gaussian_policy_gradient"

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.options = {"entropy_coef": 0.01, "out": (np.empty(self.shape, dtype), np.empty(self.shape[1], dtype))}

    def arguments(self) -> tuple[Any, ...]:
        return self.x, self.log_std / 4, self.z, self.advantages

    def numpy(self) -> Call:
        mean, log_std, actions, advantages = self.arguments()
        coef, columns = self.options["entropy_coef"], self.shape[1]

        def call() -> tuple[float, Array, Array]:
            t, squares, dmean = self.a, self.b, self.c
            inverse = np.exp(-log_std)
            np.subtract(actions, mean, out=t)
            np.multiply(t, inverse, out=t)
            np.multiply(t, t, out=squares)
            sums = self.sums(squares)
            log_prob = -0.5 * sums - log_std.sum() - columns * self.dtype(0.5 * np.log(2 * np.pi))
            entropy = log_std.sum() + columns * 0.5 * np.log(2 * np.pi * np.e)
            w = advantages * self.dtype(1 / BATCH)
            np.multiply(t, inverse, out=dmean)
            np.multiply(dmean, -w[:, None], out=dmean)
            dlog_std = w.sum() - w @ squares - self.dtype(coef)
            return float(-np.mean(advantages * log_prob) - coef * entropy), dmean, dlog_std

        return call


class NormalizeAdvantage(Rows):
    name = "normalize_advantage"
    contenders = ("reference", "numpy", "fastopt")
    data = ((np.float32, BATCH), (np.float32, 16 * BATCH))

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.options = {"out": np.empty(self.shape, dtype)}

    def arguments(self) -> tuple[Any, ...]:
        return (self.x,)

    def numpy(self) -> Call:
        def call() -> Array:
            np.subtract(self.x, np.mean(self.x), out=self.a)
            return np.multiply(self.a, 1 / (np.sqrt(np.vdot(self.a, self.a) / self.a.size) + 1e-8), out=self.a)

        return call


class GAE(Rows):
    """The loop over time in NumPy, a row of environments at once, and a plain double loop in Numba."""

    name = "gae"
    data = ((np.float32, TIME * ENVIRONMENTS),)
    contenders = ("reference", "numpy", "numba", "fastopt")

    def __init__(self, dtype: type, size: int) -> None:
        Op.__init__(self, dtype, size)
        self.options = {}
        self.rewards, self.values, self.following = (self.normal(k).reshape(TIME, -1) for k in (1, 2, 3))
        rng = np.random.default_rng(4)
        self.terminated, self.truncated = (rng.random((TIME, size // TIME)) < 0.01 for _ in range(2))
        self.out = [np.empty_like(self.rewards) for _ in range(2)]

    def arguments(self) -> tuple[Any, ...]:
        return self.rewards, self.values, self.following, self.terminated, self.truncated, GAMMA, LAM

    def numpy(self) -> Call:
        rewards, values, following, terminated, truncated, gamma, lam = self.arguments()
        advantages, returns = self.out
        delta, keep = np.empty_like(rewards), np.empty_like(rewards)

        def call() -> tuple[Array, Array]:
            np.multiply(following, gamma, out=delta)
            np.multiply(delta, ~terminated, out=delta)
            np.add(delta, rewards, out=delta)
            np.subtract(delta, values, out=delta)
            np.multiply(~(terminated | truncated), gamma * lam, out=keep)
            last = np.zeros_like(rewards[0])
            for t in range(TIME - 1, -1, -1):
                row = advantages[t]
                np.multiply(keep[t], last, out=row)
                np.add(row, delta[t], out=row)
                last = row
            return advantages, np.add(advantages, values, out=returns)

        return call

    def numba(self) -> Call:
        return partial(gae_loop(), *self.arguments(), *self.out)


class DiscountedReturns(GAE):
    name = "discounted_returns"

    def arguments(self) -> tuple[Any, ...]:
        return self.rewards, self.terminated, self.truncated, GAMMA

    def numpy(self) -> Call:
        rewards, terminated, truncated, gamma = self.arguments()
        returns, keep = self.out[0], np.empty_like(rewards)

        def call() -> Array:
            np.multiply(~(terminated | truncated), gamma, out=keep)
            last = np.zeros_like(rewards[0])
            for t in range(TIME - 1, -1, -1):
                row = returns[t]
                np.multiply(keep[t], last, out=row)
                np.add(row, rewards[t], out=row)
                last = row
            return returns

        return call

    def numba(self) -> Call:
        return partial(returns_loop(), *self.arguments(), self.out[0])


def gae_loop() -> Any:
    @numba.njit
    def loop(rewards, values, following, terminated, truncated, gamma, lam, advantages, returns):  # type: ignore[no-untyped-def]
        gamma, gamma_lam = rewards.dtype.type(gamma), rewards.dtype.type(gamma * lam)
        last = np.zeros(rewards.shape[1], rewards.dtype)
        for t in range(len(rewards) - 1, -1, -1):
            for e in range(rewards.shape[1]):
                delta = rewards[t, e] - values[t, e]
                if not terminated[t, e]:
                    delta += gamma * following[t, e]
                if not (terminated[t, e] or truncated[t, e]):
                    delta += gamma_lam * last[e]
                last[e] = advantages[t, e] = delta
                returns[t, e] = delta + values[t, e]
        return advantages, returns

    return loop


def returns_loop() -> Any:
    @numba.njit
    def loop(rewards, terminated, truncated, gamma, returns):  # type: ignore[no-untyped-def]
        gamma = rewards.dtype.type(gamma)
        last = np.zeros(rewards.shape[1], rewards.dtype)
        for t in range(len(rewards) - 1, -1, -1):
            for e in range(rewards.shape[1]):
                last[e] = rewards[t, e] + (0 if terminated[t, e] or truncated[t, e] else gamma * last[e])
                returns[t, e] = last[e]
        return returns

    return loop


CATEGORICAL = (CategoricalKL, CategoricalLogProb, CategoricalEntropy, CategoricalSample, CategoricalGradient)
GAUSSIAN = (GaussianKL, SharedGaussianKL, GaussianLogProb, GaussianEntropy, GaussianSample, GaussianGradient)
ADVANTAGES = (NormalizeAdvantage, GAE, DiscountedReturns)


@pytest.mark.parametrize("case", cases(*CATEGORICAL, *GAUSSIAN, *ADVANTAGES), ids=str)
def test_policy(case: Case, race: Any) -> None:
    race(case)
