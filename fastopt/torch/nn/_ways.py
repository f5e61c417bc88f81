"""How a tensor reaches the kernels, and where a call's random numbers come from."""

from __future__ import annotations

import enum
import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastopt import _core

_PLAIN = (Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.float64)
_ADDRESSES = 2**62  # as in kernels/masking/tensors.pxi

_compiling = torch.compiler.is_dynamo_compiling
_transformed = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack
_traced = torch._C._get_tracing_state

_core.run_at_once(_PLAIN, (_transformed, _modes, _traced), forward_ad)


class Way(enum.Enum):
    """How an op is run on a tensor."""

    DIRECT = "the kernel at once, or by an autograd.Function where gradients are wanted"
    TRANSFORMED = "an autograd.Function, as torch.func and forward mode want it"
    DISPATCHED = "an operator of torch.library, which torch.compile and the like can see"
    TORCH = "torch's own op: the kernels do not take the tensor"


DIRECT, TRANSFORMED, DISPATCHED, TORCH = Way  # a member is looked up ten times as fast so


def way(x: Tensor) -> Way:
    if _compiling():
        return DISPATCHED if _of_a_kind(x) else TORCH
    if _core.takes_tensor(x):
        return DIRECT
    if not _of_a_kind(x):
        return TORCH
    if _transformed():
        return TRANSFORMED
    if _modes() or _traced() is not None or x.is_neg():
        return DISPATCHED
    return TRANSFORMED if type(x) in _PLAIN else TORCH


def _of_a_kind(x: Tensor) -> bool:
    """Whether the kernels take such tensors, of which there may be no memory yet."""
    return x.device.type == "cpu" and x.dtype in _DTYPES and x.layout == torch.strided


def _made() -> tuple[Any, Any]:
    with torch.inference_mode(False):  # whose tensors cannot be written outside of it
        number = torch.zeros((), dtype=torch.int64, device="cpu")
    return number.random_, number.numpy()


# The address of one call, from torch's default generator.
draw = functools.partial(_core.drawn_address, [_made()], _made)


def drawn_tensor() -> Tensor:
    """The same as a tensor, of the same number where torch draws in the same way."""
    return torch.randint(_ADDRESSES, (), dtype=torch.int64, device="cpu")
