// The versions of the C and C++ libraries' functions that old distributions have, where a new one gives what is linked there
// versions of its own: the same functions, but in another library (libc, not libpthread). So a module that was built on a new
// distribution is loaded on an old one (manylinux_2_28). Included by what calls them; flags.cmake says where it is so.
#pragma once

#if defined(FASTOPT_OLD_GLIBC)
#if defined(__x86_64__)
#define FASTOPT_FIRST_GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define FASTOPT_FIRST_GLIBC "GLIBC_2.17"
#endif
#endif

#if defined(FASTOPT_FIRST_GLIBC)
#define FASTOPT_OLD(NAME, VERSION) __asm__(".symver " #NAME "," #NAME "@" VERSION);
FASTOPT_OLD(pthread_create, FASTOPT_FIRST_GLIBC)
FASTOPT_OLD(pthread_join, FASTOPT_FIRST_GLIBC)
FASTOPT_OLD(pthread_detach, FASTOPT_FIRST_GLIBC)
FASTOPT_OLD(pthread_attr_setstacksize, FASTOPT_FIRST_GLIBC)
FASTOPT_OLD(pthread_mutex_trylock, FASTOPT_FIRST_GLIBC)
FASTOPT_OLD(pthread_sigmask, FASTOPT_FIRST_GLIBC)
FASTOPT_OLD(_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE, "GLIBCXX_3.4.11")
#undef FASTOPT_OLD
#endif
