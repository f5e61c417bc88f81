// Looks at the CPU once and chooses the table of kernels.
#include "runtime.h"

#include <cstring>

#define TABLE_OF_ISA(FAMILY, ISA) extern const FASTOPT_TABLE_OF(FAMILY) FASTOPT_TABLE_NAME(FAMILY, ISA);
#define ADDRESS(FAMILY, ISA) &FASTOPT_TABLE_NAME(FAMILY, ISA),
#define BASELINE_TABLE(FAMILY) TABLE_OF_ISA(FAMILY, baseline)
#define BASELINE(FAMILY) ADDRESS(FAMILY, baseline)
extern "C" {
FASTOPT_FAMILIES(BASELINE_TABLE)
}
// CMakeLists.txt defines FASTOPT_HAS_... for what is compiled besides.
#if defined(FASTOPT_HAS_x86_64_v3)
#define V3_TABLE(FAMILY) TABLE_OF_ISA(FAMILY, x86_64_v3)
#define V3(FAMILY) ADDRESS(FAMILY, x86_64_v3)
extern "C" {
FASTOPT_FAMILIES(V3_TABLE)
}
#endif
#if defined(FASTOPT_HAS_x86_64_v4)
#define V4_TABLE(FAMILY) TABLE_OF_ISA(FAMILY, x86_64_v4)
#define V4(FAMILY) ADDRESS(FAMILY, x86_64_v4)
extern "C" {
FASTOPT_FAMILIES(V4_TABLE)
}
#endif

extern "C" {
fastopt_tables fastopt_kernels = {FASTOPT_FAMILIES(BASELINE)};
}

namespace {

struct instruction_set {
    const char* name;
    fastopt_tables kernels;
    bool (*runs_here)();
};

// The features of an x86-64 level that no CPU has without the rest of it, in names that every compiler knows.
#if defined(FASTOPT_HAS_x86_64_v3) || defined(FASTOPT_HAS_x86_64_v4)
bool has_v3() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2");
}
#endif
#if defined(FASTOPT_HAS_x86_64_v4)
bool has_v4() {
    return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

const instruction_set INSTRUCTION_SETS[] = {
    {"baseline", {FASTOPT_FAMILIES(BASELINE)}, [] { return true; }},
#if defined(FASTOPT_HAS_x86_64_v3)
    {"x86-64-v3", {FASTOPT_FAMILIES(V3)}, has_v3},
#endif
#if defined(FASTOPT_HAS_x86_64_v4)
    {"x86-64-v4", {FASTOPT_FAMILIES(V4)}, has_v4},
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
    return nullptr;
}

extern "C" const char* fastopt_isa(void) { return selected->name; }

extern "C" const char* fastopt_available_isa(int k) {
    for (const instruction_set& isa : INSTRUCTION_SETS)
        if (isa.runs_here() && k-- == 0) return isa.name;
    return nullptr;
}

// ---- the list of kernels, and which of them ran ---------------------------------------------------------------------

namespace {

#define INDEX(NAME, RECORD) INDEX_##NAME,
#define INDICES(FAMILY) FASTOPT_KERNELS_##FAMILY(INDEX)
enum { FASTOPT_FAMILIES(INDICES) COUNT };

const fastopt_kernel* listed[COUNT];  // of the instruction set in use, while it is traced
bool ran[COUNT][2];

template <int K, int TYPE>
void traced(const void* args, int64_t begin, int64_t end) {
    __atomic_store_n(&ran[K][TYPE], true, __ATOMIC_RELAXED);
    listed[K][TYPE](args, begin, end);
}

#define TRACED(NAME, RECORD) {traced<INDEX_##NAME, 0>, traced<INDEX_##NAME, 1>},
#define TRACED_TABLE(FAMILY) const FASTOPT_TABLE_OF(FAMILY) traced_##FAMILY = {FASTOPT_KERNELS_##FAMILY(TRACED)};
FASTOPT_FAMILIES(TRACED_TABLE)
#define TRACED_ADDRESS(FAMILY) &traced_##FAMILY,

}  // namespace

extern "C" int fastopt_kernel_at(fastopt_listed_kernel* kernel, const char* isa, int k) {
    const instruction_set* of = selected;
    for (const instruction_set& other : INSTRUCTION_SETS)
        if (isa != nullptr && std::strcmp(isa, other.name) == 0) of = &other;
#define LISTED(NAME, RECORD) if (k-- == 0) return *kernel = {family, #NAME, #RECORD, table.NAME}, 1;
#define LISTED_FAMILY(FAMILY)                       \
    {                                               \
        const auto& table = *of->kernels.FAMILY;    \
        const char* family = #FAMILY;               \
        FASTOPT_KERNELS_##FAMILY(LISTED)            \
    }
    FASTOPT_FAMILIES(LISTED_FAMILY)
    return 0;
}

extern "C" void fastopt_trace(int on) {
    fastopt_listed_kernel kernel;
    if (on)
        for (int k = 0; fastopt_kernel_at(&kernel, nullptr, k); ++k) {
            listed[k] = kernel.kernels;
            ran[k][0] = ran[k][1] = false;
        }
    fastopt_kernels = on ? fastopt_tables{FASTOPT_FAMILIES(TRACED_ADDRESS)} : selected->kernels;
}

extern "C" int fastopt_traced(int k, int element_type) { return __atomic_load_n(&ran[k][element_type], __ATOMIC_RELAXED); }
