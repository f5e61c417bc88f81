"""The names of `torch.optim` that have a compiled step here; their signatures, states and checkpoints are torch's."""

from fastopt.torch.optim.rules import SGD as SGD
from fastopt.torch.optim.rules import Adam as Adam
from fastopt.torch.optim.rules import AdamW as AdamW
from fastopt.torch.optim.rules import RMSprop as RMSprop
from fastopt.torch.optim.rules import SparseAdam as SparseAdam

__all__ = ["SGD", "Adam", "AdamW", "RMSprop", "SparseAdam"]
