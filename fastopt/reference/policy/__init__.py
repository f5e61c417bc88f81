"""The definitions of :mod:`fastopt.policy` in plain NumPy: the same names, signatures and bits.

It is to `fastopt.policy` what :mod:`fastopt.reference` is to `fastopt`. Sums along a row are taken column by column;
sums over the batch are float64 in the fixed order of :func:`fastopt.reference.ordered_sum`.
"""

from fastopt.reference.core import EXP_FLOAT32, EXP_FLOAT64, exponential, logarithm
from fastopt.reference.policy import advantage, categorical, gaussian, networks, ppo
from fastopt.reference.policy.advantage import *
from fastopt.reference.policy.categorical import *
from fastopt.reference.policy.gaussian import *
from fastopt.reference.policy.networks import *
from fastopt.reference.policy.ppo import *

__all__ = ["EXP_FLOAT32", "EXP_FLOAT64", "exponential", "logarithm"]
__all__ += advantage.__all__
__all__ += categorical.__all__
__all__ += gaussian.__all__
__all__ += networks.__all__
__all__ += ppo.__all__
