"""All cases of equal bits and all golden outputs, collected from the families; promises/ is what they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .activations import cases as activations
from .cem import cases as cem
from .masking import cases as masking
from .optimizers import cases as optimizers
from .policy import cases as policy
from .random import cases as random
from .support import GOLDEN_SIZE, Case, digest, exact_values

CASES: dict[str, Case] = {name: case for family in (activations, masking, optimizers) for name, case in family.cases()}


def golden_outputs(dtype: Any, size: int = GOLDEN_SIZE) -> dict[str, Callable[[], Any]]:
    """For every op a call without arguments that returns its output on exact inputs."""
    x, grad = exact_values(1, size, dtype), exact_values(2, size, dtype)
    families = (activations, masking, random, optimizers, policy, cem)
    return {name: call for family in families for name, call in family.golden(x, grad).items()}


def digests(size: int = GOLDEN_SIZE) -> dict[str, str]:
    """The digest of every op in float32."""
    return {name: digest(call()) for name, call in golden_outputs(np.float32, size).items()}
