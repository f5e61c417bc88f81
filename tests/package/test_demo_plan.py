"""`fastopt demo --task plan`: the equations are Gymnasium's, both forms of the cost agree, and the pendulum is held."""

import numpy as np
import pytest

from fastopt import cli

gymnasium = pytest.importorskip("gymnasium")

from fastopt.demo import plan as demo_plan  # noqa: E402


def test_the_equations_are_those_of_gymnasium():
    env = gymnasium.make(demo_plan.TASK).unwrapped
    env.reset(seed=0)
    for start in np.random.default_rng(0).uniform(-3, 3, (20, 2)):
        env.state, torque = start.copy(), np.float32([start.sum() / 4])
        charged = -float(env.step(torque)[1])
        angle, speed = demo_plan.step(start[0], start[1], np.float64(torque[0]))
        np.testing.assert_allclose(env.state, [angle, speed], rtol=1e-6)  # it multiplies the torque in float32
        one = demo_plan.costs(demo_plan.step, start[None], torque.reshape(1, 1, 1, 1))
        np.testing.assert_allclose(one, charged, rtol=1e-6)


def test_the_compiled_cost_is_the_same():
    pytest.importorskip("numba")
    plans = np.random.default_rng(1).uniform(-2, 2, (5, 30, 1)).astype(np.float32)
    state = np.array([[2.5, -1.0]])
    ours, theirs = demo_plan.compiled_costs()(plans, 2.5, -1.0), demo_plan.costs(demo_plan.step, state, plans[None])[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_the_learnt_model_is_near_the_equations():
    model = demo_plan.learnt(0, steps=1500)
    angle, speed, torque = np.random.default_rng(5).uniform([[-3], [-7], [-2]], [[3], [7], [2]], (3, 200))
    errors = np.abs(model(angle, speed, torque)[1] - demo_plan.step(angle, speed, torque)[1])
    assert np.median(errors) < 0.03


def test_command(capsys, tmp_path, monkeypatch):
    """A few starts and the time to swing up suffice here; a step of the learnt model takes ten times as long."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(demo_plan, "learnt", lambda seed: demo_plan.step)
    monkeypatch.setattr(demo_plan, "STARTS", 2)
    monkeypatch.setattr(demo_plan, "STEPS", 120)
    monkeypatch.setattr(demo_plan, "HELD", 10)
    monkeypatch.setattr(demo_plan, "decisions_a_second", lambda: 1.0)
    path = tmp_path / "plan.png"
    assert cli.main(["demo", "--task", "plan", "--plot", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "solved: yes"
    assert sum("2 of 2 held upright" in line for line in lines) == 2
    assert path.read_bytes().startswith(b"\x89PNG")


def test_says_when_it_fails(capsys, monkeypatch):
    monkeypatch.setattr(demo_plan, "STARTS", 2)
    monkeypatch.setattr(demo_plan, "STEPS", 2)
    monkeypatch.setattr(demo_plan, "HELD", 2)
    monkeypatch.setattr(demo_plan, "decisions_a_second", lambda: 1.0)
    assert cli.main(["demo", "--task", "plan"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "solved: no"
