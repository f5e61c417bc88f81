"""The demo in torch: the same curve with either optimiser, and what is printed."""

from __future__ import annotations

import pytest

from fastopt import cli

for needed in ("torch", "sklearn", "tqdm"):
    pytest.importorskip(needed)

demo_torch = pytest.importorskip("fastopt.demo.torch")


def test_the_curves_are_the_same(capsys):
    assert cli.main(["demo", "--task", "torch", "--epochs", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("same curve: yes (our Adam: at most ")
    assert lines[-1].startswith("as good: yes")
    assert sum(line.endswith(" x") for line in lines) == 4
    (losses,) = (line.split()[4:] for line in lines if line.startswith("training loss, last"))
    assert abs(float(losses[0]) - float(losses[1])) < 1e-5 < abs(float(losses[0]) - float(losses[2]))


def test_another_curve_is_told(capsys, monkeypatch):
    made = demo_torch.groups
    rates = iter((1e-3, 1e-2, 1e-3))
    monkeypatch.setattr(demo_torch, "groups", lambda *a: [{**g, "lr": lr} for lr in [next(rates)] for g in made(*a)])
    assert demo_torch.main(epochs=1) == 1
    assert capsys.readouterr().out.splitlines()[-2].startswith("same curve: no")


def test_layers_that_learn_less_are_told(capsys, monkeypatch):
    fused = demo_torch.with_our_layers

    def dead(model):
        model = fused(model)
        model[1].p = 1.0
        return model

    monkeypatch.setattr(demo_torch, "with_our_layers", dead)
    assert demo_torch.main(epochs=2) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("as good: no")


def test_it_learns_and_plots(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    assert cli.main(["demo", "--task", "torch", "--epochs", "5", "--plot", str(tmp_path / "torch.png")]) == 0
    accuracy = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("test accuracy"))
    assert float(accuracy.split()[-1].rstrip("%")) > 90
    assert (tmp_path / "torch.png").stat().st_size > 10_000


def test_options_that_it_does_not_take(capsys):
    assert cli.main(["demo", "--task", "torch", "--lr", "1"]) == 2
    assert "does not take --lr" in capsys.readouterr().err
