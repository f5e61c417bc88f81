"""Fused training ops on NumPy arrays: one compiled pass each, the same bits as plain NumPy."""

try:
    from fastopt._core import __version__
except ModuleNotFoundError as error:
    if error.name != "fastopt._core":
        raise
    raise ImportError(
        f"fastopt._core: expected the compiled module in an installed package, got the source folder {__path__[0]}; "
        "install it from there (pip install . or make), or start Python in another folder"
    ) from None

from fastopt import activations, cem, machine, masking, optimizers, random
from fastopt import plan as plan
from fastopt import policy as policy
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
