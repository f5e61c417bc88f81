// Elements from one layout to another. NumPy's own copy may ask for memory, and what has been computed in an array beside
// the user's has to get there: by then nothing may fail any more.
#include "runtime.h"

#include <cstring>

namespace {

constexpr int MOST_DIMENSIONS = 64;  // NumPy's

struct axis {
    int64_t length, to, from;  // strides in bytes
};

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

template <int BYTES>
void copy_axes(const axis* axes, int count, char* out, const char* values) {
    if (count == 0) {
        std::memcpy(out, values, BYTES);
    } else if (count == 1) {
        for (int64_t i = 0; i < axes->length; ++i) std::memcpy(out + i * axes->to, values + i * axes->from, BYTES);
    } else {
        for (int64_t i = 0; i < axes->length; ++i)
            copy_axes<BYTES>(axes + 1, count - 1, out + i * axes->to, values + i * axes->from);
    }
}

}  // namespace

extern "C" void fastopt_copy(void* out, const int64_t* out_strides, const void* values, const int64_t* strides,
                             const int64_t* shape, int dimensions, int64_t element_bytes) {
    axis axes[MOST_DIMENSIONS];
    int count = 0;
    for (int d = 0; d < dimensions; ++d) {
        if (shape[d] == 0) return;
        if (shape[d] == 1) continue;
        int at = count++;  // the longest way between elements of `out` goes first
        for (; at > 0 && magnitude(axes[at - 1].to) < magnitude(out_strides[d]); --at) axes[at] = axes[at - 1];
        axes[at] = {shape[d], out_strides[d], strides[d]};
    }
    if (element_bytes == 2) copy_axes<2>(axes, count, static_cast<char*>(out), static_cast<const char*>(values));
    else if (element_bytes == 4) copy_axes<4>(axes, count, static_cast<char*>(out), static_cast<const char*>(values));
    else copy_axes<8>(axes, count, static_cast<char*>(out), static_cast<const char*>(values));
}
