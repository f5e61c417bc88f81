// Every kernel, compiled once per instruction set, in two groups for the sake of build time: the optimisers, which take
// most of it, and all the others. All of it has internal linkage except the table at the end: a template or inline function
// with external linkage would be a weak symbol, of which the linker keeps one copy for all instruction sets.
#include "fastopt.h"

#include <stddef.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// The iterations of the next loop are independent: an output may be the very array that is read, at the same index.
#if defined(__clang__)
#define FASTOPT_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define FASTOPT_INDEPENDENT _Pragma("GCC ivdep")
#endif

// For what a loop calls on every element: left to itself, GCC stops inlining where a function has grown large, and a loop
// with a call in it is not vectorised (Adam took 4.8 ns an element instead of 0.28).
#define FASTOPT_INLINE inline __attribute__((always_inline))

namespace {

template <class T>
FASTOPT_INLINE T square_root(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x);
    else return __builtin_sqrt(x);
}

#if defined(FASTOPT_GROUP_OPTIMIZERS)
#include "philox.hpp"
#include "optimizer.hpp"
#include "small_states.hpp"
#include "adam.hpp"
#include "sgd.hpp"
#else
#include "stream.hpp"
#include "leaky_relu.hpp"
#include "registers.hpp"
#include "reduce.hpp"
#include "philox.hpp"
#include "math.hpp"
#include "normal.hpp"
#include "dropout.hpp"
#include "cem.hpp"
#include "bias_leaky_relu_dropout.hpp"
#include "tiles.hpp"
#include "policy.hpp"
#include "advantage.hpp"
#endif

template <class Args, void (*kernel)(const Args&, int64_t, int64_t)>
void entry(const void* args, int64_t begin, int64_t end) {
    kernel(*static_cast<const Args*>(args), begin, end);
}

}  // namespace

#define CONCATENATE(a, b) a##b
#define NAME_OF(table, isa) CONCATENATE(table, isa)
#define KERNEL(NAME) {entry<NAME##_args, NAME<float>>, entry<NAME##_args, NAME<double>>},

extern "C" {
#if defined(FASTOPT_GROUP_OPTIMIZERS)
extern const fastopt_optimizer_table NAME_OF(fastopt_optimizers_, FASTOPT_ISA);
const fastopt_optimizer_table NAME_OF(fastopt_optimizers_, FASTOPT_ISA) = {FASTOPT_OPTIMIZERS(KERNEL)};
#else
extern const fastopt_kernel_table NAME_OF(fastopt_kernels_, FASTOPT_ISA);
const fastopt_kernel_table NAME_OF(fastopt_kernels_, FASTOPT_ISA) = {FASTOPT_KERNELS(KERNEL)};
#endif
}
