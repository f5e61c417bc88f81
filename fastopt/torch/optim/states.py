"""States of few bits beside torch's tensors: made, and handed out and loaded without a cast.

Each is a dict of tensors: ``"codes"`` in the shape of its parameter, bfloat16 or uint8, and of the latter
``"exponents"``, one for each 256 elements in C order. So nested they go through torch's gathering and its checkpoints,
which take a tensor among the states for one in the dtype of the parameter. In a state dict each element has its
exponent, in the shape of the parameter too: so they can be gathered, and cut otherwise for another number of ranks, as
the codes can.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 256  # FASTOPT_STATE_BLOCK of kernels/optimizers/optimizers.h
LOWEST_EXPONENT = 32  # of a block
SIGNED = ("exp_avg", "momentum_buffer")  # the first state of each rule; the others are averages of squares
SMALL = (*SIGNED, "exp_avg_sq", "max_exp_avg_sq", "square_avg")  # what has few bits where state_dtype asks for them


def small_state(param: Tensor, state_dtype: str) -> dict[str, Tensor]:
    """Zeros in the shape of a parameter, as codes of this dtype."""
    like = param.detach()
    like = torch.view_as_real(like) if like.is_complex() else like
    if state_dtype == "bfloat16":
        return {"codes": torch.zeros_like(like, dtype=torch.bfloat16, memory_format=torch.contiguous_format)}
    codes = torch.zeros_like(like, dtype=torch.uint8, memory_format=torch.contiguous_format)
    blocks = -(-local(codes).numel() // BLOCK)
    return {"codes": codes, "exponents": torch.zeros(blocks, dtype=torch.uint8, device="cpu")}


def dtype_of_average(param: Tensor) -> torch.dtype:
    """Rounded to bfloat16, an average of long memory would never move."""
    return torch.float32 if param.dtype == torch.bfloat16 else param.dtype


def local(tensor: Any) -> Tensor:
    """A tensor, or the shard of it that is here."""
    return getattr(tensor, "_local_tensor", tensor)


# ---- exponents of blocks, and of elements ----------------------------------------------------------------------------


def spread_exponents(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same state with an exponent for each element, in the shape of the codes."""
    if "exponents" not in state:
        return state
    codes: Any = state["codes"]
    exponents: Any = state["exponents"]
    if exponents.shape == codes.shape and type(exponents) is type(codes):
        return state
    here = local(codes)
    exponents = exponents.repeat_interleave(BLOCK)[: here.numel()].reshape(here.shape)
    if here is not codes:
        from torch.distributed.tensor import DTensor

        exponents = DTensor.from_local(
            exponents, codes.device_mesh, codes.placements, run_check=False, shape=codes.shape, stride=codes.stride()
        )
    return {"codes": codes, "exponents": exponents}


def gather_exponents(name: str, state: dict[str, Tensor]) -> None:
    """The other way round, in place: the largest exponent of a block is its own.

    Where it is not that of an element, since a shard begins elsewhere than it did, the code goes to the nearest one.
    """
    codes, exponents = local(state["codes"]), local(state["exponents"]).reshape(-1)
    if exponents.shape[0] != codes.numel():
        return  # for the step to refuse
    empty = -len(exponents) % BLOCK
    blocks = torch.nn.functional.pad(exponents, (0, empty)).reshape(-1, BLOCK).amax(dim=1)
    old, new = (x.clamp(min=LOWEST_EXPONENT) for x in (exponents, blocks.repeat_interleave(BLOCK)[: len(exponents)]))
    if (moved := old != new).any():
        codes = codes.clone()  # which a state dict may share
        flat = codes.reshape(-1)
        flat[moved] = _moved_codes(flat[moved].long(), old[moved].long(), new[moved].long(), name in SIGNED)
        if local(state["codes"]) is not state["codes"]:
            whole: Any = state["codes"]
            state["codes"] = type(whole).from_local(
                codes, whole.device_mesh, whole.placements, run_check=False, shape=whole.shape, stride=whole.stride()
            )
        else:
            state["codes"] = codes
    state["exponents"] = blocks


def _moved_codes(codes: Tensor, old: Tensor, new: Tensor, signed: bool) -> Tensor:
    """Codes relative to `new` exponents of the values whose codes are relative to `old` ones: see small_states.hpp."""
    sign, magnitude = (codes & 0x80, codes & 0x7F) if signed else (codes * 0, codes)
    zero = [(exponent - (15 if signed else 31)) << 23 for exponent in (old, new)]  # the bits whose code would be 0
    values = _floats((magnitude << 20) + zero[0])
    if not signed:
        least = (magnitude > 0).long()  # a square that is not 0 stays so
        return torch.maximum(((magnitude << 20) + zero[0] - zero[1] + (1 << 19)) >> 20, least).to(torch.uint8)
    even_below, even_below_now = (_floats(base + (1 << 23)) for base in zero)
    values = torch.where(magnitude < 8, magnitude / 8 * even_below, values)
    evenly = (values / even_below_now * 8).round().long()
    floating = (values.view(torch.int32).long() - zero[1] + (1 << 19)) >> 20
    return (sign | torch.where(values < even_below_now, evenly, floating)).to(torch.uint8)


def _floats(bits: Tensor) -> Tensor:
    return bits.to(torch.int32).view(torch.float32)


# ---- state dicts -----------------------------------------------------------------------------------------------------


class Kept:
    """A value that torch's load_state_dict does not look into, or it would cast codes to the dtype of the parameter."""

    def __init__(self, value: Any) -> None:
        self.value = value


def spread_states(state_dict: dict[str, Any]) -> dict[str, Any]:
    """A state dict of which other numbers of ranks can take their parts."""
    spread = {
        number: {key: spread_exponents(v) if is_small(v) else v for key, v in own.items()}
        for number, own in state_dict["state"].items()
    }
    return {**state_dict, "state": spread}


def is_small(value: Any) -> bool:
    return isinstance(value, dict) and "codes" in value


def keep_codes(state_dict: dict[str, Any], state_dtype: str | None, counts: bool) -> dict[str, Any]:
    """A state dict whose states of few bits are :class:`Kept`; ValueError for states of another form than ours."""
    states = {}
    for number, own in state_dict["state"].items():
        states[number] = own
        if not isinstance(own, dict):
            continue
        if counts and own and "step" not in own:  # torch would say so after it has taken over the rest
            raise ValueError(f"state[{number!r}]['step']: expected the number of steps taken, got a state without it")
        states[number] = dict(own)
        for name, value in own.items():
            found = None if not is_small(value) else "8bit" if "exponents" in value else "bfloat16"
            if name in SMALL and value is not None and found != state_dtype:
                raise ValueError(
                    f"state[{number!r}][{name!r}]: expected one of state_dtype={state_dtype!r}, as this optimiser "
                    f"was made, got one of {found!r}; make one so"
                )
            if found is not None or (name in ("rounding", "ema") and isinstance(value, Tensor | dict)):
                states[number][name] = Kept(value)
    return {**state_dict, "state": states}


def unkept(state: Any) -> None:
    """Put the values of :class:`Kept` back, in place."""
    for param, own in state.items():
        if isinstance(own, dict):
            for name, value in own.items():
                if isinstance(value, Kept):
                    kept = value.value
                    own[name] = kept.to(dtype_of_average(param)) if isinstance(kept, Tensor) else dict(kept)
