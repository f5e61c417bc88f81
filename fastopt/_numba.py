"""The public names inside ``@njit``. Numba loads this module through its entry point ``numba_extensions``; no one else.

Each op is an overload: it checks kinds, dtypes and layouts when it is compiled; its implementation checks shapes and
numbers when it runs, and calls a function of kernels/njit.cpp by name. How to add one: kernels/README.md.
"""

from __future__ import annotations

from inspect import Parameter, Signature
from math import inf

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.typing.npydecl import parse_dtype
from numba.extending import (
    NativeValue,
    intrinsic,
    make_attribute_wrapper,
    models,
    overload,
    overload_method,
    register_jitable,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import as_dtype

import fastopt
from fastopt import _core
from fastopt.masking import DropoutMask
from fastopt.random import DOMAIN_DROPOUT, DOMAIN_NORMAL, DOMAIN_RAW, DOMAIN_UNIFORM, MAX_STREAM

int64, uint64, float64 = types.int64, types.uint64, types.float64

for _name, _address in _core.symbols().items():
    llvmlite.binding.add_symbol(_name, _address)


def init():
    """Numba calls this; the import has done the rest."""
    from fastopt import _numba_policy  # noqa: F401


# ---- functions of kernels/njit.cpp -----------------------------------------------------------------------------------


def kernel(name, arrays, *scalars, contract=1, result=int64):
    """Return that function as one for compiled code, which takes so many arrays, alike in dtype and size, and scalars.

    An array is passed as a pointer, None as a null pointer, and the size of the first array after all of them.
    """

    def typed(context, *arguments):
        kinds = arguments[:arrays]
        symbol = f"fastopt_{contract}_{name}" + (f"_{kinds[0].dtype}" if kinds else "")

        def code(context, builder, signature, values):
            byte_pointer = ir.IntType(8).as_pointer()
            passed = []
            for kind, value in zip(kinds, values, strict=False):
                if isinstance(kind, types.Array):
                    passed.append(builder.bitcast(context.make_array(kind)(context, builder, value).data, byte_pointer))
                else:
                    passed.append(ir.Constant(byte_pointer, None))
            if kinds:
                passed.append(context.make_array(kinds[0])(context, builder, values[0]).nitems)
            passed += values[arrays:]
            function = ir.FunctionType(context.get_value_type(result), [value.type for value in passed])
            return builder.call(cgutils.get_or_insert_function(builder.module, function, symbol), passed)

        return result(*kinds, *scalars), code

    # Numba asks for the names of the arguments, and cannot call what takes any number of them.
    names = ["context", *(f"argument{k}" for k in range(arrays + len(scalars)))]
    typed.__signature__ = Signature([Parameter(n, Parameter.POSITIONAL_ONLY) for n in names])
    typed.__name__ = name
    return intrinsic(typed)


# What the functions with a status return beside 0 (kernels/njit.cpp).
EPS_IS_ZERO = 2


# ---- checks at compile time ------------------------------------------------------------------------------------------


def given(kind):
    """Whether the caller gave this argument: otherwise its type is the default itself, or says that it was omitted."""
    return isinstance(kind, types.Type) and not isinstance(kind, types.Omitted)


def is_none(kind):
    return not given(kind) or isinstance(kind, types.NoneType)


def refuse(name, expected, got, mend=""):
    return TypingError(f"{name}: expected {expected}, got {got}{mend and f'; {mend}'}")


def check_array(name, kind, like=None, like_name="", *, written=False):
    """Refuse what is not an array that a kernel takes, of the dtype and dimensions of `like`."""
    if not isinstance(kind, types.Array):
        raise refuse(name, "an array of float32 or float64", kind)
    if kind.dtype not in (types.float32, types.float64):
        raise refuse(name, "an array of float32 or float64", kind, f"{name}.astype(np.float32) converts it")
    if kind.layout != "C" or not kind.aligned:
        raise refuse(name, "a C-contiguous array", kind, f"np.ascontiguousarray({name}) makes one")
    if written and not kind.mutable:
        raise refuse(name, "a writeable array", kind, f"pass {name}.copy()")
    if like is not None and kind.dtype != like.dtype:
        raise refuse(name, f"{like.dtype} like {like_name}", kind.dtype, f"{name}.astype(np.{like.dtype}) converts it")
    if like is not None and kind.ndim != like.ndim:
        raise refuse(name, f"{like.ndim} dimensions like {like_name}", kind.ndim)


def check_output(name, kind, like, like_name):
    if not is_none(kind):
        check_array(name, kind, like, like_name, written=True)


def check_numbers(**kinds):
    for name, kind in kinds.items():
        if given(kind) and not isinstance(kind, types.Integer | types.Float):
            raise refuse(name, "a float", kind)


def check_integers(**kinds):
    for name, kind in kinds.items():
        if given(kind) and not isinstance(kind, types.Integer):
            raise refuse(name, "an int", kind)


def check_flags(**kinds):
    for name, kind in kinds.items():
        if given(kind) and not isinstance(kind, types.Boolean):
            raise refuse(name, "True or False", kind)


def check_rng(kind):
    pair = isinstance(kind, types.BaseTuple) and not isinstance(kind, types.BaseNamedTuple) and len(kind) == 2
    if not pair or not all(isinstance(part, types.Integer) for part in kind):
        raise refuse("rng", "a (seed, stream) pair of ints inside @njit", "None" if is_none(kind) else kind)


# ---- checks at run time ----------------------------------------------------------------------------------------------


class Refused(ValueError):
    """A ValueError whose message is put together when it is read. Compiled code that is cached refers to it by name."""

    def __str__(self):
        return str(self.args[0]).format(*self.args[1:])


def new_or_checked(out, like):
    """`out`, which must have the shape of `like`, or a new array when it is None. For compiled code only."""
    raise NotImplementedError


@overload(new_or_checked)
def _new_or_checked(out, like):
    if is_none(out):
        return lambda out, like: np.empty_like(like)

    def implementation(out, like):
        if out.shape != like.shape:
            raise Refused("out: expected shape {}, got {}", like.shape, out.shape)
        return out

    return implementation


@register_jitable
def check_address(seed, stream):
    if seed < 0:
        raise Refused("seed: expected 0 <= seed < 2**64, got {}", seed)
    if stream < 0 or stream >= MAX_STREAM:
        raise Refused("stream: expected 0 <= stream < 2**56, got {}", stream)


@register_jitable
def check_probability(p):
    if not 0 <= p <= 1:
        raise Refused("p: expected a number from 0 to 1, got {}", p)


@register_jitable
def check_finite(negative_slope):
    if not -inf < negative_slope < inf:
        raise Refused("negative_slope: expected a finite number, got {}", negative_slope)


# ---- activations -----------------------------------------------------------------------------------------------------

leaky_relu = kernel("leaky_relu", 2, float64)
leaky_relu_backward = kernel("leaky_relu_backward", 3, float64)


@overload(fastopt.leaky_relu)
def _leaky_relu(x, negative_slope=0.01, out=None):
    check_array("x", x)
    check_numbers(negative_slope=negative_slope)
    check_output("out", out, x, "x")

    def implementation(x, negative_slope=0.01, out=None):
        y = new_or_checked(out, x)
        check_finite(negative_slope)
        if leaky_relu(y, x, negative_slope):
            raise ValueError("out: expected x itself or memory apart from it, got arrays that overlap in part")
        return y

    return implementation


@overload(fastopt.leaky_relu_backward)
def _leaky_relu_backward(grad, x, negative_slope=0.01, out=None):
    check_array("x", x)
    check_array("grad", grad, x, "x")
    check_numbers(negative_slope=negative_slope)
    check_output("out", out, grad, "grad")

    def implementation(grad, x, negative_slope=0.01, out=None):
        if grad.shape != x.shape:
            raise Refused("grad: expected shape {} like x, got {}", x.shape, grad.shape)
        dx = new_or_checked(out, grad)
        check_finite(negative_slope)
        if leaky_relu_backward(dx, grad, x, negative_slope):
            raise ValueError("out: expected grad or x itself or memory apart, got arrays that overlap in part")
        return dx

    return implementation


# ---- dropout ---------------------------------------------------------------------------------------------------------

dropout = kernel("dropout", 2, float64, uint64, uint64, int64)


@overload(fastopt.dropout)
def _dropout(x, p=0.5, training=True, rng=None, out=None):
    check_array("x", x)
    check_numbers(p=p)
    check_flags(training=training)
    check_rng(rng)
    check_output("out", out, x, "x")

    def implementation(x, p=0.5, training=True, rng=None, out=None):
        y = new_or_checked(out, x)
        check_probability(p)
        check_address(rng[0], rng[1])
        if training:
            mask = DropoutMask(np.uint64(rng[0]), np.uint64(rng[1]), float(p), x.shape)
        else:
            mask = DropoutMask(np.uint64(0), np.uint64(0), 0.0, x.shape)
        if dropout(y, x, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT):
            raise ValueError("out: expected x itself or memory apart from it, got arrays that overlap in part")
        return y, mask

    return implementation


@overload(fastopt.dropout_backward)
def _dropout_backward(grad, mask, out=None):
    check_array("grad", grad)
    check_mask(mask, grad)
    check_output("out", out, grad, "grad")

    def implementation(grad, mask, out=None):
        if grad.shape != mask.shape:
            raise Refused("grad: expected shape {} like mask, got {}", mask.shape, grad.shape)
        check_probability(mask.p)
        check_address(mask.seed, mask.stream)
        dx = new_or_checked(out, grad)
        if dropout(dx, grad, mask.p, mask.seed, mask.stream, DOMAIN_DROPOUT):
            raise ValueError("out: expected grad itself or memory apart from it, got arrays that overlap in part")
        return dx

    return implementation


@typeof_impl.register(DropoutMask)
def _typeof_mask(value, context):
    """Always of unsigned numbers: Numba takes a Python int for an int64, and every other seed is larger."""
    shape = types.BaseTuple.from_types([int64] * len(value.shape))
    return types.NamedTuple((uint64, uint64, float64, shape), DropoutMask)


def check_mask(mask, grad):
    if not isinstance(mask, types.BaseNamedTuple) or mask.instance_class is not DropoutMask:
        raise refuse("mask", "the DropoutMask that dropout returned", mask)
    check_integers(**{"mask.seed": mask.types[0], "mask.stream": mask.types[1]})
    check_numbers(**{"mask.p": mask.types[2]})
    if len(mask.types[3]) != grad.ndim:
        raise refuse("grad", f"{len(mask.types[3])} dimensions like mask", grad.ndim)


# ---- optimisers ------------------------------------------------------------------------------------------------------

adam_step = kernel("adam_step", 4, int64, *[float64] * 5, int64, float64)


@overload(fastopt.adam_step)
def _adam_step(
    param,
    grad,
    exp_avg,
    exp_avg_sq,
    step,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    decoupled_weight_decay=False,
    maximize=False,
    grad_multiplier=1.0,
):
    check_array("param", param, written=True)
    check_array("grad", grad, param, "param")
    check_array("exp_avg", exp_avg, param, "param", written=True)
    check_array("exp_avg_sq", exp_avg_sq, param, "param", written=True)
    check_integers(step=step)
    check_numbers(lr=lr, eps=eps, weight_decay=weight_decay, grad_multiplier=grad_multiplier)
    check_flags(decoupled_weight_decay=decoupled_weight_decay, maximize=maximize)
    if given(betas):
        if not isinstance(betas, types.BaseTuple) or len(betas) != 2:
            raise refuse("betas", "a tuple of two floats", betas)
        check_numbers(**{"betas[0]": betas[0], "betas[1]": betas[1]})

    def implementation(
        param,
        grad,
        exp_avg,
        exp_avg_sq,
        step,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.0,
        decoupled_weight_decay=False,
        maximize=False,
        grad_multiplier=1.0,
    ):
        if grad.shape != param.shape:
            raise Refused("grad: expected shape {} like param, got {}", param.shape, grad.shape)
        if exp_avg.shape != param.shape:
            raise Refused("exp_avg: expected shape {} like param, got {}", param.shape, exp_avg.shape)
        if exp_avg_sq.shape != param.shape:
            raise Refused("exp_avg_sq: expected shape {} like param, got {}", param.shape, exp_avg_sq.shape)
        check_step(step, lr, weight_decay, grad_multiplier)
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1):
            raise Refused("betas: expected two numbers >= 0 and < 1, got {}", betas)
        if not 0 < eps < inf:
            raise Refused("eps: expected a finite number > 0, got {}", eps)
        multiplier = -grad_multiplier if maximize else grad_multiplier
        arrays = (param, grad, exp_avg, exp_avg_sq)
        wrong = adam_step(*arrays, step, lr, betas[0], betas[1], eps, weight_decay, decoupled_weight_decay, multiplier)
        if wrong == EPS_IS_ZERO:
            raise Refused("eps: expected a number that is not 0 in the dtype of param, got {}", eps)
        if wrong:
            raise ValueError("param, grad, exp_avg, exp_avg_sq: expected memory apart, got arrays that overlap")

    return implementation


