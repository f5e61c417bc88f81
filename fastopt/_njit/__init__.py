"""The public names inside ``@njit``, loaded by Numba through its entry point ``numba_extensions`` and by no one else.

Each op is an overload: it checks kinds, dtypes and layouts when it is compiled; its implementation checks shapes and
numbers when it runs, and calls a function of kernels/core/njit.cpp by name. How to add one: kernels/README.md.
"""

import sys

from fastopt._njit.checks import Refused as Refused

# Numba's caches name the modules that their code came from, and import them: so the names of these modules stay, and
# those that there were before are found.
FORMER = ("fastopt._numba", "fastopt._numba_policy")


def init():
    """Numba calls this: the overloads are made when the files of the families are imported."""
    from fastopt._njit import activations, masking, networks, optimizers, policy, ppo, random  # noqa: F401

    for name in FORMER:
        sys.modules[name] = sys.modules[__name__]
