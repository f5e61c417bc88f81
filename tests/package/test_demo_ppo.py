"""`fastopt demo --task ppo`: both learn, from the same seed, and it says so."""

import pytest

from fastopt import cli

pytest.importorskip("gymnasium")
pytest.importorskip("stable_baselines3")

from fastopt.demo import ppo


def test_command(capsys, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(ppo, "STEPS", 2048)
    monkeypatch.setattr(ppo, "EXAM", 2)
    monkeypatch.setattr(ppo, "THRESHOLD", 9)
    path = tmp_path / "ppo.png"
    assert cli.main(["demo", "--task", "ppo", "--plot", str(path)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[-1] == "solved: yes"
    assert any(line.startswith("time: ") for line in lines)
    assert captured.err.count("2048 steps") == 2
    assert path.read_bytes().startswith(b"\x89PNG")


def test_says_when_it_fails(capsys, monkeypatch):
    monkeypatch.setattr(ppo, "STEPS", 2048)
    monkeypatch.setattr(ppo, "EXAM", 1)
    monkeypatch.setattr(ppo, "THRESHOLD", 501)
    assert cli.main(["demo", "--task", "ppo"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "solved: no"
