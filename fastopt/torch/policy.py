"""The line search of `fastopt.policy` over the parameters of a torch model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastopt.policy import LineSearchResult
from fastopt.policy import kl_line_search as search_arrays
from fastopt.torch.optim.base import increment_version

__all__ = ["kl_line_search"]

_DTYPES = (torch.float32, torch.float64)


def kl_line_search(
    params: torch.nn.Module | Iterable[Tensor],
    direction: Sequence[Tensor | None],
    evaluate: Callable[[], tuple[float | Tensor, float | Tensor]],
    *,
    max_kl: float = 0.01,
    initial_step: float = 1.0,
    max_evaluations: int = 12,
    rng_state: Tensor | None = None,
) -> LineSearchResult:
    """Move parameters in place along a direction, as far as a policy may change, or leave them as they are.

    :func:`fastopt.policy.kl_line_search` on the memory of the parameters: its search, result, errors and promises.
    `evaluate` is called without gradients, each time from the same state of torch's generator, so that dropout has the
    same masks at every step.

    Parameters
    ----------
    params : Module or iterable of Tensor
        Of float32 or float64 on the CPU; of a module all its parameters. Written.
    direction : sequence of Tensor or None
        One for each parameter, in their order, of its shape and dtype; only read. None leaves a parameter alone.
    evaluate : callable
        ``evaluate() -> (surrogate, kl)``, numbers or tensors of one element.
    max_kl, initial_step, max_evaluations
        As there.
    rng_state : Tensor, optional
        ``torch.get_rng_state()`` from before the old policy's forward pass, whose masks `evaluate` has then: KL(old ||
        old) is 0 only with the same masks. None takes the state at this call. With one given, the generator is
        afterwards as it was; without, as after one call of `evaluate`.

    Returns
    -------
    LineSearchResult
        success, step, kl, gain, evaluations, status, message.

    Raises
    ------
    TypeError, ValueError
        If an argument, or what `evaluate` returns, is of the wrong kind or value.

    Examples
    --------
    >>> import torch, fastopt.torch.policy
    >>> logits = torch.nn.Parameter(torch.zeros(3))
    >>> old = logits.detach().log_softmax(0)
    >>> def evaluate():
    ...     new = logits.log_softmax(0)
    ...     return new[2].exp(), (old.exp() * (old - new)).sum()
    >>> result = fastopt.torch.policy.kl_line_search([logits], [torch.tensor([-1.0, -1.0, 2.0])], evaluate)
    >>> result.success, result.kl <= 0.01
    (True, True)
    """
    tensors = list(params.parameters() if isinstance(params, torch.nn.Module) else params)
    steps = list(direction)
    if len(steps) != len(tensors):
        raise ValueError(f"direction: expected {len(tensors)} tensors like params, got {len(steps)}")
    arrays = [_array(f"params[{k}]", p) for k, p in enumerate(tensors)]
    steps = [None if d is None else _array(f"direction[{k}]", d, read=True) for k, d in enumerate(steps)]
    before = torch.get_rng_state()
    replayed = before if rng_state is None else rng_state

    def measure() -> Any:
        increment_version(tensors)  # they were moved past torch
        torch.set_rng_state(replayed)
        with torch.no_grad():
            return evaluate()

    try:
        return search_arrays(
            arrays,
            steps,
            measure if callable(evaluate) else evaluate,
            max_kl=max_kl,
            initial_step=initial_step,
            max_evaluations=max_evaluations,
        )
    finally:
        increment_version(tensors)
        if rng_state is not None:
            torch.set_rng_state(before)


def _array(name: str, tensor: Any, *, read: bool = False) -> Any:
    """The memory of a tensor as an array; of a view whose numbers are stored negated a copy, which is only read."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.dtype not in _DTYPES:
        raise TypeError(
            f"{name}: expected a dense tensor of float32 or float64 on the CPU, "
            f"got {tensor.dtype} of layout {tensor.layout} on {tensor.device}"
        )
    if tensor.is_neg() and not read:
        raise TypeError(f"{name}: expected a tensor that is not a negated view; pass {name}.resolve_neg()")
    return tensor.detach().resolve_neg().numpy()
