#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <cfenv>
#endif

// Round to nearest, subnormal numbers kept: what NumPy computes with, whatever another library has set in this thread.
class default_float_mode {
  public:
#if defined(__x86_64__)
    default_float_mode() : saved_(_mm_getcsr()) {
        if ((saved_ & ~EXCEPTION_FLAGS) != DEFAULT) _mm_setcsr(DEFAULT);
    }
    ~default_float_mode() {
        if ((saved_ & ~EXCEPTION_FLAGS) != DEFAULT) _mm_setcsr(saved_);
    }

  private:
    static constexpr unsigned DEFAULT = 0x1F80, EXCEPTION_FLAGS = 0x3F;
    unsigned saved_;
#else
    default_float_mode() { std::fegetenv(&saved_), std::fesetenv(FE_DFL_ENV); }
    ~default_float_mode() { std::fesetenv(&saved_); }

  private:
    std::fenv_t saved_;
#endif
};
