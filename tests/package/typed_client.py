"""Every public name as typed code uses it. `make lint` checks it with strict type checkers, `test_types.py` runs it."""

from __future__ import annotations

import io
import pickle
from contextlib import redirect_stdout
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastopt
from fastopt import plan, policy
from fastopt.cem.result import Result
from fastopt.optimizers import ParamGroup

Floats = NDArray[np.float64]


def ops(x: Floats) -> None:
    assert_type(fastopt.leaky_relu(x, 0.1, out=np.empty_like(x)), NDArray[Any])
    assert_type(fastopt.leaky_relu_backward(x, x), NDArray[Any])
    assert_type(fastopt.tanh_backward(x, fastopt.tanh(x, out=np.empty_like(x))), NDArray[Any])
    _, db = fastopt.bias_tanh_backward(x, fastopt.bias_tanh(x, x[0].copy()))
    assert_type(db, NDArray[Any])
    assert_type(fastopt.inactive_fraction(x, axis=(0, 1)), NDArray[np.float64])
    y, mask = fastopt.dropout(x, 0.25, rng=fastopt.Philox4x32(1))
    assert_type(mask, fastopt.DropoutMask)
    assert_type(mask.shape, tuple[int, ...])
    assert_type(mask.to_array(), NDArray[np.bool])
    fastopt.dropout_backward(y, mask, out=y)
    y, mask = fastopt.bias_leaky_relu_dropout(x, x[0].copy(), 0.1, 0.5, rng=(1, 2))
    dx, dbias = fastopt.bias_leaky_relu_dropout_backward(x, y, mask, 0.1)
    assert_type((dx, dbias), tuple[NDArray[Any], NDArray[Any]])


def random() -> None:
    rng = fastopt.Philox4x32(7)
    assert_type(rng.integers(0, 6, size=3), Any)
    assert_type(rng.permutation(5), NDArray[Any])
    assert_type(rng.spawn(2), list[fastopt.Philox4x32])
    assert_type(rng.seed, int)
    rng.state = rng.state
    rng.random(3)
    rng.standard_normal((2, 3), dtype=np.float32)
    rng.random_raw(4)


def optimisers(w: Floats, grad: Floats) -> None:
    adam = fastopt.Adam({"w": w}, lr=1e-2, betas=(0.9, 0.99), amsgrad=True, max_grad_norm=1.0, ema_decay=0.5)
    assert_type(adam.step({"w": grad}, grad_multiplier=0.5, zero_grads=False), None)
    assert_type(adam.grad_norm, float | None)
    assert_type(adam.step_count, int)
    assert_type(adam.skipped_steps, int)
    assert_type(adam.lr, float)
    adam.lr = 1e-3
    assert_type(adam.ema_params["w"], Any)
    assert_type(adam.params["w"], Any)
    assert_type(adam.param_groups[0], ParamGroup)
    adam.param_groups[0].update(weight_decay=0.1)
    adam.param_groups[0].setdefault("initial_lr", 1e-3)
    assert_type(adam.add_param_group({"params": np.ones(2), "lr": 0.5}), None)
    fastopt.AdamW({"w": w}, weight_decay=lambda path, p: 0.01 if p.ndim > 1 else 0.0)
    assert_type(adam.state_dict(), dict[str, Any])
    adam.load_state_dict(adam.state_dict())
    fastopt.AdamW([{"params": w, "weight_decay": 0.0}], state_dtype="bfloat16", rng=1).step([grad])
    rows = fastopt.SparseRows(np.array([0, 2]), np.ones((2, 3)))
    assert_type(rows.indices, NDArray[Any])
    fastopt.SGD([w], momentum=0.0).step([rows])
    fastopt.RMSprop([w], momentum=0.5, centered=True).step([grad])
    fastopt.adam_step(w, grad, np.zeros_like(w), np.zeros_like(w), step=1)
    fastopt.rmsprop_step(w, grad, np.zeros_like(w), alpha=0.9)
    fastopt.sgd_step(w, grad, None, 1)
    fastopt.ema_update(np.zeros_like(w), w, 0.5)
    assert_type(fastopt.grad_norm([grad, None, rows]), float)
    assert_type(fastopt.clip_grad_norm_({"w": grad}, 1.0), float)
    assert_type(fastopt.l2_penalty({"w": w, "b": (w,)}, 0.1), float)


