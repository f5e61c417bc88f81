"""The family's ways to call an op: cases of equal bits, and golden outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

import fastopt as fo

from ..support import ELEMENTWISE_GRAIN, OPTIMIZER_GRAIN, SUM_GRAIN, Case, call, exact_values


def _optimizer(name: str, zero_grads: bool = False, **options: Any) -> Callable[..., Any]:
    """Five steps on two parameters in two groups; the second has no gradient in the second step."""

    def run(ops: ModuleType, w: np.ndarray, b: np.ndarray, grad_w: np.ndarray, grad_b: np.ndarray) -> Any:
        optimizer = getattr(ops, name)([{"params": {"w": w}}, {"params": [b], "lr": 0.25}], lr=0.01, **options)
        for grad in (grad_b, None, grad_b, grad_b):
            optimizer.step([{"w": grad_w}, [grad]], grad_multiplier=0.5)
        optimizer.lr = 0.125
        optimizer.step([{"w": grad_w}, [grad_b]], zero_grads=zero_grads)
        return list(optimizer.state_dict().values())

    return run


def _centered_without_buffer(
    ops: ModuleType, param: np.ndarray, grad: np.ndarray, square_avg: np.ndarray, grad_avg: np.ndarray
) -> None:
    ops.rmsprop_step(param, grad, square_avg, None, grad_avg, alpha=0.9)


# Steps on arrays of bfloat16, as uint16 codes: how many arrays, and the call.
CODES: dict[str, tuple[int, Callable[..., Any]]] = {
    "adam_step": (4, call("adam_step", 3)),
    "adam_step coupled": (4, call("adam_step", 7, weight_decay=0.1, grad_multiplier=0.5)),
    "adam_step decoupled": (
        4,
        call("adam_step", 2, weight_decay=0.1, decoupled_weight_decay=True, betas=(0.25, 0.9), maximize=True),
    ),
    "sgd_step": (2, call("sgd_step", None, 3, lr=0.1, weight_decay=0.01)),
    "sgd_step momentum": (3, call("sgd_step", 3, lr=0.1, momentum=0.9, dampening=0.5)),
    "sgd_step nesterov": (3, call("sgd_step", 1, lr=0.1, momentum=0.9, nesterov=True)),
    "rmsprop_step": (3, call("rmsprop_step", weight_decay=0.01)),
    "rmsprop_step momentum": (4, call("rmsprop_step", momentum=0.9, maximize=True)),
    "rmsprop_step centered": (5, call("rmsprop_step", momentum=0.9)),
}


def cases() -> Iterator[tuple[str, Case]]:
    adam: dict[str, Any] = {
        "": {},
        " coupled": {"weight_decay": 0.1},
        " decoupled": {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
        " maximize": {"maximize": True, "grad_multiplier": 1 / 1024},
        " betas 0": {"betas": (0.0, 0.0)},
        " betas small": {"betas": (0.25, 0.125), "weight_decay": 0.1},
        " lr 0": {"lr": 0.0, "weight_decay": 0.1},
        " multiplier 0": {"grad_multiplier": 0.0},
    }
    for name, options in adam.items():
        yield f"adam_step{name}", Case(call("adam_step", 7, **options), 4, OPTIMIZER_GRAIN)
    yield "adam_step first", Case(call("adam_step", 1), 4, OPTIMIZER_GRAIN)
    yield "adam_step late", Case(call("adam_step", 10**9), 4, OPTIMIZER_GRAIN)

    sgd: dict[str, Any] = {
        "": {},
        " momentum": {"momentum": 0.9, "weight_decay": 0.01},
        " dampening": {"momentum": 0.9, "dampening": 0.5, "maximize": True},
        " dampening 1": {"momentum": 0.9, "dampening": 1.0},
        " nesterov": {"momentum": 0.9, "nesterov": True, "grad_multiplier": 3.0},
        " lr 0": {"lr": 0.0, "momentum": 0.9},
    }
    for name, options in sgd.items():
        yield f"sgd_step{name}", Case(call("sgd_step", 5, **options), 3, OPTIMIZER_GRAIN)
    yield "sgd_step first", Case(call("sgd_step", 1, momentum=0.9, dampening=0.5), 3, OPTIMIZER_GRAIN)
    yield "sgd_step no buffer", Case(call("sgd_step", None, 3, lr=0.1, weight_decay=0.01), 2, OPTIMIZER_GRAIN)

    rmsprop: dict[str, Any] = {
        "": {"weight_decay": 0.01},
        " alpha 0": {"alpha": 0.0, "maximize": True},
        " alpha small": {"alpha": 0.25, "grad_multiplier": 1 / 1024},
        " lr 0": {"lr": 0.0, "weight_decay": 0.1},
        " momentum": {"momentum": 0.9, "weight_decay": 0.01},
        " momentum lr 0": {"lr": 0.0, "momentum": 0.9},
    }
    for name, options in rmsprop.items():
        yield f"rmsprop_step{name}", Case(call("rmsprop_step", **options), 4, OPTIMIZER_GRAIN)
        yield f"rmsprop_step{name} centered", Case(call("rmsprop_step", **options), 5, OPTIMIZER_GRAIN)
    yield "rmsprop_step no buffer", Case(call("rmsprop_step", lr=0.1), 3, OPTIMIZER_GRAIN)
    yield "rmsprop_step centered, no buffer", Case(_centered_without_buffer, 4, OPTIMIZER_GRAIN)

    yield "Adam", Case(_optimizer("Adam", weight_decay=0.01), 4, OPTIMIZER_GRAIN)
    yield "AdamW", Case(_optimizer("AdamW", maximize=True), 4, OPTIMIZER_GRAIN)
    yield "SGD", Case(_optimizer("SGD", momentum=0.9, nesterov=True), 4, OPTIMIZER_GRAIN)
    yield "RMSprop", Case(_optimizer("RMSprop", weight_decay=0.01), 4, OPTIMIZER_GRAIN)

    everything: dict[str, Any] = {"max_grad_norm": 0.5, "skip_nonfinite": True, "ema_decay": 0.9}
    options: dict[str, Any] = {
        "Adam amsgrad": {"amsgrad": True},
        "Adam clipped": {"max_grad_norm": 0.5, "decoupled_weight_decay": True, "weight_decay": 0.1},
        "Adam average": {"ema_decay": 0.9, "betas": (0.0, 0.9)},
        "Adam short average": {"ema_decay": 0.25, "betas": (0.25, 0.9)},
        "Adam amsgrad bfloat16": {"amsgrad": True, "state_dtype": "bfloat16", "rng": 5, "betas": (0.25, 0.9)},
        "Adam everything": {"amsgrad": True, "zero_grads": True, **everything},
        "Adam bfloat16": {"state_dtype": "bfloat16", "rng": 5},
        "Adam 8bit": {"state_dtype": "8bit", "rng": 5},
        "Adam 8bit everything": {"state_dtype": "8bit", "rng": 5, "amsgrad": True, "zero_grads": True, **everything},
        "SGD everything": {"momentum": 0.9, "zero_grads": True, **everything},
        "SGD plain average": {"ema_decay": 0.9, "zero_grads": True},
        "SGD bfloat16": {"momentum": 0.9, "state_dtype": "bfloat16", "rng": 5},
        "SGD 8bit": {"momentum": 0.9, "nesterov": True, "state_dtype": "8bit", "rng": 5},
        "RMSprop centered": {"centered": True, "maximize": True},
        "RMSprop everything": {"centered": True, "momentum": 0.9, "zero_grads": True, **everything},
        "RMSprop average": {"ema_decay": 0.9, "alpha": 0.25, "momentum": 0.5},
        "RMSprop bfloat16": {"state_dtype": "bfloat16", "rng": 5},
        "RMSprop momentum bfloat16": {"momentum": 0.9, "state_dtype": "bfloat16", "rng": 5},
        "RMSprop 8bit": {"state_dtype": "8bit", "rng": 5},
        "RMSprop 8bit everything": {
            **{"momentum": 0.9, "alpha": 0.25, "state_dtype": "8bit", "rng": 5, "zero_grads": True},
            **everything,
        },
    }
    for name, chosen in options.items():
        yield name, Case(_optimizer(name.split()[0], **chosen), 4, OPTIMIZER_GRAIN)
    yield "ema_update", Case(call("ema_update", 0.9), 2, ELEMENTWISE_GRAIN)
    for decay in (0.0, 0.25, 1.0):
        yield f"ema_update {decay}", Case(call("ema_update", decay), 2, ELEMENTWISE_GRAIN)
    yield "clip_grad_norm_", Case(lambda ops, *arrays: ops.clip_grad_norm_(list(arrays), 0.5), 2, SUM_GRAIN)

    yield "l2_penalty", Case(lambda ops, *arrays: ops.l2_penalty(list(arrays), 0.3), 2, SUM_GRAIN)


def golden(x: np.ndarray, grad: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The powers of Adam's betas are exact too, except in those that say others."""
    size, dtype = x.size, x.dtype.type
    dyadic = {"betas": (0.875, 0.9375), "eps": 2.0**-20}
    options: dict[str, Any] = {"max_grad_norm": 0.5, "skip_nonfinite": True, "ema_decay": 0.75}
    everything = {"amsgrad": True, **options}

    def stepped(step: Callable[..., None], count: int, *rest: Any, **options: Any) -> list[np.ndarray]:
        arrays = [exact_values(k, size, dtype) for k in range(1, count + 1)]
        if count == 4:
            arrays[3] = np.square(arrays[3])  # the average of squares; not exact for all, but rounded correctly
        step(*arrays, *rest, **options)
        return arrays

    def stepped_rmsprop(count: int, **options: Any) -> list[np.ndarray]:
        arrays = [exact_values(k, size, dtype) for k in range(1, count + 1)]
        arrays[2] = np.square(arrays[2])  # as above
        fo.rmsprop_step(*arrays, momentum=0.0 if count == 3 else 0.75, **options)
        return arrays

    def trained(make: Callable[..., Any], **options: Any) -> list[np.ndarray]:
        params = {"w": exact_values(1, size, dtype), "b": exact_values(2, 5, dtype)}
        optimizer = make(params, lr=0.125, **options)
        for k in range(3):
            optimizer.step({"w": exact_values(10 + k, size, dtype), "b": exact_values(20 + k, 5, dtype)})
        return [*params.values(), *(a for arrays in optimizer._states.values() for a in arrays)]

    def stepped_rows(make: Callable[..., Any], **options: Any) -> list[np.ndarray]:
        table, rows = x[:4000].reshape(-1, 8).copy(), np.arange(300) * 7 % 100
        optimizer = make([table], **options)
        optimizer.step([fo.SparseRows(rows, grad[: 8 * len(rows)].reshape(-1, 8))])
        return [table, *list(optimizer._states.values())[-1]]

    def stepped_codes(step: Callable[..., None], count: int, *rest: Any, **options: Any) -> list[np.ndarray]:
        floats = [exact_values(k, size, np.float32) for k in range(1, count + 1)]
        arrays = [(x.view(np.uint32) >> np.uint32(16)).astype(np.uint16) for x in floats]
        step(*arrays, *rest, **options)
        return arrays

    return {
        "adam_step": lambda: stepped(fo.adam_step, 4, 3, lr=0.125, **dyadic),
        "adam_step default betas": lambda: stepped(fo.adam_step, 4, 3),
        "adam_step beta2 0.9999": lambda: [
            array
            for step in (1, 2, 3, 1000, 3000, 3998, 10**6, 10**9)
            for array in stepped(fo.adam_step, 4, step, lr=1.0, betas=(0.9, 0.9999))[:1]
        ],
        "adam_step betas below 1/2": lambda: stepped(fo.adam_step, 4, 3, lr=0.125, betas=(0.25, 0.9375)),
        "adam_step of bfloat16": lambda: stepped_codes(fo.adam_step, 4, 3, lr=0.125, **dyadic),
        "sgd_step of bfloat16": lambda: stepped_codes(fo.sgd_step, 3, 3, lr=0.125, momentum=0.875, dampening=0.25),
        "rmsprop_step of bfloat16": lambda: stepped_codes(fo.rmsprop_step, 5, alpha=0.875, momentum=0.75),
        "grad_norm of bfloat16": lambda: fo.grad_norm(stepped_codes(lambda *arrays: None, 2)),
        "sgd_step": lambda: stepped(fo.sgd_step, 3, 3, lr=0.125, momentum=0.875, dampening=0.25),
        "Adam": lambda: trained(fo.Adam, weight_decay=0.25, **dyadic),
        "AdamW": lambda: trained(fo.AdamW, **dyadic),
        "SGD": lambda: trained(fo.SGD, momentum=0.875, nesterov=True),
        "rmsprop_step": lambda: stepped_rmsprop(3, lr=0.125, alpha=0.875),
        "rmsprop_step default": lambda: stepped_rmsprop(5),
        "RMSprop": lambda: trained(fo.RMSprop, alpha=0.875, weight_decay=0.25),
        "RMSprop centered": lambda: trained(fo.RMSprop, alpha=0.875, centered=True),
        "RMSprop momentum": lambda: trained(fo.RMSprop, alpha=0.25, momentum=0.75),
        "RMSprop everything": lambda: trained(fo.RMSprop, alpha=0.875, momentum=0.75, centered=True, **options),
        "RMSprop bfloat16": lambda: trained(fo.RMSprop, alpha=0.875, momentum=0.75, state_dtype="bfloat16", rng=7),
        "RMSprop 8bit": lambda: trained(fo.RMSprop, alpha=0.875, momentum=0.75, state_dtype="8bit", rng=7),
        "Adam everything": lambda: trained(fo.Adam, **dyadic, **everything),
        "Adam bfloat16": lambda: trained(fo.Adam, **dyadic, state_dtype="bfloat16", rng=7),
        "Adam 8bit": lambda: trained(fo.Adam, **dyadic, state_dtype="8bit", rng=7),
        "SGD bfloat16": lambda: trained(fo.SGD, momentum=0.875, state_dtype="bfloat16", rng=7),
        "SGD 8bit": lambda: trained(fo.SGD, momentum=0.875, state_dtype="8bit", rng=7),
        "SparseRows": lambda: stepped_rows(fo.Adam, **dyadic),
        "SparseRows SGD": lambda: stepped_rows(fo.SGD, momentum=0.875),
        "SparseRows RMSprop": lambda: stepped_rows(fo.RMSprop, momentum=0.875, alpha=0.875),
        "ema_update": lambda: stepped(fo.ema_update, 2, 0.875),
        "ema_update below 1/2": lambda: stepped(fo.ema_update, 2, 0.125),
        "grad_norm": lambda: fo.grad_norm([x, grad]),
        "clip_grad_norm_": lambda: stepped(lambda *arrays: fo.clip_grad_norm_(arrays, 0.5), 2),
        "l2_penalty": lambda: fo.l2_penalty([x, grad], 0.25),
    }
