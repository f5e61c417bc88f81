"""The ``fastopt`` command: demo, bench and info."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import fastopt

_EXTRAS = {  # package -> the extra that installs it
    **dict.fromkeys(("sklearn", "threadpoolctl", "tqdm", "matplotlib", "gymnasium"), "demo"),
    **dict.fromkeys(("numba", "scipy"), "numba"),
    "torch": "torch",
    "stable_baselines3": "sb3",
}

_EXAMPLES = """\
examples:
  fastopt demo                                   train on handwritten digits both ways and compare the bits
  fastopt demo --optimizer sgd --plot demo.png   the same with SGD, and a figure
  fastopt demo --compare --plot compare.png      what Adam, L2, dropout and the leaky slope are good for
  fastopt demo --task cem                        learn CartPole-v1 by the cross-entropy method
  fastopt demo --task policy-gradient            learn CartPole-v1 by policy gradients, with a limit on the KL
  fastopt demo --task plan                       swing up and hold Pendulum-v1 by planning
  fastopt demo --task njit                       a training loop inside one @njit function against the same in Python
  fastopt demo --task ppo                        learn CartPole-v1 by PPO, Stable-Baselines3's and ours from one seed
  fastopt demo --task torch                      the digits in torch: its own code, our Adam, our layers too
  fastopt bench                                  each op against NumPy and against this machine's memory
  fastopt info                                   versions, CPU, instruction set, threads
"""

_DEMO = """\
Train a multilayer perceptron on scikit-learn's handwritten digits, once on fastopt.reference (plain NumPy) and once on
the compiled kernels, from the same seed. Prints losses, accuracy and times of both; the last line says whether the two
sets of trained parameters are equal bit by bit, and the exit status is 1 when they are not.

--task names another thing to learn. --compare and --task policy-gradient take several minutes. The exit
status is 1 when a promise is not kept: equal bits, or a task solved.
"""

_BENCH = """\
Time each op in float32, once on arrays that fit the cache and once on arrays that do not, against NumPy and against
moving the same bytes without any arithmetic. Takes up to a minute.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        extra = _EXTRAS[package]
        print(f'fastopt {options.command} needs {package}: pip install "fastopt[{extra}]"', file=sys.stderr)
        return 2
    return status


def _demo(options: argparse.Namespace) -> int:
    given = [name for name in ("compare", "plot", "optimizer", *_RECIPE) if getattr(options, name) is not None]
    own, taken = "", given
    if options.compare:
        own, taken = "--compare", ["compare", "plot"]
    if options.task != "digits":
        own, taken = f"--task {options.task}", _TASKS[options.task].takes
    others = [f"--{name.replace('_', '-')}" for name in given if name not in taken]
    if others:
        print(f"fastopt demo: {own} has recipes of its own and does not take {', '.join(others)}", file=sys.stderr)
        return 2
    if options.task != "digits":
        return _TASKS[options.task].run(options)
    if options.compare:
        from fastopt.demo.compare import compare

        return compare(seed=options.seed, plot=options.plot)
    from fastopt.demo.digits import Recipe, digits

    recipe = Recipe.for_optimizer(
        options.optimizer,
        seed=options.seed,
        **{name: getattr(options, name) for name in _RECIPE if getattr(options, name) is not None},
    )
    return digits(recipe, plot=options.plot)


def _cem(options: argparse.Namespace) -> int:
    from fastopt.demo import cem

    return cem.cartpole(options.seed, options.plot)


def _njit(options: argparse.Namespace) -> int:
    from fastopt.demo import njit

    return njit.main(options.seed, plot=options.plot)


def _plan(options: argparse.Namespace) -> int:
    from fastopt.demo import plan

    return plan.pendulum(options.seed, options.plot)


def _policy_gradient(options: argparse.Namespace) -> int:
    from fastopt.demo import policy_gradient

    return policy_gradient.cartpole(options.seed, options.plot, options.dropout or 0.0)


def _ppo(options: argparse.Namespace) -> int:
    from fastopt.demo import ppo

    return ppo.cartpole(options.seed, options.plot)


