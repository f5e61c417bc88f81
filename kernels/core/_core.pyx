# cython: language_level=3, wraparound=False, cdivision=True, binding=False, embedsignature=True, embedsignature.format=clinic
"""The only door between Python and the kernels: it checks, takes pointers, cuts the work into chunks and calls.

Everything that can be wrong is found before a kernel is entered, so that an array is written whole or not at all. Loops
over elements are in kernels/; those here are over arrays, over what a call is given, and over numbers to be checked.
"""

import os

import numpy as np

from fastopt._tree import SparseRows, same_structure

cimport cython
cimport numpy as cnp
from cpython.dict cimport PyDict_Next
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.unicode cimport PyUnicode_AsUTF8
from libc.math cimport NAN, isfinite, signbit, sqrt
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcpy, memset
from numpy cimport (
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_CARRAY, NPY_ARRAY_F_CONTIGUOUS, NPY_ARRAY_FARRAY,
    NPY_ARRAY_WRITEABLE, NPY_BOOL, NPY_CORDER, NPY_DOUBLE, NPY_FLOAT,
    NPY_FORTRANORDER, NPY_INT64, NPY_KEEPORDER, NPY_UINT16, NPY_UINT64, PyArray_CheckExact, PyArray_CopyInto, PyArray_DATA, PyArray_DIMS, PyArray_EMPTY,
    PyArray_FLAGS, PyArray_IS_C_CONTIGUOUS, PyArray_ISBYTESWAPPED,
    PyArray_ISWRITEABLE, PyArray_ITEMSIZE, PyArray_NBYTES, PyArray_NDIM, PyArray_New, PyArray_NewCopy, PyArray_SIZE, PyArray_STRIDES,
    PyArray_TYPE, get_array_base, ndarray, npy_intp, set_array_base,
)

cdef extern from "Python.h":
    ctypedef struct PyFloatObject:
        double ob_fval
    object PyFloat_FromDouble(double value)

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(ndarray prototype, int order, void* descr, int subok)

include "fastopt.pxi"  # made from fastopt.h and runtime.h

cdef extern from *:
    const char* FASTOPT_VERSION  # defined by CMakeLists.txt, from pyproject.toml

cnp.import_array()

__version__ = FASTOPT_VERSION.decode()

include "core/float_mode.pxi"
include "core/checks.pxi"
include "core/run.pxi"
include "core/sums.pxi"
include "activations/activations.pxi"
include "random/random.pxi"
include "masking/masking.pxi"
include "policy/rows.pxi"
include "policy/categorical.pxi"
include "policy/advantage.pxi"
include "policy/networks.pxi"
include "policy/actor_critic.pxi"
include "policy/ppo.pxi"
include "policy/gaussian.pxi"
include "cem/cem.pxi"
include "cem/batch.pxi"
include "plan/plan.pxi"
include "optimizers/sparse_rows.pxi"
include "optimizers/memory.pxi"
include "optimizers/state.pxi"
include "optimizers/rules.pxi"
include "optimizers/parameters.pxi"
include "optimizers/optimizer.pxi"
include "optimizers/dlpack.pxi"
include "optimizers/tensor_states.pxi"
include "optimizers/tensors.pxi"
include "masking/tensors.pxi"
include "optimizers/arrays.pxi"
include "core/machine.pxi"
