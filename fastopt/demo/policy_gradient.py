"""``fastopt demo --task policy-gradient``: CartPole-v1 by policy gradients, with and without a limit on the KL."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import policy as pg
from fastopt.demo import cem
from fastopt.demo.common import deviation, one_blas_thread, progress, several_minutes
from fastopt.demo.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

TASK = "CartPole-v1"
THRESHOLD = 475  # Gymnasium's own, of 500; the mean of EXAM fresh episodes has to reach it
EXAM = 100
GOOD = 490  # mean of a rehearsal that ends the training: the exam is taken once, so with something in hand
RATES = (0.003, 0.03, 0.3)  # of Adam; the plain gradient is at its best with the one in the middle


@dataclass(frozen=True)
class Recipe:
    line_search: bool
    lr: float = RATES[1]
    dropout: float = 0.0  # after the policy's hidden layer
    seed: int = 0
    max_kl: float = 0.01
    updates: int = 146
    environments: int = 64
    horizon: int = 32  # steps of each environment for one update: 2,048 in all, 300,000 in the whole run
    gamma: float = 0.99
    lam: float = 0.95
    negative_slope: float = 0.01
    value_lr: float = 0.005
    value_epochs: int = 10


@dataclass
class Training:
    """What training leaves behind."""

    recipe: Recipe
    policy: Network
    returns: list[float] = field(default_factory=list)  # after each update: mean of the last EXAM episodes
    kl: list[float] = field(default_factory=list)  # of each update
    refused: int = 0  # updates of which no step was accepted
    exam: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.kl) * self.recipe.environments * self.recipe.horizon


# ---- the networks ----------------------------------------------------------------------------------------------------


class Network:
    """One hidden layer of leaky ReLUs, with dropout if masks are given; float32."""

    def __init__(self, rng: fastopt.Philox4x32, sizes: tuple[int, int, int], negative_slope: float, last: float = 1.0):
        self.negative_slope = negative_slope
        self.params: dict[str, Array] = {}
        for k, (m, n, scale) in enumerate(((*sizes[:2], 1.0), (*sizes[1:], last)), start=1):
            bound = scale * (6 / m) ** 0.5  # He et al., ICCV 2015
            self.params[f"w{k}"] = (2 * rng.random((m, n), dtype=np.float32) - 1) * np.float32(bound)
            self.params[f"b{k}"] = np.zeros(n, np.float32)

    def forward(self, x: Array, p: float = 0.0, rngs: Sequence[Any] = ()) -> tuple[Array, Array, list[Any]]:
        """Return the hidden layer, the output and the masks of equal blocks of rows, one for each of `rngs`.

        An rng makes new decisions, a mask those of the call that returned it.
        """
        hidden = x @ self.params["w1"]
        hidden += self.params["b1"]
        fastopt.leaky_relu(hidden, self.negative_slope, out=hidden)
        masks = []
        for rng, block in zip(rngs, blocks(hidden, len(rngs)), strict=True):
            masks.append(fastopt.dropout(block, p, rng=rng, out=block)[1])
        output = hidden @ self.params["w2"]
        output += self.params["b2"]
        return hidden, output, masks

    def backward(self, x: Array, hidden: Array, grad: Array, masks: Sequence[Any] = ()) -> dict[str, Array]:
        """Return the gradients of the parameters; `grad` is that of the output."""
        grads = {"w2": hidden.T @ grad, "b2": grad.sum(axis=0)}
        grad = grad @ self.params["w2"].T
        for mask, block in zip(masks, blocks(grad, len(masks)), strict=True):
            fastopt.dropout_backward(block, mask, out=block)
        fastopt.leaky_relu_backward(grad, hidden, self.negative_slope, out=grad)
        return {"w1": x.T @ grad, "b1": grad.sum(axis=0), **grads}


def blocks(rows: Array, count: int) -> Array:
    """Views of `count` equal blocks of rows."""
    return rows.reshape(count, -1, rows.shape[1]) if count else rows[:0]


# ---- the environments ------------------------------------------------------------------------------------------------


@dataclass
class Batch:
    """Steps in the order (time, environment). Those at which an environment was only reset are not valid."""

    x: Array  # of all steps
    masks: list[Any]  # of dropout, one for each time
    valid: NDArray[np.bool]
    actions: NDArray[np.int64]  # of the valid steps, and so are the rest
    advantages: Array
    value_targets: Array


class Environments:
    """Episodes of CartPole-v1, many at once; Gymnasium's own vectorised form."""

    def __init__(self, recipe: Recipe, count: int, seed: int) -> None:
        import gymnasium

        self.recipe, self.rng = recipe, fastopt.Philox4x32(seed)
        self.envs = gymnasium.make_vec(TASK, num_envs=count, vectorization_mode="vector_entry_point")
        self.x, _ = self.envs.reset(seed=seed)
        self.over = np.zeros(count, bool)
        self.current = np.zeros(count)
        self.returns: list[float] = []  # of the episodes that are over, as they end

    def step(self, policy: Network) -> tuple[Array, Array, Array, Array, list[Any]]:
        """Take one step in each; return the actions, rewards, terminations, truncations and dropout's masks."""
        rngs = [self.rng] if self.recipe.dropout else []
        _, logits, masks = policy.forward(self.x, self.recipe.dropout, rngs)
        actions = pg.categorical_sample(logits, self.rng)
        self.x, rewards, terminated, truncated, _ = self.envs.step(actions)
        self.over = terminated | truncated
        self.current += rewards
        self.returns += self.current[self.over].tolist()
        self.current[self.over] = 0
        return actions, rewards, terminated, truncated, masks

    def collect(self, policy: Network, value: Network) -> Batch:
        """Play on for `horizon` steps.

        An environment whose episode is over gives its last observation with that step: truncation needs its value. The
        next step, whatever the action, only resets it: it is not valid.
        """
        recipe = self.recipe
        x, valid, steps = [self.x], [], []
        for _ in range(recipe.horizon):
            valid.append(~self.over)
            steps.append(self.step(policy))
            x.append(self.x)
        actions, rewards, terminated, truncated = (np.array(of_all) for of_all in list(zip(*steps, strict=True))[:4])
        masks = [mask for *_, masks in steps for mask in masks]
        all_x = np.concatenate(x)
        values = value.forward(all_x)[1].reshape(len(x), -1)
        rewards = rewards * np.float32(1 - recipe.gamma)  # returns of at most 1
        advantages, targets = pg.gae(rewards, values[:-1], values[1:], terminated, truncated, recipe.gamma, recipe.lam)
        v = np.array(valid)
        normalized = pg.normalize_advantage(advantages[v])
        return Batch(all_x[: v.size], masks, v.ravel(), actions[v], normalized, targets[v])


