"""The demo inside @njit: the bits of the same source run by Python, and the text that users copy."""

from __future__ import annotations

import inspect
import re

import pytest

import fastopt
from fastopt import cli

from ..support import TESTS

pytest.importorskip("numba")
pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")

from fastopt.demo import njit as demo_njit


def test_the_three_have_equal_bits(capsys):
    assert demo_njit.main(seed=3, steps=5) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "bit-equal: yes"
    assert sum(line.endswith(" x") for line in lines) == 3


def test_it_plots(capsys, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    path = tmp_path / "njit.png"
    monkeypatch.setattr(demo_njit.main, "__defaults__", (0, 5, None))
    assert cli.main(["demo", "--task", "njit", "--plot", str(path)]) == 0
    assert f"figure: {path}" in capsys.readouterr().out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_unequal_bits_are_told(capsys, monkeypatch):
    monkeypatch.setattr(demo_njit, "train_in_numpy", lambda *arguments: demo_njit.train(*arguments[:-1], 1))
    monkeypatch.setattr(demo_njit.main, "__defaults__", (0, 5, None))
    assert cli.main(["demo", "--task", "njit"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "bit-equal: no"


def test_it_learns():
    params, x, target = demo_njit.problem(0)
    losses = demo_njit.train(params, x, target, 2000, 32, 1e-3, 0.1, 0)
    assert losses[-100:].mean() < 0.15 * losses[:10].mean()
    other = fastopt.Philox4x32(1).standard_normal((500, 4), dtype="float32")
    assert demo_njit.train(params, other, target[:500], 1, 32, 0.0, 0.0, 0)[0] > 0.5  # the targets belong to x


def test_the_page_shows_the_function():
    page = (TESTS.parent / "docs" / "njit.md").read_text()
    for function in (demo_njit.layers, demo_njit.train):
        source = inspect.getsource(function.py_func)
        plain = re.sub(r"(\w+): (?:Array|int|float)\b", r"\1", re.sub(r"\) -> .*:", "):", source))
        assert plain in page
