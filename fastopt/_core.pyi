from typing import Any

import numpy as np
from numpy.typing import NDArray

__version__: str

class Optimizer:
    step_count: int
    def _bind(
        self,
        params: Any,
        groups: list[Any],
        group_of: list[int],
        names: list[str],
        arrays: list[Any],
        state_names: tuple[str, ...],
    ) -> None: ...
    def _step(self, grads: Any, grad_multiplier: float) -> None: ...

class AdamOptimizer(Optimizer):
    _maximize: bool
    _decoupled_weight_decay: bool

class SGDOptimizer(Optimizer):
    _maximize: bool

def check_array(x: Any, name: str) -> None: ...
def make_output(x: Any, x_name: str, out: Any) -> NDArray[Any]: ...
def leaky_relu(x: Any, negative_slope: float, out: Any) -> NDArray[Any]: ...
def leaky_relu_backward(grad: Any, x: Any, negative_slope: float, out: Any) -> NDArray[Any]: ...
def count_inactive(x: NDArray[Any], rows: int, columns: int) -> NDArray[np.int64]: ...
def fill_random_raw(out: NDArray[np.uint32], seed: int, stream: int, domain: int, offset: int) -> None: ...
def fill_random_uniform(out: NDArray[Any], seed: int, stream: int, domain: int, offset: int) -> None: ...
def dropout(x: Any, name: str, out: Any, p: float, seed: int, stream: int, domain: int) -> NDArray[Any]: ...
def sum_squares(x: Any, name: str) -> float: ...
def adam_step(
    param: Any,
    grad: Any,
    exp_avg: Any,
    exp_avg_sq: Any,
    step: int,
    hyper: tuple[Any, ...],
    decoupled: bool,
    maximize: bool,
    grad_multiplier: float,
) -> None: ...
def sgd_step(
    param: Any,
    grad: Any,
    momentum_buffer: Any,
    step: int,
    hyper: tuple[Any, ...],
    maximize: bool,
    grad_multiplier: float,
) -> None: ...
def stream(outs: list[Any], ins: list[Any], nontemporal: bool, grain: int = ...) -> None: ...
def get_isa() -> str: ...
def available_isas() -> list[str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
