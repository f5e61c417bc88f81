// Dropout's threshold and scale, once a call.
#include "scalars.h"

#include "core/float_mode.hpp"

#include <cmath>

extern "C" void fastopt_dropout_scalars(double p, uint32_t* threshold, double* scale) {
    default_float_mode mode;
    const double rounded = std::nearbyint(65536 * in_mode(p));
    const double kept_within = rounded < 1 ? 1 : rounded > 65535 ? 65535 : rounded;
    *threshold = static_cast<uint32_t>(kept_within);
    *scale = in_mode(1 / (1 - kept_within / 65536));
}