@register_jitable
def check_step(step, lr, weight_decay, grad_multiplier):
    if step < 1:
        raise Refused("step: expected an int >= 1, got {}", step)
    if not 0 <= lr < inf:
        raise Refused("lr: expected a finite number >= 0, got {}", lr)
    if not 0 <= weight_decay < inf:
        raise Refused("weight_decay: expected a finite number >= 0, got {}", weight_decay)
    if not -inf < grad_multiplier < inf:
        raise Refused("grad_multiplier: expected a finite number, got {}", grad_multiplier)


sgd_step = kernel("sgd_step", 3, int64, *[float64] * 4, int64, float64)


@overload(fastopt.sgd_step)
def _sgd_step(
    param,
    grad,
    momentum_buffer,
    step,
    lr=1e-3,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    maximize=False,
    grad_multiplier=1.0,
):
    check_array("param", param, written=True)
    check_array("grad", grad, param, "param")
    if not is_none(momentum_buffer):
        check_array("momentum_buffer", momentum_buffer, param, "param", written=True)
    check_integers(step=step)
    check_numbers(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay)
    check_numbers(grad_multiplier=grad_multiplier)
    check_flags(nesterov=nesterov, maximize=maximize)

    def implementation(
        param,
        grad,
        momentum_buffer,
        step,
        lr=1e-3,
        momentum=0.0,
        dampening=0.0,
        weight_decay=0.0,
        nesterov=False,
        maximize=False,
        grad_multiplier=1.0,
    ):
        if grad.shape != param.shape:
            raise Refused("grad: expected shape {} like param, got {}", param.shape, grad.shape)
        if momentum_buffer is None:
            if momentum != 0:
                raise Refused("momentum_buffer: expected an array for momentum {}, got None", momentum)
        elif momentum_buffer.shape != param.shape:
            raise Refused("momentum_buffer: expected shape {} like param, got {}", param.shape, momentum_buffer.shape)
        check_step(step, lr, weight_decay, grad_multiplier)
        if not 0 <= momentum < inf:
            raise Refused("momentum: expected a finite number >= 0, got {}", momentum)
        if not -inf < dampening < inf:
            raise Refused("dampening: expected a finite number, got {}", dampening)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov: expected momentum > 0 and dampening = 0")
        multiplier = -grad_multiplier if maximize else grad_multiplier
        if sgd_step(param, grad, momentum_buffer, step, lr, momentum, dampening, weight_decay, nesterov, multiplier):
            raise ValueError("param, grad, momentum_buffer: expected memory apart, got arrays that overlap")

    return implementation


