"""torch.optim's names: the same signatures, states and state dicts, another step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastopt.optimizers.adam import checked_adam
from fastopt.optimizers.rmsprop import checked_rmsprop
from fastopt.optimizers.sgd import checked_sgd
from fastopt.torch.optim.base import Fused, Numbers, rows_of


class _AdamRule(Fused):
    _rule = "adam"
    _keys = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "decoupled_weight_decay")

    def _numbers(self, group: dict[str, Any]) -> Numbers:
        values = checked_adam(group)
        decoupled = float(bool(group["decoupled_weight_decay"]))
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        numbers = (values["lr"], *values["betas"], values["eps"], values["weight_decay"], decoupled)
        return Numbers(numbers, bool(group["maximize"]), names)


class Adam(_AdamRule, torch.optim.Adam):
    """`torch.optim.Adam`, in one compiled pass over all parameters.

    Examples
    --------
    >>> import torch, fastopt.torch.optim as optim
    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = optim.Adam([w], lr=0.1)
    >>> (w * torch.tensor([1.0, -3.0])).sum().backward()
    >>> optimizer.step()
    >>> w.detach()
    tensor([0.9000, 1.1000])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = 0,
    ) -> None:
        self._take_options(
            max_grad_norm,
            skip_nonfinite,
            ema_decay,
            state_dtype,
            rng,
            capturable=capturable,
            differentiable=differentiable,
        )
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            fused=fused,
            decoupled_weight_decay=decoupled_weight_decay,
        )


class AdamW(_AdamRule, torch.optim.AdamW):
    """`torch.optim.AdamW`, as :class:`Adam` here."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = 0,
    ) -> None:
        self._take_options(
            max_grad_norm,
            skip_nonfinite,
            ema_decay,
            state_dtype,
            rng,
            capturable=capturable,
            differentiable=differentiable,
        )
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, fused=fused)


class SGD(Fused, torch.optim.SGD):
    """`torch.optim.SGD`, as :class:`Adam` here."""

    _rule = "sgd"
    _keys = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
    _counts = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = 0,
    ) -> None:
        self._take_options(max_grad_norm, skip_nonfinite, ema_decay, state_dtype, rng, differentiable=differentiable)
        super().__init__(
            params, lr, momentum, dampening, weight_decay, nesterov, maximize=maximize, foreach=foreach, fused=fused
        )

    def _numbers(self, group: dict[str, Any]) -> Numbers:
        values = checked_sgd({**group, "nesterov": bool(group["nesterov"])})
        numbers = tuple(float(value) for value in values.values())
        return Numbers(numbers, bool(group["maximize"]), ("momentum_buffer",) if values["momentum"] else ())

    def _of_sparse(self, grad: Tensor, param: Tensor, group: dict[str, Any]) -> tuple[Tensor, Any]:
        whole = group["momentum"] != 0 or group["weight_decay"] != 0 or self.ema_decay is not None
        whole = whole or param.dtype == torch.bfloat16  # of which no kernel takes rows
        if whole or param.dim() != 2 or grad.sparse_dim() != 1:  # all rows move
            return grad.to_dense(), None
        return rows_of(grad, param)


class RMSprop(Fused, torch.optim.RMSprop):
    """`torch.optim.RMSprop`, as :class:`Adam` here.

    Centered, what is under the root is never below 0, where rounding makes torch's NaN.
    """

    _rule = "rmsprop"
    _keys = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        ema_decay: float | None = None,
        state_dtype: str | None = None,
        rng: Any = 0,
    ) -> None:
        self._take_options(
            max_grad_norm,
            skip_nonfinite,
            ema_decay,
            state_dtype,
            rng,
            capturable=capturable,
            differentiable=differentiable,
        )
        super().__init__(params, lr, alpha, eps, weight_decay, momentum, centered, foreach=foreach, maximize=maximize)

    def _numbers(self, group: dict[str, Any]) -> Numbers:
        values = checked_rmsprop(group)
        if group["centered"] and self.state_dtype is not None:
            raise ValueError(
                f"state_dtype: expected None when centered, whose difference of two averages needs all of their bits, "
                f"got {self.state_dtype!r}"
            )
        states = ("square_avg", "grad_avg") if group["centered"] else ("square_avg",)
        momentum = values["momentum"] != 0
        return Numbers(
            tuple(values.values()),
            bool(group["maximize"]),
            ("momentum_buffer", *states) if momentum else states,
            first=0 if momentum else 1,
        )


class SparseAdam(Fused, torch.optim.SparseAdam):
    """`torch.optim.SparseAdam`: only the rows in a sparse gradient move, and only their averages.

    Its eps is added as it is, without the bias correction that :class:`Adam` gives it. Rows that a gradient names twice
    are added up in their order.
    """

    _rule = "adam"
    _keys = ("lr", "betas", "eps", "maximize")
    _eps_as_given = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        self._take_options(None, False, None, None, 0)
        super().__init__(params, lr, betas, eps, maximize)

    def _numbers(self, group: dict[str, Any]) -> Numbers:
        if any(param.dtype == torch.bfloat16 for param in group["params"]):
            raise TypeError("params: expected float32 or float64, got torch.bfloat16; use torch.optim for it")
        values = checked_adam({**group, "weight_decay": 0.0})
        numbers = (values["lr"], *values["betas"], values["eps"], 0.0, 0.0)
        return Numbers(numbers, bool(group["maximize"]), ("exp_avg", "exp_avg_sq"))

    def _of_sparse(self, grad: Tensor, param: Tensor, group: dict[str, Any]) -> tuple[Tensor, Any]:
        if param.dim() != 2 or grad.sparse_dim() != 1:
            raise ValueError(
                f"grads: expected a parameter of 2 dimensions and a gradient of one sparse dimension, got "
                f"{tuple(param.shape)} and {grad.sparse_dim()}; use torch.optim.SparseAdam for it"
            )
        return rows_of(grad, param)

    def _plain(
        self, tensors: list[Any], group: dict[str, Any], copies: list[tuple[Tensor, Tensor]]
    ) -> tuple[list[Tensor], bool, Any]:
        if tensors[1].layout == torch.strided:
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
        return super()._plain(tensors, group, copies)
