"""All cases of equal bits and all golden outputs, collected from the families; promises/ is what they are for."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from .activations import cases as activations
from .cem import cases as cem
from .masking import cases as masking
from .optimizers import cases as optimizers
from .plan import cases as plan
from .policy import cases as policy
from .random import cases as random
from .support import GOLDEN_SIZE, Case, digest, exact_values

FAMILIES = (activations, masking, random, optimizers, policy, cem, plan)
CASES: dict[str, Case] = {name: case for family in (activations, masking, optimizers) for name, case in family.cases()}


def _word(family: ModuleType) -> str:
    return family.__name__.split(".")[-2]


# With the family's word in front, by which pytest -k chooses.
CASE_IDS = [f"{_word(family)}: {name}" for family in (activations, masking, optimizers) for name, _ in family.cases()]


def golden_outputs(dtype: Any, size: int = GOLDEN_SIZE) -> dict[str, Callable[[], Any]]:
    """For every op a call without arguments that returns its output on exact inputs."""
    return {name: call for calls in _golden(dtype, size).values() for name, call in calls.items()}


def _golden(dtype: Any, size: int) -> dict[str, dict[str, Callable[[], Any]]]:
    x, grad = exact_values(1, size, dtype), exact_values(2, size, dtype)
    return {_word(family): family.golden(x, grad) for family in FAMILIES}


def golden_ids() -> dict[str, str]:
    """The family's word and the name, of every op."""
    return {name: f"{family}: {name}" for family, calls in _golden(np.float32, 8).items() for name in calls}


def digests(size: int = GOLDEN_SIZE) -> dict[str, str]:
    """The digest of every op in float32."""
    return {name: digest(call()) for name, call in golden_outputs(np.float32, size).items()}
