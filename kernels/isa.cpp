// The loops of one family for one instruction set: this file is compiled once for each pair. FASTOPT_LOOPS includes the
// family's headers (CMakeLists.txt lists them). All of it has internal linkage but the table at the end.
#include "core/kernel.hpp"

#include FASTOPT_LOOPS

namespace {

template <class Args, void (*kernel)(const Args&, int64_t, int64_t)>
void entry(const void* args, int64_t begin, int64_t end) {
    kernel(*static_cast<const Args*>(args), begin, end);
}

}  // namespace

#define CONCATENATE(a, b) a##b
#define LIST_OF(family) CONCATENATE(FASTOPT_KERNELS_, family)
#define TABLE_TYPE(family) FASTOPT_TABLE_OF(family)
#define TABLE_NAME(family, isa) FASTOPT_TABLE_NAME(family, isa)
#define KERNEL(NAME, RECORD) {entry<RECORD, NAME<float>>, entry<RECORD, NAME<double>>},

extern "C" {
extern const TABLE_TYPE(FASTOPT_FAMILY) TABLE_NAME(FASTOPT_FAMILY, FASTOPT_ISA);
const TABLE_TYPE(FASTOPT_FAMILY) TABLE_NAME(FASTOPT_FAMILY, FASTOPT_ISA) = {LIST_OF(FASTOPT_FAMILY)(KERNEL)};
}
