// Looks at the CPU once and chooses the table of kernels.
#include "fastopt.h"

#include <cstring>

#define TABLES_OF(isa)                                    \
    extern const fastopt_kernel_table fastopt_kernels_##isa; \
    extern const fastopt_optimizer_table fastopt_optimizers_##isa;
extern "C" {
TABLES_OF(baseline)
#if defined(__x86_64__)
TABLES_OF(x86_64_v3)
TABLES_OF(x86_64_v4)
#endif
const fastopt_kernel_table* fastopt_kernels = &fastopt_kernels_baseline;
const fastopt_optimizer_table* fastopt_optimizers = &fastopt_optimizers_baseline;
}

namespace {

struct instruction_set {
    const char* name;
    const fastopt_kernel_table* kernels;
    const fastopt_optimizer_table* optimizers;
    bool (*runs_here)();
};

// The features of an x86-64 level that no CPU has without the rest of it, in names that every compiler knows.
#if defined(__x86_64__)
bool has_v3() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}

bool has_v4() {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

const instruction_set INSTRUCTION_SETS[] = {
    {"baseline", &fastopt_kernels_baseline, &fastopt_optimizers_baseline, [] { return true; }},
#if defined(__x86_64__)
    {"x86-64-v3", &fastopt_kernels_x86_64_v3, &fastopt_optimizers_x86_64_v3, has_v3},
    {"x86-64-v4", &fastopt_kernels_x86_64_v4, &fastopt_optimizers_x86_64_v4, has_v4},
#endif
};

const instruction_set* selected = &INSTRUCTION_SETS[0];

}  // namespace

extern "C" const char* fastopt_select_isa(const char* name) {
    const instruction_set* choice = nullptr;
    for (const instruction_set& isa : INSTRUCTION_SETS) {
        if (name == nullptr ? isa.runs_here() : std::strcmp(name, isa.name) == 0) choice = &isa;
    }
    if (choice == nullptr) return "is not an instruction set of this build";
    if (!choice->runs_here()) return "is not supported by this CPU";
    selected = choice;
    fastopt_kernels = choice->kernels;
    fastopt_optimizers = choice->optimizers;
    return nullptr;
}

extern "C" const char* fastopt_isa(void) { return selected->name; }

extern "C" const char* fastopt_available_isa(int k) {
    for (const instruction_set& isa : INSTRUCTION_SETS)
        if (isa.runs_here() && k-- == 0) return isa.name;
    return nullptr;
}
