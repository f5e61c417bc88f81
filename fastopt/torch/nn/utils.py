"""Names of `torch.nn.utils` that have compiled code here."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from fastopt import _core
from fastopt.torch.optim import base  # which finds the way to a tensor's memory

__all__ = ["clip_grad_norm_"]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_`: scale the gradients in place so that their common norm is at most max_norm.

    The norm is summed in float64 in a fixed order and rounded once, so that squares of float32 do not overflow; the
    gradients are multiplied by min(1, max_norm / (norm + 1e-6)). Gradients that are no plain tensors of float32 or
    float64 on the CPU (DTensors, those of a GPU), other norms than 2, and gradients that share memory go to torch's own
    function.

    Parameters
    ----------
    parameters : tensor, or iterable of them
        Whose ``grad`` is written; None is passed over. A sparse one counts with equal rows added up.
    max_norm : float
        May be infinity, which asks for the norm alone.
    norm_type, error_if_nonfinite, foreach
        As torch's; `foreach` changes nothing.

    Returns
    -------
    tensor
        The norm before, of no dimension, in the dtype of the gradients.

    Raises
    ------
    RuntimeError
        If the norm is NaN or infinite and may not be so; nothing is written then. Or torch's own, if elements of a
        gradient share memory, as those of an expanded one do.

    Examples
    --------
    >>> import torch
    >>> from fastopt.torch.nn.utils import clip_grad_norm_
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> clip_grad_norm_([w], 1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6000, 0.8000])
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    grads = [grad for p in parameters if (grad := p.grad) is not None]
    arrays = _core.tensor_arrays(grads, base.PLAIN) if grads and norm_type == 2 else None
    scaled = arrays
    if grads and arrays is None and norm_type == 2 and any(grad.layout == torch.sparse_coo for grad in grads):
        dense = [grad.coalesce()._values() if grad.layout == torch.sparse_coo else grad for grad in grads]
        values = [grad._values() if grad.layout == torch.sparse_coo else grad for grad in grads]
        arrays, scaled = (_core.tensor_arrays(tensors, base.PLAIN) for tensors in (dense, values))
    if arrays is None or scaled is None:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)
    norm = _core.norm(arrays, ["grads"] * len(arrays))
    if error_if_nonfinite and not math.isfinite(norm):
        raise RuntimeError(
            f"grads: expected a finite norm, got {norm}; error_if_nonfinite=False scales by it all the same"
        )
    factor = _core.clip_factor(norm, float(max_norm))
    if factor != 1:
        base.increment_version(grads)
        _core.scale(scaled, factor)
    dtypes = {grad.dtype for grad in grads}
    return torch.tensor(norm, dtype=torch.float32 if dtypes == {torch.float32} else torch.float64, device="cpu")