def _torch(options: argparse.Namespace) -> int:
    from fastopt.demo import torch

    return torch.main(options.seed, options.plot, options.epochs)


class _Task(NamedTuple):
    run: Callable[[argparse.Namespace], int]
    takes: list[str]  # options besides --seed
    help: str


_TASKS = {  # besides the handwritten digits
    "cem": _Task(_cem, ["plot"], "CartPole-v1 by the cross-entropy method"),
    "njit": _Task(_njit, ["plot"], "a small network trained inside one @njit function, and by the same loop in Python"),
    "plan": _Task(_plan, ["plot"], "Pendulum-v1 by planning, with its equations and with a learnt model"),
    "policy-gradient": _Task(
        _policy_gradient, ["plot", "dropout"], "CartPole-v1 from ten seeds, plain and with a limit on the KL"
    ),
    "ppo": _Task(_ppo, ["plot"], "CartPole-v1 by PPO, of Stable-Baselines3 and of fastopt.sb3"),
    "torch": _Task(_torch, ["plot", "epochs"], "the digits in torch: its own code, our Adam, our layers too"),
}


def _bench(_: argparse.Namespace) -> int:
    from fastopt.bench import bench

    return bench()


def _info(_: argparse.Namespace) -> int:
    fastopt.show_config()
    return 0


_RECIPE = ("lr", "weight_decay", "dropout", "negative_slope", "epochs")


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="fastopt", description=fastopt.__doc__, epilog=_EXAMPLES, formatter_class=layout
    )
    parser.add_argument("--version", action="version", version=f"fastopt {fastopt.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="{demo,bench,info}")

    demo = commands.add_parser(
        "demo",
        help="train on handwritten digits, in NumPy and on the kernels",
        description=_DEMO,
        formatter_class=layout,
    )
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--task",
        choices=("digits", *_TASKS),
        default="digits",
        help="; ".join(f"{name}: {task.help}" for name, task in _TASKS.items()) + "; default: digits",
    )
    demo.add_argument(
        "--compare",
        action="store_true",
        default=None,
        help="instead, over several seeds and on the kernels only: SGD against Adam, L2 and dropout, dead units",
    )
    demo.add_argument("--plot", type=_figure, metavar="FILE.png", help="write a figure too")
    demo.add_argument("--seed", type=_number(int, 0, below=2**32), default=0, help="default: 0")
    recipe = demo.add_argument_group(
        "recipe (not with --compare or --task, which have their own; --task policy-gradient takes --dropout, "
        "--task torch --epochs)"
    )
    recipe.add_argument("--optimizer", choices=("adam", "adamw", "sgd"), help="default: adam; sgd has momentum 0.9")
    recipe.add_argument("--lr", type=_number(float, 0), help="learning rate; default: 1e-3, with sgd 0.02")
    recipe.add_argument("--epochs", type=_number(int, 1), help="default: 100")
    recipe.add_argument("--dropout", type=_number(float, 0, below=1), metavar="P", help="default: 0.25")
    recipe.add_argument(
        "--weight-decay",
        type=_number(float, 0),
        metavar="L",
        help="L2 penalty of the weights, default: 1e-4; with adamw 1e-2",
    )
    recipe.add_argument(
        "--negative-slope", type=_number(float, 0), metavar="S", help="of the leaky ReLU, 0 is the ReLU; default: 0.01"
    )

    bench = commands.add_parser(
        "bench", help="time each op on this machine", description=_BENCH, formatter_class=layout
    )
    bench.set_defaults(run=_bench)
    info = commands.add_parser("info", help="print versions, CPU, instruction set and threads")
    info.set_defaults(run=_info)
    return parser


def _number(kind: Callable[[str], float], least: float, below: float = math.inf) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value < below:
            limit = f" and < {below:g}" if below < math.inf else ""
            raise argparse.ArgumentTypeError(f"expected {kind.__name__} >= {least:g}{limit}, got {text!r}")
        return value

    return convert


def _figure(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"expected a name that ends in .png, .svg or .pdf, got {text!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder that exists, got {str(path.parent)!r}")
    return path