ema_update = kernel("ema_update", 2, float64)


@overload(fastopt.ema_update)
def _ema_update(average, value, decay):
    check_array("average", average, written=True)
    check_array("value", value, average, "average")
    check_numbers(decay=decay)

    def implementation(average, value, decay):
        if value.shape != average.shape:
            raise Refused("value: expected shape {} like average, got {}", average.shape, value.shape)
        if not 0 <= decay <= 1:
            raise Refused("decay: expected a number from 0 to 1, got {}", decay)
        if ema_update(average, value, decay):
            raise ValueError("value: expected memory apart from average, got arrays that overlap")

    return implementation


# ---- sums ------------------------------------------------------------------------------------------------------------

add_squares = kernel("add_squares", 1, float64, result=float64)
norm = kernel("norm", 0, float64, result=float64)
penalty = kernel("penalty", 0, float64, float64, result=float64)


def add_all_squares(total, arrays):
    """`total` and the sum of squares of each array, one by one. For compiled code only."""
    raise NotImplementedError


@overload(add_all_squares)
def _add_all_squares(total, arrays):
    if isinstance(arrays, types.Array):
        return lambda total, arrays: add_squares(arrays, total)
    if isinstance(arrays, types.NoneType) or (isinstance(arrays, types.BaseTuple) and len(arrays) == 0):
        return lambda total, arrays: total
    if isinstance(arrays, types.BaseTuple):
        return lambda total, arrays: add_all_squares(add_all_squares(total, arrays[0]), arrays[1:])

    def implementation(total, arrays):
        for array in arrays:
            total = add_all_squares(total, array)
        return total

    return implementation


