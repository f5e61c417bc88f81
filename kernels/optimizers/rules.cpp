// The rules of the optimisers, by name: their scalars, and where their kernels are in the table.
#include "scalars.h"

#include <cstddef>
#include <cstring>

#define KERNEL_OF(NAME) static_cast<int64_t>(offsetof(fastopt_optimizers_table, NAME))
#define RULE(NAME)                                                                                 \
    {#NAME,                                                                                        \
     fastopt_##NAME##_scalars,                                                                     \
     static_cast<int64_t>(sizeof(NAME##_hyper) / sizeof(double)),                                  \
     {KERNEL_OF(NAME), KERNEL_OF(NAME##_bfloat16), KERNEL_OF(NAME##_8bit), KERNEL_OF(NAME##_rows), \
      KERNEL_OF(NAME##_bfloat16_params)}},

static const fastopt_rule RULES[] = {FASTOPT_RULES(RULE)};

extern "C" const fastopt_rule* fastopt_find_rule(const char* name) {
    for (const fastopt_rule& rule : RULES)
        if (std::strcmp(rule.name, name) == 0) return &rule;
    return nullptr;
}

extern "C" const fastopt_kernel* fastopt_rule_kernels(const fastopt_rule* rule, int form) {
    const char* table = reinterpret_cast<const char*>(fastopt_kernels.optimizers);
    return reinterpret_cast<const fastopt_kernel*>(table + rule->offsets[form]);
}
