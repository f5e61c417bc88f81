"""The command line: exit statuses, what is printed, and the demo's promise that both runs have the same bits."""

import sys

import numpy as np
import pytest

import fastopt
from fastopt import bench, cli
from fastopt.demo import common, compare, digits

from ..support import run_python


@pytest.fixture
def extras():
    for name in ("sklearn", "tqdm", "matplotlib"):
        pytest.importorskip(name)


def run(capsys, *arguments):
    status = cli.main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--optimizer", "adamw", "--dropout", "0"),
        ("--optimizer", "sgd", "--lr", "0.01", "--weight-decay", "0", "--negative-slope", "0", "--seed", "3"),
        ("--negative-slope", "1.5", "--dropout", "0.9"),
    ],
)
def test_demo_has_equal_bits(extras, capsys, options):
    status, out, err = run(capsys, "demo", "--epochs", "1", *options)
    assert status == 0
    assert out.splitlines()[-1] == "bit-equal: yes"
    assert "speed-up" in out
    assert "fastopt.reference: 23 steps" in err  # not a terminal: one line instead of a bar


def test_progress_bar_on_a_terminal(extras, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with common.progress("training", 3) as tick:
        for _ in range(3):
            tick()
    err = capsys.readouterr().err
    assert "training: 100%" in err
    assert "3/3" in err


def test_demo_fails_on_unequal_bits(extras, capsys, monkeypatch):
    right, name = fastopt.bias_leaky_relu_dropout_backward, "bias_leaky_relu_dropout_backward"
    monkeypatch.setattr(fastopt, name, lambda g, y, mask, slope, out: right(g, y, mask, slope + 1e-7, out=out))
    status, out, _ = run(capsys, "demo", "--epochs", "1")
    assert status == 1
    assert out.splitlines()[-1] == "bit-equal: no"


def test_bit_equal_tells_zeros_apart():
    zero = np.zeros(3, np.float32)
    assert common.bit_equal([zero], [zero.copy()])
    assert not common.bit_equal([zero], [-zero])
    assert not common.bit_equal([zero], [zero, zero])


def test_demo_learns(extras):
    data = digits.load_digits(0)
    with common.one_blas_thread():
        result = digits.train(fastopt, data, digits.Recipe(epochs=12))
    assert result.test_accuracy >= 0.97
    assert result.train_loss[-1] < 0.3 * result.train_loss[0]
    assert len(result.dead) == 2


def test_gradients(extras):
    """In float64, against differences of the loss; dropout makes the same decisions each time."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((5, 4)), np.arange(5) % 3
    weights = [rng.standard_normal(shape) for shape in ((4, 6), (6, 7), (7, 3))]
    model = digits.Run(weights, [0.1 * rng.standard_normal(w.shape[1]) for w in weights])
    recipe = digits.Recipe(dropout=0.3, negative_slope=0.1)

    def forward():
        return digits.forward(fastopt, model, x, recipe, np.matmul, fastopt.Philox4x32(1))

    activations, masks = forward()
    grads = digits.backward(fastopt, model, activations, masks, labels, recipe, np.matmul)
    for parameters, gradients in zip((model.weights, model.biases), grads, strict=True):
        for p, g in zip(parameters, gradients, strict=True):
            for index in np.ndindex(*p.shape):
                losses = []
                for step in (1e-6, -2e-6):
                    p[index] += step
                    losses.append(digits.cross_entropy(forward()[0][-1], labels))
                p[index] += 1e-6
                assert g[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-7)


def test_demo_plots(extras, capsys, tmp_path):
    path = tmp_path / "demo.png"
    status, out, _ = run(capsys, "demo", "--epochs", "2", "--plot", str(path))
    assert status == 0
    assert f"figure: {path}" in out
    assert path.read_bytes().startswith(b"\x89PNG")


def test_compare(extras, capsys, tmp_path):
    path = tmp_path / "compare.png"
    assert compare.compare(plot=path, seeds=2, shorten=20) == 0
    out, err = capsys.readouterr()
    assert "several minutes" in err.splitlines()[0]
    assert out.count("<- best") == 2
    assert out.count("±") == 1 + (10 * 2 + 1) + (4 * 3 + 3) + 6 * 3  # the heading and the three tables
    assert path.read_bytes().startswith(b"\x89PNG")


def test_compare_takes_no_recipe(capsys):
    status, out, err = run(capsys, "demo", "--compare", "--dropout", "0.5", "--lr", "1")
    assert (status, out) == (2, "")
    assert "--lr, --dropout" in err


def test_njit_takes_no_recipe(capsys):
    status, out, err = run(capsys, "demo", "--task", "njit", "--dropout", "0", "--compare")
    assert (status, out) == (2, "")
    assert "--task njit has recipes of its own and does not take --compare, --dropout" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", "--task", "lion"),
        ("demo", "--optimizer", "lion"),
        ("demo", "--dropout", "1"),
        ("demo", "--lr", "nan"),
        ("demo", "--epochs", "0"),
        ("demo", "--epochs", "1.5"),
        ("demo", "--seed", "-1"),
        ("demo", "--plot", "figure.txt"),
        ("demo", "--plot", "no/such/folder/figure.png"),
        ("train",),
    ],
)
def test_wrong_arguments(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "error: argument" in err
    assert arguments[-1] in err or "folder" in err


@pytest.mark.parametrize("arguments", [("--help",), ("demo", "--help"), ("bench", "--help"), ("--version",)])
def test_help_and_version(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out == f"fastopt {fastopt.__version__}\n" if arguments[0] == "--version" else "usage: fastopt" in out


def test_without_a_command(capsys):
    status, out, err = run(capsys)
    assert (status, out) == (2, "")
    assert "examples:" in err


@pytest.mark.parametrize("package", ["sklearn", "tqdm", "matplotlib"])
def test_missing_extra(extras, capsys, monkeypatch, tmp_path, package):
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    status, out, err = run(capsys, "demo", "--epochs", "1", "--plot", str(tmp_path / "demo.png"))
    assert (status, out) == (2, "")
    assert err == f'fastopt demo needs {package}: pip install "fastopt[demo]"\n'


def test_another_missing_module_is_an_error(monkeypatch):
    def load_digits(seed):
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr(digits, "load_digits", load_digits)
    with pytest.raises(ModuleNotFoundError, match="other"):
        cli.main(["demo"])


def test_interrupt(capsys, monkeypatch):
    def load_digits(seed):
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "load_digits", load_digits)
    status, _, err = run(capsys, "demo")
    assert (status, err) == (130, "interrupted\n")


def test_info(capsys):
    status, out, _ = run(capsys, "info")
    assert status == 0
    assert fastopt.get_isa() in out
    assert f"{np.__version__}\n" in out


def test_bench(capsys):
    assert bench.bench(sizes=(100, 2**20), budget=0.0) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in bench._ARRAYS:
        rows = [line for line in lines if line.startswith(f"{name:<22}")]
        assert len(rows) == 2, name
        assert all(row.endswith("%") for row in rows)
    assert any("us" in line for line in lines)
    assert any("ms" in line for line in lines)


def test_import_is_light():
    """Not even the command line's own modules are imported with the package."""
    heavy = {"fastopt.cli", "fastopt.demo", "fastopt.demo.cem", "fastopt.bench"}
    heavy |= {"sklearn", "tqdm", "matplotlib", "gymnasium"}
    assert run_python(f"import sys, fastopt; print({heavy} & set(sys.modules))").strip() == "set()"
