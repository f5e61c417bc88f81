"""``fastopt demo --task plan``: Gymnasium's Pendulum-v1 swung up and held, by planning with its equations and with a
model that is learnt from data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt.demo.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save
from fastopt.plan import CEMPlanner

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[Any]
Model = Callable[[Array, Array, Array], tuple[Array, Array]]

TASK, STARTS, STEPS = "Pendulum-v1", 8, 200
HORIZON, CANDIDATES, ITERATIONS = 30, 100, 4
HELD, UPRIGHT = 50, 0.2  # in so many last steps the angle has to be this near to 0


def planner(batch: int | None, seed: int) -> CEMPlanner:
    """As in iCEM: smooth noise, elites that come again, fewer candidates from iteration to iteration."""
    return CEMPlanner(
        HORIZON,
        1,
        batch=batch,
        bounds=[(-2, 2)],
        popsize=CANDIDATES,
        iterations=ITERATIONS,
        noise_beta=2.0,
        keep_frac=0.3,
        decay=1.25,
        mean_last=True,
        rng=seed,
    )


# ---- the equations, in NumPy and for Numba ---------------------------------------------------------------------------


def step(angle: Array, speed: Array, torque: Array) -> tuple[Array, Array]:
    """One step of Pendulum-v1: g = 10, m = l = 1, 0.05 seconds."""
    speed = np.clip(speed + (15 * np.sin(angle) + 3 * torque) * 0.05, -8, 8)
    return angle + speed * 0.05, speed


def wrapped(angle: Array) -> Array:
    """The angle within -pi and pi; 0 is upright."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def costs(model: Model, state: Array, plans: Array) -> Array:
    """What Pendulum-v1 charges for plans (problems, candidates, horizon, 1), from the states (problems, 2)."""
    angle, speed = (np.repeat(x[:, None], plans.shape[1], axis=1) for x in state.T)
    total = np.zeros(plans.shape[:2])
    for torque in np.moveaxis(plans[..., 0], 2, 0).astype(np.float64):
        total += wrapped(angle) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
        angle, speed = model(angle, speed, torque)
    return total


def compiled_costs() -> Callable[[Array, float, float], Array]:
    """The same for plans (candidates, horizon, 1) of one problem, by Numba."""
    import numba

    @numba.njit
    def costs(plans, angle0, speed0):  # type: ignore[no-untyped-def]
        total = np.zeros(len(plans))
        for i in range(len(plans)):
            angle, speed = angle0, speed0
            for t in range(plans.shape[1]):
                torque = np.float64(plans[i, t, 0])
                near = (angle + np.pi) % (2 * np.pi) - np.pi
                total[i] += near * near + 0.1 * speed * speed + 0.001 * torque * torque
                speed = min(max(speed + (15 * np.sin(angle) + 3 * torque) * 0.05, -8.0), 8.0)
                angle += speed * 0.05
        return total

    found: Callable[[Array, float, float], Array] = costs
    return found


# ---- a model that is learnt ------------------------------------------------------------------------------------------


def learnt(seed: int, transitions: int = 5000, steps: int = 4000) -> Model:
    """A network of 32 units for the change of speed, trained by Adam on random transitions."""
    rng = np.random.default_rng(seed)
    angle, speed = rng.uniform(-np.pi, np.pi, transitions), rng.uniform(-8, 8, transitions)
    torque = rng.uniform(-2, 2, transitions)
    change = step(angle, speed, torque)[1] - speed

    def inputs(angle: Array, speed: Array, torque: Array) -> Array:
        return np.stack([np.sin(angle), np.cos(angle), speed / 8, torque / 2], axis=-1).astype(np.float32)

    x, y = inputs(angle, speed, torque), change.astype(np.float32)
    w1, b1 = rng.normal(0, 0.5, (4, 32)).astype(np.float32), np.zeros(32, np.float32)
    w2 = rng.normal(0, 0.2, 32).astype(np.float32)
    adam = fastopt.Adam([w1, b1, w2], lr=3e-3)
    for k in range(steps):
        rows = rng.integers(transitions, size=256)
        hidden = np.tanh(x[rows] @ w1 + b1)
        error = (hidden @ w2 - y[rows]) * np.float32(2 / 256)
        back = error[:, None] * w2 * (1 - hidden * hidden)
        adam.lr = 3e-3 * (1 - k / steps)
        adam.step([x[rows].T @ back, back.sum(axis=0), hidden.T @ error])

    def model(angle: Array, speed: Array, torque: Array) -> tuple[Array, Array]:
        new = np.clip(speed + np.tanh(inputs(angle, speed, torque) @ w1 + b1) @ w2, -8, 8)
        return angle + new * 0.05, new

    return model


# ---- episodes --------------------------------------------------------------------------------------------------------


