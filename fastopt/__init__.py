"""Fused training ops on NumPy arrays: one compiled pass each, the same bits as plain NumPy."""

from fastopt import activations, cem, machine, masking, optimizers, random
from fastopt import policy as policy
from fastopt._core import __version__
from fastopt.activations import *
from fastopt.cem import *
from fastopt.machine import *
from fastopt.masking import *
from fastopt.optimizers import *
from fastopt.random import *

__all__ = ["__version__"]
__all__ += activations.__all__
__all__ += cem.__all__
__all__ += machine.__all__
__all__ += masking.__all__
__all__ += optimizers.__all__
__all__ += random.__all__
