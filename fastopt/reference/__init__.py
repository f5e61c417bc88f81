"""The definition of every op, in plain NumPy: each public name of fastopt with the same signature and the same bits.

This is what the compiled kernels are tested against and what the benchmarks call the naive way. It is written to be
read; it allocates freely and checks little. Where the order of the operations matters for the bits, the order written
here is the definition. The names of :mod:`fastopt.policy` are in :mod:`fastopt.reference.policy`,
that of :mod:`fastopt.plan` is in :mod:`fastopt.reference.plan`.
"""

from fastopt.reference import activations, cem, core, masking, optimizers, random
from fastopt.reference import plan as plan
from fastopt.reference import policy as policy
from fastopt.reference.activations import *
from fastopt.reference.cem import *
from fastopt.reference.core import *
from fastopt.reference.masking import *
from fastopt.reference.optimizers import *
from fastopt.reference.optimizers import _State as _State
from fastopt.reference.random import *

__all__: list[str] = []
__all__ += activations.__all__
__all__ += cem.__all__
__all__ += core.__all__
__all__ += masking.__all__
__all__ += optimizers.__all__
__all__ += random.__all__