def examine(recipe: Recipe, policy: Network, seed: int) -> float:
    """The mean return of EXAM fresh episodes; actions are drawn, and dropout made, as in training."""
    fresh = Environments(recipe, EXAM, seed)
    first = np.full(EXAM, np.nan)
    while np.isnan(first).any():
        before = fresh.current.copy()
        _, rewards, *_ = fresh.step(policy)
        ended = fresh.over & np.isnan(first)
        first[ended] = (before + rewards)[ended]
    return float(first.mean())


# ---- training --------------------------------------------------------------------------------------------------------


class Update:
    """Adam's step for the policy: taken as it is, or as far along as the KL allows.

    Adam updates an array of zeros instead of the parameters, so what it would add to them is a direction. Its length,
    the learning rate, is all that a plain update goes by; a line search is free of it.
    """

    def __init__(self, recipe: Recipe, policy: Network) -> None:
        self.recipe, self.policy = recipe, policy
        self.direction = {key: np.zeros_like(p) for key, p in policy.params.items()}
        self.adam = fastopt.Adam(self.direction, lr=recipe.lr)
        self.step = 1.0

    def __call__(self, batch: Batch) -> tuple[bool, float]:
        """Update the policy; return whether it was, and KL(old || new) on the batch."""
        policy, valid = self.policy, batch.valid
        hidden, logits, _ = policy.forward(batch.x, self.recipe.dropout, batch.masks)
        old = logits[valid]
        _, grad = pg.categorical_policy_gradient(old, batch.actions, batch.advantages)
        logits_grad = np.zeros_like(logits)
        logits_grad[valid] = grad
        for d in self.direction.values():
            d.fill(0)
        self.adam.step(policy.backward(batch.x, hidden, logits_grad, batch.masks))

        def new_logits() -> Array:
            return policy.forward(batch.x, self.recipe.dropout, batch.masks)[1][valid]

        moved = self.search(old, new_logits, batch) if self.recipe.line_search else self.plain()
        return moved, pg.categorical_kl(old, new_logits())

    def plain(self) -> bool:
        for key, p in self.policy.params.items():
            p += self.direction[key]
        return True

    def search(self, old: Array, new_logits: Any, batch: Batch) -> bool:
        old_log_prob = pg.categorical_log_prob(old, batch.actions)

        def evaluate() -> tuple[float, float]:
            new = new_logits()
            ratio = np.exp(pg.categorical_log_prob(new, batch.actions) - old_log_prob)
            return float(np.mean(ratio * batch.advantages, dtype=np.float64)), pg.categorical_kl(old, new)

        result = pg.kl_line_search(
            self.policy.params, self.direction, evaluate, max_kl=self.recipe.max_kl, initial_step=self.step
        )
        if result.success:
            self.step = result.step
        return result.success