def check_arrays(name, kind, *, or_none=False):
    if isinstance(kind, types.BaseTuple):
        for k, part in enumerate(kind):
            check_arrays(f"{name}[{k}]", part, or_none=or_none)
    elif isinstance(kind, types.List | types.ListType):
        check_arrays(f"{name}[0]", kind.dtype, or_none=or_none)
    elif not (or_none and isinstance(kind, types.NoneType)):
        check_array(name, kind)


@overload(fastopt.grad_norm)
def _grad_norm(grads):
    check_arrays("grads", grads, or_none=True)
    return lambda grads: norm(add_all_squares(0.0, grads))


@overload(fastopt.l2_penalty)
def _l2_penalty(params, weight_decay):
    check_arrays("params", params)
    check_numbers(weight_decay=weight_decay)

    def implementation(params, weight_decay):
        if not 0 <= weight_decay < inf:
            raise Refused("weight_decay: expected a finite number >= 0, got {}", weight_decay)
        return penalty(add_all_squares(0.0, params), weight_decay)

    return implementation


# ---- random numbers: a Philox4x32 is its seed alone, and each draw names its stream --------------------------------

random_raw = kernel("random_raw", 1, uint64, uint64, uint64, int64)
random_uniform = kernel("random_uniform", 1, uint64, uint64, uint64, int64)
random_normal = kernel("random_normal", 1, uint64, uint64, uint64, int64)


