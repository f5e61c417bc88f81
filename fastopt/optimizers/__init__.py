"""Adam, AdamW, RMSprop and SGD: updated in place, one compiled pass over all parameters."""

from fastopt._tree import SparseRows
from fastopt.optimizers.adam import Adam, AdamW
from fastopt.optimizers.averages import ema_update
from fastopt.optimizers.gradients import clip_grad_norm_, grad_norm, l2_penalty
from fastopt.optimizers.groups import ParamGroup as ParamGroup
from fastopt.optimizers.rmsprop import RMSprop
from fastopt.optimizers.sgd import SGD
from fastopt.optimizers.single import adam_step, rmsprop_step, sgd_step

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "RMSprop",
    "SparseRows",
    "adam_step",
    "clip_grad_norm_",
    "ema_update",
    "grad_norm",
    "l2_penalty",
    "rmsprop_step",
    "sgd_step",
]