def search() -> None:
    def sphere(x: Floats) -> float:
        return float(np.square(x).sum())

    result = fastopt.minimize_cem(sphere, np.ones(2), 1.0, maxiter=3, rng=0)
    assert_type(result, Result)
    assert_type(result.x, NDArray[Any])
    assert_type(result.fun, float)
    assert_type(result.nit, int)
    assert_type(result.nfev, int)
    assert_type(result.success, bool)
    assert_type(result.status, int)
    assert_type(result.message, str)
    assert_type(result.history, dict[str, NDArray[Any]])
    assert_type(result.settings, dict[str, Any])
    assert_type(result["x"], Any)
    assert_type(result.candidate(0, 1), NDArray[Any])
    assert_type(result.copy(), Result)
    pickle.loads(pickle.dumps(result))
    cem = fastopt.CEM([0.0, 1.0], 1.0, bounds=[(-1, 2), (-1, 2)], rng=0)
    while cem.stop() is None and cem.generation < 2:
        assert_type(cem.tell([sphere(x) for x in cem.ask()]), bool)
    assert_type(cem.popsize, int)
    assert_type(cem.mean, NDArray[Any])
    assert_type(cem.fun, float)
    assert_type(cem.result(), Result)
    assert_type(fastopt.CEM.from_dict(cem.to_dict(), maxiter=5), fastopt.CEM)


def planning() -> None:
    planner = plan.CEMPlanner(5, 2, bounds=[(-1, 1)], popsize=20, noise_beta=2.0, mean_lr=[0.9, 0.5], rng=0)
    assert_type(planner.plan(lambda x: np.abs(x).sum(axis=(1, 2)), inject=np.zeros((1, 5, 2))), NDArray[Any])
    planner.shift()
    while not planner.tell(np.abs(planner.ask()).sum(axis=(1, 2))):
        assert_type(planner.iteration, int)
    assert_type(planner.mean, NDArray[Any])
    assert_type(planner.candidate(0, 1), NDArray[Any])
    planner.reset()
    assert_type(plan.CEMPlanner.from_dict(planner.to_dict()), plan.CEMPlanner)


def policies(logits: Floats) -> None:
    rewards = np.ones((3, 2))
    ends = np.zeros((3, 2), bool)
    actions = policy.categorical_sample(logits, fastopt.Philox4x32(1))
    assert_type(actions, NDArray[np.int64])
    assert_type(policy.categorical_kl(logits, logits), float)
    policy.categorical_log_prob(logits, actions)
    policy.categorical_entropy(logits)
    loss, dlogits = policy.categorical_policy_gradient(logits, actions, np.ones(len(logits)), entropy_coef=0.1)
    assert_type(loss, float)
    log_std = np.zeros(logits.shape[-1])
    drawn = policy.gaussian_sample(logits, log_std, (1, 2))
    policy.gaussian_log_prob(logits, log_std, drawn)
    policy.gaussian_entropy(log_std)
    assert_type(policy.gaussian_kl(logits, log_std, logits, log_std), float)
    policy.gaussian_policy_gradient(logits, log_std, drawn, np.ones(len(logits)))
    batch = (np.ones(len(logits)),) * 4
    _, dlogits, dvalues, stats = policy.categorical_ppo_loss(logits, actions, *batch, entropy_coef=0.1)
    assert_type(stats.approx_kl, float)
    several = policy.categorical_ppo_loss([logits, logits], np.stack([actions, actions], axis=-1), *batch)
    assert_type(several[1], list[NDArray[Any]])
    assert_type(policy.gaussian_ppo_loss(logits, log_std, drawn, *batch, valid=dvalues == 0)[4], policy.PPOStats)
    policy.vtrace(rewards, rewards, rewards, rewards, ends, ends, 0.9, lam=0.5, rho_clip=2.0)
    policy.discounted_returns(rewards, ends, ends, 0.9, next_values=rewards)
    advantages, returns = policy.gae(rewards, rewards, rewards, ends, ends, gamma=0.9, lam=0.5, valid=~ends)
    policy.normalize_advantage(advantages, ddof=1, out=returns)
    layers = [(np.ones((logits.shape[1], 4)), np.zeros(logits.shape[1]))]
    outputs = policy.perceptron(np.ones((len(logits), 4)), layers, activation="leaky_relu", negative_slope=0.1)
    policy.perceptron_backward(outputs[-1], np.ones((len(logits), 4)), outputs, layers)
    critic = [(np.ones((1, 4)), np.zeros(1))]
    chosen, _, _ = policy.categorical_act(np.ones((len(logits), 4)), layers, critic, np.ones_like(logits))
    assert_type(chosen, NDArray[np.int64])
    policy.gaussian_act(np.ones((len(logits), 4)), layers, critic, log_std, logits)
    moved = policy.kl_line_search([logits], [dlogits], lambda: (0.0, 0.0), max_kl=0.1)
    assert_type(moved, policy.LineSearchResult)
    assert_type(moved.success, bool)


def machine() -> None:
    assert_type(fastopt.get_isa(), str)
    assert_type(fastopt.get_num_threads(), int)
    fastopt.set_num_threads(fastopt.get_num_threads())
    with fastopt.num_threads(1):
        pass
    with redirect_stdout(io.StringIO()):
        fastopt.show_config()
    assert_type(fastopt.__version__, str)


def main() -> None:
    x = np.arange(12.0).reshape(4, 3) - 5
    ops(x)
    random()
    optimisers(x.copy(), np.ones_like(x))
    search()
    planning()
    policies(x)
    machine()


if __name__ == "__main__":
    main()
