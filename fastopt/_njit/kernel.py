"""Functions of kernels/core/njit.cpp, by name, for compiled code."""

from __future__ import annotations

from inspect import Parameter, Signature

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastopt import _core

int64, uint64, float64 = types.int64, types.uint64, types.float64

for _name, _address in _core.symbols().items():
    llvmlite.binding.add_symbol(_name, _address)


def kernel(name, arrays, *scalars, contract=1, result=int64):
    """Return that function as one for compiled code, which takes so many arrays of one dtype, and scalars.

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