def train(recipe: Recipe) -> Training:
    """Train a policy from a seed and let it take the exam; every update's KL is measured, and its limit asserted."""
    networks = fastopt.Philox4x32(recipe.seed).spawn(1)[0]
    policy = Network(networks, (4, 32, 2), recipe.negative_slope, last=0.1)
    value = Network(networks, (4, 64, 1), recipe.negative_slope)
    value_adam = fastopt.Adam(value.params, lr=recipe.value_lr)
    environments = Environments(recipe, recipe.environments, recipe.seed)
    shuffle = np.random.default_rng(recipe.seed)
    update = Update(recipe, policy)
    run = Training(recipe, policy)
    exam_seed, *rehearsal_seeds = np.random.SeedSequence(recipe.seed).generate_state(1 + recipe.updates).tolist()
    for rehearsal_seed in rehearsal_seeds:
        batch = environments.collect(policy, value)
        moved, kl = update(batch)
        if recipe.line_search and not kl <= recipe.max_kl:
            raise AssertionError(f"an update changed the policy by a KL of {kl}, expected at most {recipe.max_kl}")
        run.kl.append(kl)
        run.refused += not moved
        fit_value(value, value_adam, batch, recipe.value_epochs, shuffle)
        last = environments.returns[-EXAM:]
        run.returns.append(float(np.mean(last)) if last else 0.0)
        # The last episodes began many updates ago, so they alone do not say how good the policy is by now.
        if run.returns[-1] >= THRESHOLD and examine(recipe, policy, rehearsal_seed) >= GOOD:
            break
    run.exam = examine(recipe, policy, exam_seed)
    return run


