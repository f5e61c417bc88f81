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

// A compiler does not know that arithmetic depends on the mode: it may compute what is in registers before the mode is set,
// or after it has been put back. What goes into such a computation and what comes out of it passes through here.
inline double in_mode(double x) {
    __asm__ volatile("" : "+m"(x));
    return x;
}

// After foreign code: the mode of kernels again, and of the registers that kernels do not use the mode that was.
class foreign_float_mode {
  public:
#if defined(__x86_64__)
    foreign_float_mode() : x87_(x87()) {}
    ~foreign_float_mode() {
        default_float_mode::again();
        if (x87() != x87_) __asm__ volatile("fldcw %0" : : "m"(x87_));
    }

  private:
    static unsigned short x87() {
        unsigned short control;
        __asm__ volatile("fnstcw %0" : "=m"(control));
        return control;
    }
    const unsigned short x87_;
#else
    ~foreign_float_mode() { default_float_mode::again(); }
#endif
};
