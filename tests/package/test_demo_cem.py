"""`fastopt demo --task cem`: episodes are counted right, it learns, and it says so."""

import sys

import numpy as np
import pytest

from fastopt import cli

pytest.importorskip("gymnasium")

from fastopt.demo import cem as demo_cem

GOOD = [0.0, 1.0, 2.0, 3.0, 0.0]
ALWAYS_RIGHT = [0.0, 0.0, 0.0, 0.0, 1.0]


def test_episodes_of_many_policies_at_once():
    """A policy that falls does so within 8 to 11 steps, once; its neighbours go on for the 500 of an episode."""
    returns = demo_cem.CartPole(3).play(np.array([GOOD, ALWAYS_RIGHT, GOOD, ALWAYS_RIGHT]))
    assert returns[[0, 2]].tolist() == [500, 500]
    assert all(8 <= r <= 11 for r in returns[[1, 3]])


def test_starts_are_fresh_and_repeatable():
    falling = np.array([ALWAYS_RIGHT] * 50)
    task = demo_cem.CartPole(1)
    first, second = task.play(falling), task.play(falling)
    assert len(set(first)) > 1
    assert (first != second).any()
    np.testing.assert_array_equal(first, demo_cem.CartPole(1).play(falling))


def test_learns_to_the_threshold(capsys):
    runs = [demo_cem.train(5) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].policy, runs[1].policy)
    run = runs[0]
    assert demo_cem.exam(run.policy, 5) >= demo_cem.THRESHOLD
    assert run.mean_returns[0] < 100
    assert run.mean_returns[-1] >= demo_cem.GOOD
    assert run.episodes[-1] == sum(len(r) + demo_cem.CHECK for r in run.returns) < 1500


def test_command(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "cem.png"
    assert cli.main(["demo", "--task", "cem", "--seed", "2", "--plot", str(path)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[-1] == "solved: yes"
    assert any(line.startswith("episodes: ") for line in lines)
    assert any(line.startswith("time: ") for line in lines)
    assert captured.err.startswith("generation   1:    46 episodes")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_says_when_it_fails(capsys, monkeypatch):
    monkeypatch.setattr(demo_cem, "GENERATIONS", 1)
    assert cli.main(["demo", "--task", "cem"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "solved: no"


def test_takes_no_recipe(capsys):
    assert cli.main(["demo", "--task", "cem", "--dropout", "0.5", "--compare"]) == 2
    err = capsys.readouterr().err
    assert err == "fastopt demo: --task cem has recipes of its own and does not take --compare, --dropout\n"


def test_missing_gymnasium(capsys, monkeypatch):
    for name in ["gymnasium", *(name for name in sys.modules if name.startswith("gymnasium."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["demo", "--task", "cem"]) == 2
    assert capsys.readouterr().err == 'fastopt demo needs gymnasium: pip install "fastopt[demo]"\n'
