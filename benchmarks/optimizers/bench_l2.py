"""The L2 penalty. NumPy and torch add up in the arrays' own dtype, in any order; fastopt in float64, in a fixed one."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import Array, Call, Case, Op, cases, from_numpy, torch

import fastopt
from fastopt import reference

WEIGHT_DECAY = 1e-2


class L2Penalty(Op):
    name = "l2_penalty"
    one_thread = frozenset({"reference"})  # the BLAS that np.dot calls has threads of its own
    exact = frozenset({"reference", "fastopt"})
    rtol = 1e-3  # 2^24 squares added up in float32

    def __init__(self, dtype: type, size: int) -> None:
        super().__init__(dtype, size)
        self.x = self.normal(1)

    def traffic(self) -> tuple[list[Array], list[Array]]:
        return [], [self.x]

    def result(self, returned: Any) -> list[Array]:
        return [np.asarray(returned, np.float64)]

    def reference(self) -> Call:
        return partial(reference.l2_penalty, self.x, WEIGHT_DECAY)

    def numpy(self) -> Call:
        return lambda: 0.5 * WEIGHT_DECAY * np.dot(self.x, self.x)

    def torch(self) -> Call:
        (x,) = from_numpy(self.x)
        return lambda: 0.5 * WEIGHT_DECAY * torch.dot(x, x)

    def fastopt(self) -> Call:
        return partial(fastopt.l2_penalty, self.x, WEIGHT_DECAY)


@pytest.mark.parametrize("case", cases(L2Penalty), ids=str)
def test_l2(case: Case, race: Any) -> None:
    race(case)
