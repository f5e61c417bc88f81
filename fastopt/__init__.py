"""Fused training ops on NumPy arrays: one compiled pass each, the same bits as plain NumPy."""

from fastopt import policy as policy
from fastopt._core import __version__
from fastopt._tree import SparseRows
from fastopt.activations import inactive_fraction, leaky_relu, leaky_relu_backward
from fastopt.cem import CEM, minimize_cem
from fastopt.machine import get_isa, get_num_threads, num_threads, set_num_threads, show_config
from fastopt.masking import (
    DropoutMask,
    bias_leaky_relu_dropout,
    bias_leaky_relu_dropout_backward,
    dropout,
    dropout_backward,
)
from fastopt.optimizers import (
    SGD,
    Adam,
    AdamW,
    adam_step,
    clip_grad_norm_,
    ema_update,
    grad_norm,
    l2_penalty,
    sgd_step,
)
from fastopt.random import Philox4x32

__all__ = [
    "CEM",
    "SGD",
    "Adam",
    "AdamW",
    "DropoutMask",
    "Philox4x32",
    "SparseRows",
    "__version__",
    "adam_step",
    "bias_leaky_relu_dropout",
    "bias_leaky_relu_dropout_backward",
    "clip_grad_norm_",
    "dropout",
    "dropout_backward",
    "ema_update",
    "get_isa",
    "get_num_threads",
    "grad_norm",
    "inactive_fraction",
    "l2_penalty",
    "leaky_relu",
    "leaky_relu_backward",
    "minimize_cem",
    "num_threads",
    "set_num_threads",
    "sgd_step",
    "show_config",
]
