#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <cfenv>
#endif

// Round to nearest, subnormal numbers kept: what NumPy computes with, whatever another library has set in this thread. At
// its end the mode is as it was, whatever foreign code has set meanwhile.
class default_float_mode {
  public:
#if defined(__x86_64__)
    default_float_mode() : saved_(_mm_getcsr()) {
        if ((saved_ & ~EXCEPTION_FLAGS) != DEFAULT) _mm_setcsr(DEFAULT);
    }
    ~default_float_mode() {
        if (((_mm_getcsr() ^ saved_) & ~EXCEPTION_FLAGS) != 0) _mm_setcsr(saved_);
    }
    // After foreign code.
    static void again() {
        if ((_mm_getcsr() & ~EXCEPTION_FLAGS) != DEFAULT) _mm_setcsr(DEFAULT);
    }

  private:
    static constexpr unsigned DEFAULT = 0x1F80, EXCEPTION_FLAGS = 0x3F;
    unsigned saved_;
#else
    default_float_mode() { std::fegetenv(&saved_), std::fesetenv(FE_DFL_ENV); }
    ~default_float_mode() { std::fesetenv(&saved_); }
    static void again() { std::fesetenv(FE_DFL_ENV); }

  private:
    std::fenv_t saved_;
#endif
};