class Episode(NamedTuple):
    angles: Array  # (STEPS + 1, STARTS)
    torques: Array  # (STEPS, STARTS)
    returns: Array  # (STARTS,)
    plans: list[tuple[int, Array]]  # of the first pendulum: torques from some steps on
    seconds: float  # of all decisions

    @property
    def held(self) -> Array:
        return np.abs(wrapped(self.angles[-HELD:])).max(axis=0) < UPRIGHT


def episode(model: Model, seed: int) -> Episode:
    """Several of Gymnasium's pendulums at once, each with a plan of its own, from starts all around."""
    import gymnasium

    envs = [gymnasium.make(TASK).unwrapped for _ in range(STARTS)]
    state = np.stack([np.linspace(-np.pi, np.pi, STARTS), np.linspace(-1, 1, STARTS)], axis=1)
    for env, start in zip(envs, state, strict=True):
        env.reset(seed=seed)
        env.state = start.copy()  # type: ignore[attr-defined]
    plan, seconds = planner(STARTS, seed), 0.0
    angles, torques, plans, returns = [state[:, 0]], [], [], np.zeros(STARTS)
    for t in range(STEPS):
        begin = perf_counter()
        action = plan.plan(lambda x, problem, s=state: costs(model, s[problem], x))
        seconds += perf_counter() - begin
        if t % 10 == 0:
            plans.append((t, plan.mean[0, :, 0]))
        returns += [float(env.step(a)[1]) for env, a in zip(envs, action, strict=True)]
        state = np.stack([env.state for env in envs])  # type: ignore[attr-defined]
        angles.append(state[:, 0])
        torques.append(action[:, 0])
    return Episode(np.array(angles), np.array(torques), returns, plans, seconds)


def decisions_a_second(seconds: float = 1.0) -> float:
    """Of one pendulum on one thread, with the compiled equations, swinging up again and again."""
    cost = compiled_costs()
    with fastopt.num_threads(1):
        plan, angle, speed, count = planner(None, 0), np.array(np.pi), np.zeros(()), 0
        plan.plan(lambda x: cost(x, float(angle), float(speed)))  # compiles
        begin = perf_counter()
        while perf_counter() - begin < seconds:
            torque = plan.plan(lambda x: cost(x, float(angle), float(speed)))  # noqa: B023 (called at once)
            angle, speed = step(angle, speed, torque[0])
            count += 1
        return count / (perf_counter() - begin)


def pendulum(seed: int = 0, plot: Path | None = None) -> int:
    """Plan with the equations and with the learnt model and print how it went; return 0 if all pendulums are held."""
    figure = new_figure(9, 5.4) if plot else None
    print(f"{TASK}: {STARTS} starts at once, {CANDIDATES} candidates x {HORIZON} steps x {ITERATIONS} iterations")
    solved, first = True, None
    for name, model in (("its equations", step), ("a learnt model", learnt(seed))):
        print(f"planning with {name} ...", file=sys.stderr, flush=True)
        run = episode(model, seed)
        first = first or run
        solved = solved and bool(run.held.all())
        print(
            f"{name}: return {run.returns.mean():.0f} (mean of {STARTS}), {np.count_nonzero(run.held)} of {STARTS} "
            f"held upright, {STARTS * STEPS / run.seconds:.0f} decisions a second with the model in NumPy"
        )
    try:
        print(f"one pendulum, one thread, the equations by Numba: {decisions_a_second():.0f} decisions a second")
    except ModuleNotFoundError:
        print("one pendulum, the equations by Numba: needs numba")
    if figure and plot and first:
        draw(figure, first)
        save(figure, plot)
    print(f"solved: {'yes' if solved else 'no'}")
    return 0 if solved else 1


def draw(figure: Figure, run: Episode) -> None:
    time = np.arange(STEPS + 1) * 0.05
    angle, torque = figure.subplots(2, 1, sharex=True)
    angle.plot(time, run.angles[:, 1:], color=LIGHT)
    angle.plot(time, run.angles[:, 0], color=BLUE, label="the first start; grey: the others")
    for turn in range(-1, 2):
        angle.axhline(2 * np.pi * turn, color=GREY, linestyle=":", linewidth=0.8)
    angle.set(ylabel="angle (dotted: upright)", title=f"{TASK}: planned from {STARTS} starts at once")
    angle.legend(frameon=False)
    for t, plan in run.plans:
        torque.plot(time[t] + 0.05 * np.arange(len(plan)), plan, color=LIGHT)
    torque.step(time[:-1], run.torques[:, 0], where="post", color=ORANGE, label="torque; grey: plans, every tenth")
    torque.set(xlabel="seconds", ylabel="torque", ylim=(-2.2, 2.2), xlim=(0, time[-1]))
    torque.legend(frameon=False)
