# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The only door between Python and the kernels: it checks, takes pointers and calls. No arithmetic happens here.

Everything that can be wrong is found before a kernel is entered, so that an array is written whole or not at all.
"""

import os

import numpy as np

from fastopt._checks import finite_number
from fastopt._tree import SparseRows, same_structure

cimport numpy as cnp
from libc.math cimport NAN, isfinite
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset
from numpy cimport (
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_F_CONTIGUOUS, NPY_BOOL, NPY_CORDER, NPY_DOUBLE, NPY_FLOAT,
    NPY_FORTRANORDER, NPY_INT64, NPY_KEEPORDER, PyArray_CheckExact, PyArray_CopyInto, PyArray_DATA, PyArray_DIMS, PyArray_EMPTY,
    PyArray_FLAGS, PyArray_ISBYTESWAPPED,
    PyArray_ISWRITEABLE, PyArray_ITEMSIZE, PyArray_NBYTES, PyArray_NDIM, PyArray_NewCopy, PyArray_SIZE, PyArray_STRIDES,
    PyArray_TYPE, ndarray, npy_intp,
)

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(ndarray prototype, int order, void* descr, int subok)

ctypedef int64_t (*cem_score_function)(void* x, int64_t rows, int64_t dimensions, double* scores) noexcept nogil

cdef extern from "fastopt.h" nogil:
    const char* FASTOPT_VERSION  # defined by CMakeLists.txt, from pyproject.toml

    ctypedef struct leaky_relu_args:
        void* y
        const void* x
        double negative_slope
        int nontemporal

    ctypedef struct leaky_relu_backward_args:
        void* dx
        const void* grad
        const void* x
        double negative_slope
        int nontemporal

    ctypedef struct count_inactive_args:
        int64_t* counts
        const void* x
        int64_t columns

    ctypedef struct random_address:
        uint64_t seed
        uint64_t stream
        uint32_t domain

    ctypedef struct random_raw_args:
        uint32_t* out
        random_address address
        uint64_t offset

    ctypedef struct random_uniform_args:
        void* out
        random_address address
        uint64_t offset

    ctypedef struct random_normal_args:
        void* out
        random_address address
        uint64_t offset

    ctypedef struct dropout_args:
        void* y
        const void* x
        random_address address
        uint32_t threshold
        double scale
        int nontemporal

    ctypedef struct cem_distribution_args:
        const void* mean
        const void* std
        const void* factor
        const void* lower
        const void* upper
        int64_t dimensions
        random_address address
        int64_t population
        int antithetic
        int reflect

    ctypedef struct cem_candidates_args:
        void* out
        cem_distribution_args distribution
        const int64_t* indices
        int64_t first
        void* scratch

    const int64_t FASTOPT_CEM_SHORT, FASTOPT_SCORE_ELEMENTS
    ctypedef struct cem_score_args:
        double* scores
        cem_candidates_args candidates
        cem_score_function score
        int* failed

    ctypedef struct cem_refit_args:
        void* mean
        void* std
        void* factor
        double* work
        cem_distribution_args distribution
        const int64_t* elites
        const void* elite_candidates
        int64_t count
        double mean_lr
        double std_lr
        double extra_variance
        double min_std
        int about_new_mean

    ctypedef struct bias_leaky_relu_dropout_args:
        void* y
        const void* x
        const void* bias
        int64_t columns
        random_address address
        uint32_t threshold
        double scale
        double negative_slope
        int nontemporal

    const int64_t FASTOPT_ROW_BLOCK, FASTOPT_COLUMN_TILE
    ctypedef struct bias_leaky_relu_dropout_backward_args:
        void* dx
        double* block_sums
        const void* grad
        const void* y
        int64_t rows
        int64_t columns
        double scale
        double negative_slope
        int nontemporal

    ctypedef struct add_row_blocks_args:
        void* out
        const double* block_sums
        int64_t blocks
        int64_t columns

    ctypedef struct adam_scalars:
        double eps

    ctypedef struct sgd_scalars:
        pass

    ctypedef struct optimizer_args:
        void* param
        void* momentum
        void* exp_avg_sq
        void* max_exp_avg_sq
        void* ema
        void* grad
        const void* scalars
        double ema_rate
        int zero_grad

    const int64_t FASTOPT_STATE_BLOCK
    ctypedef struct small_state_args:
        optimizer_args step
        uint8_t* exponents[3]
        random_address rounding
        uint32_t step_number

    ctypedef struct optimizer_rows_args:
        optimizer_args step
        const int64_t* rows
        int64_t width

    ctypedef struct sum_rows_args:
        void* out
        const void* values
        const int64_t* group
        int64_t rows
        int64_t width

    ctypedef struct ema_args:
        void* average
        const void* value
        double rate

    ctypedef struct scale_args:
        void* x
        double factor

    const int64_t FASTOPT_SUM_BLOCK
    ctypedef struct sum_squares_args:
        double* block_sums
        const void* x
        int64_t size

    ctypedef struct sum_args:
        double* block_sums
        const void* x
        int64_t size
        double mean

    ctypedef struct standardize_args:
        void* y
        const void* x
        double mean
        double scale

    ctypedef struct categorical_kl_args:
        void* kl
        const void* old_logits
        const void* new_logits
        int64_t columns

    ctypedef struct categorical_log_prob_args:
        void* log_prob
        const void* logits
        const int64_t* actions
        int64_t columns

    ctypedef struct categorical_entropy_args:
        void* entropy
        const void* logits
        int64_t columns

    ctypedef struct categorical_sample_args:
        int64_t* actions
        const void* logits
        int64_t columns
        random_address address

    ctypedef struct categorical_policy_gradient_args:
        void* dlogits
        void* losses
        const void* logits
        const int64_t* actions
        const void* advantages
        int64_t columns
        double scale
        double entropy_coef
        double entropy_scale

    ctypedef struct gaussian_kl_args:
        void* kl
        const void* old_mean
        const void* old_log_std
        const void* new_mean
        const void* new_log_std
        int64_t columns
        int64_t old_stride
        int64_t new_stride

    ctypedef struct gaussian_log_prob_args:
        void* log_prob
        const void* mean
        const void* log_std
        const void* actions
        int64_t columns
        int64_t stride
        double constant

    ctypedef struct gaussian_entropy_args:
        void* entropy
        const void* log_std
        int64_t columns
        double constant

    ctypedef struct gaussian_sample_args:
        void* actions
        const void* mean
        const void* log_std
        int64_t columns
        int64_t stride
        random_address address

    ctypedef struct gaussian_policy_gradient_args:
        void* dmean
        void* dlog_std
        double* column_sums
        void* losses
        const void* mean
        const void* log_std
        const void* actions
        const void* advantages
        int64_t rows
        int64_t columns
        int64_t stride
        double scale
        double log_prob_constant
        double entropy_coef
        double entropy_constant
        double entropy_scale

    ctypedef struct discounted_returns_args:
        void* returns
        const void* rewards
        const uint8_t* terminated
        const uint8_t* truncated
        const void* next_values
        int64_t time
        int64_t environments
        double gamma

    ctypedef struct gae_args:
        void* advantages
        void* returns
        const void* rewards
        const void* values
        const void* next_values
        const uint8_t* terminated
        const uint8_t* truncated
        int64_t time
        int64_t environments
        double gamma
        double gamma_lam

    ctypedef struct stream_args:
        void* out[6]
        const void* in_ "in"[6]
        int outputs
        int inputs
        int nontemporal

    void fastopt_adam_scalars(adam_scalars* out, double t, double lr, double beta1, double beta2, double eps,
                              double weight_decay, int decoupled_weight_decay, double grad_scale)
    void fastopt_sgd_scalars(sgd_scalars* out, double t, double lr, double momentum, double dampening,
                             double weight_decay, int nesterov, double grad_scale)
    void fastopt_dropout_scalars(double p, uint32_t* threshold, double* scale)
    double fastopt_add_up(const double* sums, int64_t count)
    double fastopt_penalty(double weight_decay, const double* sums, int64_t count)
    double fastopt_norm(double multiplier, const double* sums, int64_t count)
    double fastopt_clip(double norm, double max_norm)
    int64_t fastopt_select_elites(int64_t* elites, int64_t* best, const double* scores, int64_t n, int64_t wanted,
                                  int maximize, double* work)
    double fastopt_largest_magnitude(const void* x, int64_t n, int element_type)

    double fastopt_mean(const double* sums, int64_t count, int64_t size)
    double fastopt_standardize_scale(const double* sums, int64_t count, int64_t size, double eps)
    double fastopt_gaussian_log_prob_constant(int64_t columns)
    double fastopt_gaussian_entropy_constant(int64_t columns)
    void fastopt_categorical_gradient_scalars(categorical_policy_gradient_args* args, int64_t rows, double entropy_coef)
    void fastopt_gaussian_gradient_scalars(gaussian_policy_gradient_args* args, double entropy_coef)

    ctypedef void (*fastopt_kernel)(const void* args, int64_t begin, int64_t end)
    ctypedef struct fastopt_kernel_table:
        fastopt_kernel leaky_relu[2]
        fastopt_kernel leaky_relu_backward[2]
        fastopt_kernel count_inactive[2]
        fastopt_kernel random_raw[2]
        fastopt_kernel random_uniform[2]
        fastopt_kernel random_normal[2]
        fastopt_kernel dropout[2]
        fastopt_kernel bias_leaky_relu_dropout[2]
        fastopt_kernel bias_leaky_relu_dropout_backward[2]
        fastopt_kernel add_row_blocks[2]
        fastopt_kernel sum_squares[2]
        fastopt_kernel sum_values[2]
        fastopt_kernel sum_squared_deviations[2]
        fastopt_kernel standardize[2]
        fastopt_kernel categorical_kl[2]
        fastopt_kernel categorical_log_prob[2]
        fastopt_kernel categorical_entropy[2]
        fastopt_kernel categorical_sample[2]
        fastopt_kernel categorical_policy_gradient[2]
        fastopt_kernel gaussian_kl[2]
        fastopt_kernel gaussian_log_prob[2]
        fastopt_kernel gaussian_entropy[2]
        fastopt_kernel gaussian_sample[2]
        fastopt_kernel gaussian_policy_gradient[2]
        fastopt_kernel discounted_returns[2]
        fastopt_kernel gae[2]
        fastopt_kernel cem_candidates[2]
        fastopt_kernel cem_score[2]
        fastopt_kernel cem_refit[2]
        fastopt_kernel cem_refit_full[2]
        fastopt_kernel stream[2]
    const fastopt_kernel_table* fastopt_kernels

    ctypedef struct fastopt_optimizer_table:
        fastopt_kernel adam[2]
        fastopt_kernel adam_bfloat16[2]
        fastopt_kernel adam_8bit[2]
        fastopt_kernel adam_rows[2]
        fastopt_kernel sgd[2]
        fastopt_kernel sgd_bfloat16[2]
        fastopt_kernel sgd_8bit[2]
        fastopt_kernel sgd_rows[2]
        fastopt_kernel sum_rows[2]
        fastopt_kernel ema[2]
        fastopt_kernel scale[2]
    const fastopt_optimizer_table* fastopt_optimizers

    const char* fastopt_select_isa(const char* name)
    const char* fastopt_isa()
    const char* fastopt_available_isa(int k)

    ctypedef struct fastopt_job:
        fastopt_kernel kernel
        const void* args
        int64_t size
        int64_t grain
    void fastopt_run(fastopt_job* jobs, int64_t count)
    ctypedef struct fastopt_ahead:
        pass
    fastopt_ahead* fastopt_begin(const fastopt_job* job)
    void fastopt_wait(fastopt_ahead* ahead, int64_t items)
    void fastopt_end(fastopt_ahead* ahead)
    int fastopt_get_num_threads()
    void fastopt_set_num_threads(int count)

    const int64_t FASTOPT_NONTEMPORAL_BYTES
    ctypedef struct fastopt_symbol:
        const char* name
        const void* address
    const fastopt_symbol* fastopt_symbols

cnp.import_array()

__version__ = FASTOPT_VERSION.decode()

include "checks.pxi"
include "elementwise.pxi"
include "policy.pxi"
include "cem.pxi"
include "sparse_rows.pxi"
include "optimizers.pxi"
include "machine.pxi"
