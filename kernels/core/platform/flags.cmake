# What depends on the compiler and the platform: which instruction sets there are, their flags, and how the module is linked.
include(CheckCXXSourceCompiles)

if(MSVC AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "compiler: expected GCC or Clang, whose vector types and builtins the kernels use, got MSVC")
endif()

# What the compiler compiles for: the processor may be another one (macOS x86_64, built on arm64).
check_cxx_source_compiles("#ifndef __x86_64__\n#error\n#endif\nint main() {}" FASTOPT_X86_64)
set(ALL_ISAS baseline)
# GCC aligns no stack to 32 bytes on Windows, so that code for AVX ends there by a fault.
if(FASTOPT_X86_64 AND NOT (WIN32 AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU"))
  list(APPEND ALL_ISAS x86-64-v3 x86-64-v4)
endif()
set(FASTOPT_ISAS "${ALL_ISAS}" CACHE STRING "The instruction sets to compile; the baseline always is")
foreach(ISA IN LISTS FASTOPT_ISAS)
  if(NOT ISA IN_LIST ALL_ISAS)
    message(FATAL_ERROR "FASTOPT_ISAS: expected some of ${ALL_ISAS}, got ${ISA}")
  endif()
endforeach()

set(ISA_FLAGS_baseline "")
set(ISA_FLAGS_x86_64_v3 -march=x86-64-v3)
set(ISA_FLAGS_x86_64_v4 -march=x86-64-v4 -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC leaves independent chains of operations one after the other unless told to schedule before it assigns registers
  # (normal numbers: 1.16 to 0.83 ns with AVX-512, 1.39 to 1.20 with AVX2, where sparing registers pays too).
  set(SCHEDULING_baseline -fschedule-insns)
  set(SCHEDULING_x86_64_v3 -fschedule-insns -fsched-pressure)
  set(SCHEDULING_x86_64_v4 -fschedule-insns)
  set(ISA_WARNINGS -Wno-maybe-uninitialized)  # it takes arrays that are filled in pieces for uninitialised
  list(APPEND ISA_FLAGS_x86_64_v4 -Wno-uninitialized)  # GCC 12's own avx512fintrin.h (`__m512 __Y = __Y;`)
endif()
# A strict build ends where a loop that has to be fast is not vectorised.
set(ISA_LAUNCHER "")
if(FASTOPT_STRICT AND CMAKE_CXX_COMPILER_ID MATCHES "^(GNU|Clang|AppleClang)$" AND NOT FASTOPT_SANITIZE)
  set(ISA_LAUNCHER "\"${Python_EXECUTABLE}\" \"${CMAKE_CURRENT_SOURCE_DIR}/kernels/vectorized.py\" ${CMAKE_CXX_COMPILER_ID}")
endif()

# Before glibc 2.34 the functions of pthread.h were in a library of their own (old_glibc.hpp), which newer ones still have.
set(OLD_THREADS "")
set(OLD_GLIBC "")
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT FASTOPT_SANITIZE)
  check_cxx_source_compiles("#include <features.h>\n#ifndef __GLIBC__\n#error\n#endif\nint main() {}" FASTOPT_GLIBC)
  if(FASTOPT_GLIBC)
    set(OLD_THREADS -Wl,--push-state,--no-as-needed -l:libpthread.so.0 -Wl,--pop-state)
    set(OLD_GLIBC FASTOPT_OLD_GLIBC)
  endif()
endif()