def fit_value(value: Network, adam: fastopt.Adam, batch: Batch, epochs: int, shuffle: np.random.Generator) -> None:
    """Least squares in minibatches of about 512."""
    x = batch.x[batch.valid]
    for _ in range(epochs):
        for rows in np.array_split(shuffle.permutation(len(x)), max(1, len(x) // 512)):
            hidden, output, _ = value.forward(x[rows])
            error = output - batch.value_targets[rows, None]
            error /= np.float32(len(rows))
            adam.step(value.backward(x[rows], hidden, error))


# ---- fastopt demo --task policy-gradient -----------------------------------------------------------------------------


def cartpole(
    seed: int = 0, plot: Path | None = None, dropout: float = 0.0, seeds: int = 10, updates: int = Recipe.updates
) -> int:
    """Train by both methods from several seeds and print how it went; return 0 when the line search solved all."""
    figure = new_figure(12, 3.8) if plot else None
    base = Recipe(line_search=False, dropout=dropout, updates=updates)
    rows = [(line_search, lr) for lr in (RATES[1], RATES[0], RATES[2]) for line_search in (True, False)]
    recipes = [
        replace(base, line_search=line_search, lr=lr, seed=seed + k) for line_search, lr in rows for k in range(seeds)
    ]
    several_minutes()
    start = perf_counter()
    runs = train_all(recipes)
    seconds = perf_counter() - start
    table = {row: runs[k * seeds : (k + 1) * seeds] for k, row in enumerate(rows)}
    print_recipe(base, runs[0], seed, seeds)
    print_curves({label: table[line_search, RATES[1]] for label, line_search in METHODS.items()})
    print_table(table, range(seed, seed + seeds))
    if figure and plot:
        curves, rates = figure.subplots(1, 2, width_ratios=(3, 2))
        draw_curves(curves, table)
        draw_rates(rates, table)
        save(figure, plot)
    searched = [run for (line_search, _), of_row in table.items() for run in of_row if line_search]
    largest = max(max(run.kl) for run in searched)
    updates, refused = sum(len(run.kl) for run in searched), sum(run.refused for run in searched)
    print(f"line search: {updates:,} updates, {refused:,} of them refused; largest KL {largest:.6f} of {base.max_kl:g}")
    print(f"time: {seconds:.0f} s")
    solved = sum(run.exam >= THRESHOLD for run in table[True, RATES[1]])
    print(f"solved: {solved} of {seeds}")
    return 0 if solved == seeds else 1


METHODS = {"line search": True, "plain": False}


def train_all(recipes: list[Recipe]) -> list[Training]:
    """Train each, in as many processes as fastopt has threads; the results do not depend on their number."""
    workers = min(fastopt.get_num_threads(), len(recipes))
    with ExitStack() as stack:
        tick = stack.enter_context(progress("policy gradients", len(recipes), "runs"))
        runs = []
        if workers == 1:
            results: Any = map(train_alone, recipes)
        else:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers, initializer=ignore_interrupt))
            results = pool.imap(train_alone, recipes)
        for run in results:
            runs.append(run)
            tick()
    return runs


def ignore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers


def train_alone(recipe: Recipe) -> Training:
    with one_blas_thread(), fastopt.num_threads(1):
        return train(recipe)


def print_recipe(base: Recipe, run: Training, seed: int, seeds: int) -> None:
    parameters = sum(p.size for p in run.policy.params.values())
    batch = base.environments * base.horizon
    print(f"{TASK}, seeds {seed} to {seed + seeds - 1}; actions from a 4-32-2 network of {parameters} parameters with")
    print(f"leaky ReLU and dropout {base.dropout:g}, values from a 4-64-1 network that Adam fits. One update for every")
    print(f"{batch:,} steps, in Adam's direction: plain, or by a line search with a KL of at most {base.max_kl:g}.")
    print(f"A run ends when its last {EXAM} episodes have a mean of {THRESHOLD} and then {EXAM} fresh ones,")
    print(f"not counted, one of {GOOD}; or after {base.updates * batch:,} steps. Solved: {EXAM} other fresh episodes,")
    print(f"with actions drawn as in training, have a mean of {THRESHOLD} of 500, Gymnasium's own threshold.")


def print_curves(runs: dict[str, list[Training]], rows: int = 8) -> None:
    print(f"\nMean return of the last {EXAM} episodes, lr {RATES[1]}; mean ± standard deviation over the seeds\n")
    recipe = next(iter(runs.values()))[0].recipe
    print(f"{'steps':>9}" + "".join(f"{label:>20}" for label in runs))
    curves = {label: curve(of_label) for label, of_label in runs.items()}
    for k in np.unique(np.ceil(np.linspace(0, recipe.updates, rows + 1)[1:]).astype(int)):
        cells = [f"{c[:, k - 1].mean():.0f} ± {deviation(c[:, k - 1]):.0f}" for c in curves.values()]
        print(f"{k * recipe.environments * recipe.horizon:>9,}" + "".join(f"{cell:>20}" for cell in cells))


