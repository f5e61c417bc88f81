"""What all of torch's optimisers share here: the step over tensors in place, hooks, states, errors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import optimizer as torch_optimizer

from fastopt import _core
from fastopt._checks import finite_number, flag
from fastopt._tree import SparseRows
from fastopt.random import run_key
from fastopt.torch.optim.states import (
    dtype_of_average,
    gather_exponents,
    keep_codes,
    local,
    small_state,
    spread_states,
    unkept,
)

PLAIN = (torch.nn.Parameter, Tensor)
_DLPACK_CODES = {torch.uint8: 1, torch.float32: 2, torch.float64: 2, torch.bfloat16: 4, torch.int64: 0}
_profiler_enabled = torch._C._autograd._profiler_enabled
increment_version = getattr(torch._C, "_increment_version", torch.autograd.graph.increment_version)


def _described(tensor: Tensor) -> tuple[int, int, int, int, Any]:
    """A tensor as TensorStep sees it where torch lends no table of C functions (before 2.10)."""
    plain = tensor.layout == torch.strided and tensor.dtype in _DLPACK_CODES and not tensor.is_neg()
    code = _DLPACK_CODES[tensor.dtype] if plain else 255
    device = 1 if tensor.device.type == "cpu" else 0
    sizes = np.array([*tensor.shape, *(tensor.stride() if plain else tensor.shape)], np.int64)
    return tensor.data_ptr() if plain else 0, device, code, 8 * tensor.element_size(), sizes


_core.reach_tensors(getattr(Tensor, "__dlpack_c_exchange_api__", None), _described)


def _not_compiled(function: Any) -> None:
    """Have torch.compile call a function as it is, without the microsecond of `torch.compiler.disable` around it."""
    function._torchdynamo_disable = True
    with contextlib.suppress(ImportError, AttributeError):  # of other versions, which compile what it calls
        from torch._C._dynamo.eval_frame import _FrameAction, _FrameExecStrategy, set_code_exec_strategy

        set_code_exec_strategy(function.__code__, _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP))


class Numbers(NamedTuple):
    """What a rule makes of a group."""

    hyper: tuple[float, ...]  # in the order of kernels/scalars.h
    ascend: bool
    states: tuple[str, ...]  # their names, in the order of the rule
    first: int = 0  # the place of the first of them: 1 where the rule has a momentum before and the group none


class Fused(torch.optim.Optimizer):
    """An optimiser of torch whose step is one compiled call, in place on the memory of its tensors."""

    _rule: ClassVar[str]
    _keys: ClassVar[tuple[str, ...]]  # of a group, by which the rule goes
    _counts: ClassVar[bool] = True  # whether "step" is among the states
    _eps_as_given: ClassVar[bool] = False  # whether Adam's eps is added without a bias correction, as SparseAdam does
    _step_supports_amp_scaling = True  # GradScaler leaves its scale and what it found to the step

    def _take_options(
        self,
        max_grad_norm: float | None,
        skip_nonfinite: bool,
        ema_decay: float | None,
        state_dtype: str | None,
        rng: Any,
        **without_effect: bool,
    ) -> None:
        """Keep the options that torch does not have. They are no part of param_groups, whose keys are torch's."""
        for name, value in without_effect.items():
            if value:
                raise ValueError(f"{name}: expected False, got {value!r}: the step runs on the CPU and is not recorded")
        self._max_norm = math.inf
        self.max_grad_norm = max_grad_norm
        self._skip_nonfinite = flag("skip_nonfinite", skip_nonfinite)
        self._ema_decay = None if ema_decay is None else finite_number("ema_decay", ema_decay, 0, most=1)
        if state_dtype not in (None, "bfloat16", "8bit"):
            raise ValueError(f'state_dtype: expected None, "bfloat16" or "8bit", got {state_dtype!r}')
        self._state_dtype = state_dtype
        self._rounding_key = 0 if state_dtype is None else run_key(rng)
        self.grad_norm: float | None = None
        self.skipped_steps = 0
        self._make_step()

    def _make_step(self) -> None:
        self._tensor_step = _core.TensorStep(
            self._rule,
            self._keys,
            PLAIN,
            increment_version,
            counts=self._counts,
            eps_as_given=self._eps_as_given,
            small_states=self._state_dtype is not None,
        )

    @property
    def max_grad_norm(self) -> float | None:
        """Clip the gradients' common norm to this, as `clip_grad_norm_` does; None does not. Settable.

        Of DTensors the shards of all ranks count. Engines that give each rank plain tensors of its own, as
        ZeroRedundancyOptimizer does, have each clip by the norm of those: clip before the step there.
        """
        return None if math.isinf(self._max_norm) else self._max_norm

    @max_grad_norm.setter
    def max_grad_norm(self, value: float | None) -> None:
        self._max_norm = math.inf if value is None else finite_number("max_grad_norm", value, above=0)

    @property
    def skip_nonfinite(self) -> bool:
        """Whether a step whose gradients have a NaN or infinity is skipped."""
        return self._skip_nonfinite

    @property
    def ema_decay(self) -> float | None:
        """Decay of the averages of the parameters; None without them."""
        return self._ema_decay

    @property
    def state_dtype(self) -> str | None:
        """How states are stored: None as torch's, "bfloat16" or "8bit", rounded by chance."""
        return self._state_dtype

    @property
    def ema_params(self) -> list[Tensor] | None:
        """The averages of the parameters in the order of the groups: ``state[p]["ema"]``. None without `ema_decay`.

        Those of bfloat16 parameters are float32: rounded to bfloat16, an average of long memory would never move.
        """
        if self._ema_decay is None:
            return None
        of = {p: self.state[p].get("ema") for p in self.state}
        params = [p for group in self.param_groups for p in group["params"]]
        return [p.detach().to(dtype_of_average(p)) if of.get(p) is None else of[p] for p in params]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters in place by one step.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and the gradients again, with gradients enabled; its result is returned.

        Raises
        ------
        RuntimeError, TypeError, ValueError
            If a tensor is of another device, dtype or layout than this optimiser takes, or a group has a value that it
            cannot. No parameter and no state is changed then.
        """
        if (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or _profiler_enabled()
        ) and type(self).step is Fused.step:  # a subclass's own is wrapped by torch, which calls them then
            return _hooked_step(self, *(() if closure is None else (closure,)))
        return self._take_step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch wraps a step that is not, in 6 microseconds
    _not_compiled(step)

    def _take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        own = self.__dict__
        multiplier = 1.0
        if "found_inf" in own or "grad_scale" in own:  # GradScaler's
            found_inf, grad_scale = own.get("found_inf"), own.get("grad_scale")
            if found_inf is not None and float(found_inf) != 0:
                return loss
            multiplier = 1.0 if grad_scale is None else 1.0 / float(grad_scale)
        norm = self._tensor_step.step(
            self, self.param_groups, self.state, multiplier, self._max_norm, self._skip_nonfinite, self._ema_decay
        )
        if norm is not None:
            self.grad_norm = norm
            if self._skip_nonfinite and not math.isfinite(norm):
                self.skipped_steps += 1
        return loss

    def _numbers(self, group: dict[str, Any]) -> Numbers:
        """Of a group as it is now."""
        raise NotImplementedError

    def _made(self, param: Tensor, name: str) -> Any:
        """A state as torch makes it, before the first step in which it is needed."""
        if name == "step":
            dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
            return torch.zeros((), dtype=dtype, device="cpu")  # whatever the default device is
        if name == "ema":
            return param.detach().to(dtype_of_average(param), copy=True, memory_format=torch.preserve_format)
        if self._state_dtype is not None:
            return small_state(param, self._state_dtype)
        return torch.zeros_like(param, memory_format=torch.preserve_format, requires_grad=False)

    def _rounding_of(self, number: int) -> dict[str, Tensor]:
        """What decides how the states of parameter `number` are rounded: key, stream, steps so far."""
        key = self._rounding_key - (self._rounding_key >> 63 << 64)  # of 64 bits, as an int64
        return {"numbers": torch.tensor([key, number, 0], device="cpu")}

    def _plain(
        self, tensors: list[Any], group: dict[str, Any], copies: list[tuple[Tensor, Tensor]]
    ) -> tuple[list[Any], bool, Any]:
        """(tensors of one dense layout in place of a parameter, its gradient and states; whether they are shards; the
        numbers of the rows that the gradient is of, or None).

        What the kernel writes instead of a tensor itself goes to `copies`, as (tensor, its copy).
        """
        small = {k: value for k, value in enumerate(tensors) if isinstance(value, dict)}
        tensors = [value["codes"] if k in small else value for k, value in enumerate(tensors)]
        sharded = any(hasattr(tensor, "_local_tensor") for tensor in tensors)
        if sharded:
            tensors = _of_one_layout(tensors)
        names = ("params", "grads", *("state" for _ in tensors[2:]))
        found: list[Any] = [_real(local(tensor).detach(), name) for tensor, name in zip(tensors, names, strict=True)]
        param, rows = found[0], None
        sparse = found[1].layout != torch.strided
        if sparse:
            found[1], rows = self._of_sparse(found[1], param, group)
        for k, (tensor, name) in enumerate(zip(found, names, strict=True)):
            if k in small:
                continue  # whose codes the compiled step looks at
            _check_tensor(tensor, name)
            averaged = self._ema_decay is not None and k == len(found) - 1
            dtype = dtype_of_average(param) if averaged else param.dtype
            if tensor.dtype != dtype or (tensor.shape != param.shape and not (k == 1 and rows is not None)):
                raise RuntimeError(
                    f"{name}: expected {dtype} of shape {tuple(param.shape)} like its parameter, "
                    f"got {tensor.dtype} of {tuple(tensor.shape)}"
                )
        if small and rows is not None:
            raise RuntimeError(
                "grads: sparse ones need an optimiser without state_dtype: the states of other rows stay"
            )
        in_order = torch.contiguous_format if small or rows is not None else torch.preserve_format
        model = torch.empty_like(param, memory_format=in_order)  # dense, whatever param is
        for k, tensor in enumerate(found):
            if k in small:
                found[k] = {name: local(part) for name, part in small[k].items()}
            elif (k != 1 or rows is None) and tensor.stride() != model.stride():
                found[k] = torch.empty_like(model, dtype=tensor.dtype).copy_(tensor)
                if k != 1:
                    copies.append((tensor, found[k]))
        return found, sharded, rows

    def _of_sparse(self, grad: Tensor, param: Tensor, group: dict[str, Any]) -> tuple[Tensor, Any]:
        """A dense gradient and None, or (the values of rows, their numbers)."""
        raise RuntimeError(
            f"{type(self).__name__} does not support sparse gradients, please consider SparseAdam instead"
        )

    def _norm_of(self, grads: list[Tensor]) -> float:
        """The common norm of gradients of which only shards are here, the same on all ranks.

        In float64, where squares of float32 do not overflow. One by one: torch does not stack norms of several meshes.
        """
        norms = [torch.linalg.vector_norm(g, dtype=torch.promote_types(g.dtype, torch.float64)) for g in grads]
        wholes = [norm.full_tensor() if hasattr(norm, "full_tensor") else norm for norm in norms]
        return float(torch.linalg.vector_norm(torch.tensor(wholes, dtype=torch.float64, device="cpu")))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        try:
            added = self.param_groups[-1]
            for param in added["params"]:
                _check_tensor(_real(local(param).detach(), "params"), "params")
                if self._state_dtype is not None and param.dtype == torch.bfloat16:
                    raise TypeError(
                        f"state_dtype: expected None with parameters of bfloat16, whose states are of it too, "
                        f"got {self._state_dtype!r}"
                    )
            self._numbers(added)
        except BaseException:
            del self.param_groups[-1]
            raise

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or set them to zero: as torch's, without its record where no profiler is on."""
        if not set_to_none or _profiler_enabled():
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None

    def _gather_exponents(self, name: str, state: dict[str, Tensor]) -> None:
        gather_exponents(name, state)

    def state_dict(self) -> dict[str, Any]:
        """As torch's; of states of 8 bits with an exponent for each element."""
        if self._state_dtype != "8bit":
            return super().state_dict()
        hook = self.register_state_dict_post_hook(lambda _, found: spread_states(found), prepend=True)
        try:
            return super().state_dict()
        finally:
            hook.remove()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state as torch's; states of few bits as they are, without a cast, and averages as float32 where
        parameters are bfloat16.

        Raises
        ------
        ValueError
            If the groups, or the bits of the states, are not those of this optimiser, or "step" is missing. Nothing is
            changed then.
        """
        hook = self.register_load_state_dict_pre_hook(
            lambda _, found: keep_codes(found, self._state_dtype, self._counts)
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in _OWN if name in self.__dict__}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        unkept(state["state"])
        super().__setstate__(state)
        if "_tensor_step" not in self.__dict__:
            self._make_step()


_OWN = ("_max_norm", "_skip_nonfinite", "_ema_decay", "_state_dtype", "_rounding_key", "grad_norm", "skipped_steps")
_hooked_step = torch.optim.Optimizer.profile_hook_step(Fused._take_step)


def _real(tensor: Tensor, name: str) -> Tensor:
    """A complex tensor as one of real numbers, as torch's optimisers see it. What is written is seen in place."""
    if tensor.is_neg() or tensor.is_conj():
        if name != "grads":
            raise ValueError(
                f"{name}: expected tensors that are their values in memory, got a negated or conjugated view; "
                "pass its .resolve_neg().resolve_conj()"
            )
        tensor = tensor.resolve_neg().resolve_conj()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _check_tensor(tensor: Tensor, name: str) -> None:
    if tensor.device.type != "cpu":
        raise ValueError(f"{name}: expected tensors on the CPU, got one on {tensor.device}; use torch.optim for it")
    if tensor.layout != torch.strided:
        raise ValueError(f"{name}: expected dense tensors, got one of layout {tensor.layout}")
    if tensor.dtype not in (torch.float32, torch.float64, torch.bfloat16):
        raise TypeError(f"{name}: expected float32, float64 or bfloat16, got {tensor.dtype}; use torch.optim for it")


