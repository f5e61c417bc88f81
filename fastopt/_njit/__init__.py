"""The public names inside ``@njit``, loaded by Numba through its entry point ``numba_extensions`` and by no one else.

Each op is an overload: it checks kinds, dtypes and layouts when it is compiled; its implementation checks shapes and
numbers when it runs, and calls a function of kernels/core/njit.cpp by name. How to add one: kernels/README.md.
"""

from fastopt._njit.checks import Refused as Refused


def init():
    """Numba calls this: the overloads are made when the files of the families are imported."""
    from fastopt._njit import activations, masking, optimizers, policy, random  # noqa: F401
