// A random number below another.
#pragma once

#include <stdint.h>

namespace {

__extension__ typedef unsigned __int128 uint128;

// floor(u * range / 2^64): of the 2^64 values of u, each number below range gets floor or ceil of 2^64 / range.
inline uint64_t below(uint64_t u, uint64_t range) { return static_cast<uint64_t>(static_cast<uint128>(u) * range >> 64); }

inline uint64_t two_words(const uint32_t* words) { return words[0] | static_cast<uint64_t>(words[1]) << 32; }

}  // namespace
