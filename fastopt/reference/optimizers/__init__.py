"""The definitions of :mod:`fastopt.optimizers`."""

from fastopt.reference.optimizers.adam import Adam, AdamW
from fastopt.reference.optimizers.averages import ema_update
from fastopt.reference.optimizers.gradients import clip_grad_norm_, grad_norm, l2_penalty, summed_rows
from fastopt.reference.optimizers.rmsprop import RMSprop
from fastopt.reference.optimizers.sgd import SGD
from fastopt.reference.optimizers.single import adam_step, rmsprop_step, sgd_step
from fastopt.reference.optimizers.state import _State as _State

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "RMSprop",
    "adam_step",
    "clip_grad_norm_",
    "ema_update",
    "grad_norm",
    "l2_penalty",
    "rmsprop_step",
    "sgd_step",
    "summed_rows",
]