def curve(runs: list[Training]) -> Array:
    """Returns after each update, shape (runs, updates); a run that has ended stays where it was."""
    return np.array([run.returns + run.returns[-1:] * (run.recipe.updates - len(run.returns)) for run in runs])


def print_table(table: dict[tuple[bool, float], list[Training]], seeds: Sequence[int]) -> None:
    """One row for each method and learning rate, and one of the cross-entropy method's linear policy."""
    print("\nOver all seeds: a learning rate is right, too low or too high; a line search finds the length by itself\n")
    print(f"{'':<24}{'solved':>10}{'return':>16}{'steps to the end':>20}{'largest KL':>14}")
    for (line_search, lr), runs in sorted(table.items(), key=lambda row: (-row[0][0], row[0][1])):
        label = f"{'line search' if line_search else 'plain'}, lr {lr:g}"
        exams = np.array([run.exam for run in runs])
        solved = f"{np.count_nonzero(exams >= THRESHOLD)} of {len(runs)}"
        steps = f"{np.mean([run.steps for run in runs]):,.0f}"
        score = f"{exams.mean():.0f} ± {deviation(exams):.0f}"
        print(f"{label:<24}{solved:>10}{score:>16}{steps:>20}{max(max(run.kl) for run in runs):>14.5f}")
    searches = [cem.train(seed) for seed in seeds]
    exams = np.array([cem.exam(run.policy, seed) for run, seed in zip(searches, seeds, strict=True)])
    solved = f"{np.count_nonzero(exams >= THRESHOLD)} of {len(searches)}"
    score = f"{exams.mean():.0f} ± {deviation(exams):.0f}"
    print(f"{'CEM, 5 parameters':<24}{solved:>10}{score:>16}{np.mean([run.steps for run in searches]):>20,.0f}")
    print()


def draw_curves(axes: Axes, table: dict[tuple[bool, float], list[Training]]) -> None:
    for (label, line_search), colour in zip(METHODS.items(), (BLUE, ORANGE), strict=True):
        runs = table[line_search, RATES[1]]
        returns = curve(runs)
        steps = np.arange(1, returns.shape[1] + 1) * runs[0].recipe.environments * runs[0].recipe.horizon
        mean, spread = returns.mean(axis=0), returns.std(axis=0)
        axes.fill_between(steps, mean - spread, np.minimum(mean + spread, 500), color=colour, alpha=0.2, linewidth=0)
        axes.plot(steps, mean, color=colour, label=f"{label}, lr {RATES[1]}")
    axes.axhline(THRESHOLD, color=GREY, linestyle=":", label=f"threshold, {THRESHOLD}")
    axes.fill_between([], [], [], color=GREY, alpha=0.2, linewidth=0, label="standard deviation over the seeds")
    title = f"{TASK}: mean of {len(runs)} seeds"
    axes.set(xlabel="steps", ylabel=f"mean of the last {EXAM} episodes", title=title, ylim=(0, 510))
    axes.legend(frameon=False, loc="lower right")


def draw_rates(axes: Axes, table: dict[tuple[bool, float], list[Training]]) -> None:
    for (label, line_search), colour in zip(METHODS.items(), (BLUE, ORANGE), strict=True):
        exams = [[run.exam for run in table[line_search, lr]] for lr in sorted(RATES)]
        for lr, of_rate in zip(sorted(RATES), exams, strict=True):
            axes.plot([lr] * len(of_rate), of_rate, ".", color=colour, alpha=0.4)
        axes.plot(sorted(RATES), np.mean(exams, axis=1), color=colour, marker="o", label=label)
    axes.plot([], [], ".", color=GREY, alpha=0.4, label="one seed")
    axes.axhline(THRESHOLD, color=LIGHT, linestyle=":", label=f"threshold, {THRESHOLD}")
    axes.set(xscale="log", xlabel="learning rate", ylabel=f"mean of {EXAM} fresh episodes", ylim=(0, 510))
    axes.set_title(f"With each learning rate: mean of {len(exams[0])} seeds")
    axes.legend(frameon=False, loc="lower left")