def _of_one_layout(tensors: list[Any]) -> list[Any]:
    """A parameter, its gradient and states, all DTensors that lie on the ranks as the parameter does.

    A gradient may come otherwise, such as in parts that are to be added up; its shard is not the parameter's then.
    """
    param = tensors[0]
    mesh, placements = getattr(param, "device_mesh", None), getattr(param, "placements", None)
    found = [param]
    for k, tensor in enumerate(tensors[1:]):
        its_mesh, its_placements = getattr(tensor, "device_mesh", None), getattr(tensor, "placements", None)
        if its_mesh != mesh or (its_placements != placements and k > 0):
            raise RuntimeError(
                f"{'state' if k else 'grads'}: expected a tensor on {mesh}, {placements} like its parameter, "
                f"got one on {its_mesh}, {its_placements}"
            )
        found.append(tensor if its_placements == placements else tensor.redistribute(placements=placements))
    return found


def rows_of(grad: Tensor, param: Tensor) -> tuple[Tensor, Any]:
    """(values, numbers) of the distinct rows of a sparse gradient, which has one sparse dimension."""
    values = grad._values()
    sparse = SparseRows(grad._indices()[0].numpy(), values.reshape(len(values), param.shape[1]).detach().numpy())
    rows, sums = _core.distinct_rows(sparse, "grads", param.detach().numpy())
    return torch.from_numpy(sums), rows