LAST_WORD = 2**64 - 1


class PhiloxType(types.Type):
    def __init__(self):
        super().__init__("fastopt.Philox4x32")


@register_model(PhiloxType)
class PhiloxModel(models.StructModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, [("seed", uint64)])


make_attribute_wrapper(PhiloxType, "seed", "seed")


@typeof_impl.register(fastopt.Philox4x32)
def _typeof_philox(value, context):
    return PhiloxType()


@unbox(PhiloxType)
def _unbox_philox(kind, value, c):
    seed = c.pyapi.object_getattr_string(value, "seed")
    generator = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    generator.seed = c.pyapi.long_as_ulonglong(seed)
    c.pyapi.decref(seed)
    return NativeValue(generator._getvalue(), is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))


@intrinsic
def new_philox(context, seed):
    def code(context, builder, signature, values):
        generator = cgutils.create_struct_proxy(signature.return_type)(context, builder)
        generator.seed = values[0]
        return generator._getvalue()

    return PhiloxType()(uint64), code


@overload(fastopt.Philox4x32)
def _philox(seed=None):
    if not isinstance(seed, types.Integer):
        raise refuse("seed", "an int inside @njit", "None" if is_none(seed) else seed)

    def implementation(seed=None):
        check_address(seed, 0)
        return new_philox(seed)

    return implementation


def check_draw(size, stream, offset):
    sizes = size if isinstance(size, types.BaseTuple) else () if is_none(size) else (size,)
    if not all(isinstance(n, types.Integer) for n in sizes):
        raise refuse("size", "an int or a tuple of ints", size)
    if not isinstance(stream, types.Integer):
        raise refuse("stream", "an int: inside @njit each draw names its stream", "None" if is_none(stream) else stream)
    check_integers(offset=offset)


@register_jitable
def filled(fill, out, seed, stream, offset, domain, last):
    """`out`, filled from a stream whose elements are numbered up to `last`."""
    if stream < 0 or stream >= MAX_STREAM:
        raise Refused("stream: expected 0 <= stream < 2**56, got {}", stream)
    if offset < 0 or (out.size > 0 and np.uint64(offset) > np.uint64(last) - np.uint64(out.size - 1)):
        raise Refused("offset: expected one whose elements are within the 2**64 words of a stream, got {}", offset)
    fill(out, seed, stream, offset, domain)
    return out


@overload_method(PhiloxType, "random_raw")
def _random_raw(self, size=None, stream=None, offset=0):
    check_draw(size, stream, offset)
    if is_none(size):
        return lambda self, size=None, stream=None, offset=0: int(self.random_raw(1, stream, offset)[0])

    def implementation(self, size=None, stream=None, offset=0):
        return filled(random_raw, np.empty(size, np.uint32), self.seed, stream, offset, DOMAIN_RAW, LAST_WORD)

    return implementation


def overload_draw(name, fill, domain):
    @overload_method(PhiloxType, name)
    def draw(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
        check_draw(size, stream, offset)
        element = parse_dtype(dtype) if given(dtype) else float64
        if element not in (types.float32, float64):
            raise refuse("dtype", "np.float32 or np.float64", dtype)
        number, last = as_dtype(element).type, LAST_WORD // (element.bitwidth // 32)
        if not is_none(out):
            check_array("out", out, written=True)
            if out.dtype != element:
                raise refuse("out", f"an array of {element} (the dtype argument)", out)
            if not is_none(size):
                raise refuse("size", "None beside out inside @njit", size)

            def implementation(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
                return filled(fill, out, self.seed, stream, offset, domain, last)

        elif is_none(size):

            def implementation(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
                return float(filled(fill, np.empty(1, number), self.seed, stream, offset, domain, last)[0])

        else:

            def implementation(self, size=None, dtype=np.float64, out=None, stream=None, offset=0):
                return filled(fill, np.empty(size, number), self.seed, stream, offset, domain, last)

        return implementation


overload_draw("random", random_uniform, DOMAIN_UNIFORM)
overload_draw("standard_normal", random_normal, DOMAIN_NORMAL)
