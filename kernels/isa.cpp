// Every kernel, compiled once per instruction set. All of it has internal linkage except the table at the end: a
// template or inline function with external linkage would be a weak symbol, of which the linker keeps one copy for all
// instruction sets.
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

#include "stream.hpp"
#include "leaky_relu.hpp"
#include "reduce.hpp"
#include "philox.hpp"
#include "normal.hpp"
#include "dropout.hpp"
#include "optimizer.hpp"
#include "small_states.hpp"
#include "adam.hpp"
#include "sgd.hpp"

template <class Args, void (*kernel)(const Args&, int64_t, int64_t)>
void entry(const void* args, int64_t begin, int64_t end) {
    kernel(*static_cast<const Args*>(args), begin, end);
}

}  // namespace

#define CONCATENATE(a, b) a##b
#define TABLE_OF(isa) CONCATENATE(fastopt_table_, isa)
#define KERNEL(NAME) {entry<NAME##_args, NAME<float>>, entry<NAME##_args, NAME<double>>},

extern "C" {
extern const fastopt_table TABLE_OF(FASTOPT_ISA);
const fastopt_table TABLE_OF(FASTOPT_ISA) = {FASTOPT_KERNELS(KERNEL)};
}
