// The pool's threads, as the system has them: those of POSIX, or of Windows, where there are no forks, and no signals that
// any thread may be given.
#pragma once

#include "core/platform/old_glibc.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#if defined(_WIN32)
#include <process.h>
#include <windows.h>
#else
#include <pthread.h>
#include <signal.h>
#endif

namespace platform {

#if defined(_WIN32)

typedef DWORD thread_id;
inline thread_id this_thread() { return GetCurrentThreadId(); }
inline bool is_this_thread(thread_id thread) { return thread == GetCurrentThreadId(); }

template <void (*serve)(uintptr_t)>
unsigned __stdcall begin_thread(void* argument) {
    serve(reinterpret_cast<uintptr_t>(argument));
    return 0;
}

template <void (*serve)(uintptr_t)>
int64_t start_threads(int64_t count, uintptr_t argument, unsigned stack_bytes) {
    int64_t started = 0;
    for (; started < count; ++started) {
        const uintptr_t handle = _beginthreadex(nullptr, stack_bytes, begin_thread<serve>, reinterpret_cast<void*>(argument),
                                                STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr);
        if (handle == 0) break;
        CloseHandle(reinterpret_cast<HANDLE>(handle));
    }
    return started;
}

// A worker ends only where a process forks.
inline void join_thread(thread_id) {}
inline void detach_this_thread() {}
inline void at_fork(void (*)(), void (*)(), void (*)()) {}

#else

typedef pthread_t thread_id;
inline thread_id this_thread() { return pthread_self(); }
inline bool is_this_thread(thread_id thread) { return pthread_equal(thread, pthread_self()) != 0; }

template <void (*serve)(uintptr_t)>
void* begin_thread(void* argument) {
    serve(reinterpret_cast<uintptr_t>(argument));
    return nullptr;
}

// Starts `count` threads, or fewer where there are no more to be had, and returns how many.
template <void (*serve)(uintptr_t)>
int64_t start_threads(int64_t count, uintptr_t argument, unsigned stack_bytes) {
    // Signals are for the caller's threads, which a worker inherits; but not those of a fault of its own, or the
    // traceback that the process's handler would print is lost.
    sigset_t others, saved;
    sigfillset(&others);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&others, fault);
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_setstacksize(&attributes, stack_bytes);
    pthread_sigmask(SIG_SETMASK, &others, &saved);
    int64_t started = 0;
    pthread_t thread;
    while (started < count &&
           pthread_create(&thread, &attributes, begin_thread<serve>, reinterpret_cast<void*>(argument)) == 0)
        ++started;
    pthread_sigmask(SIG_SETMASK, &saved, nullptr);
    pthread_attr_destroy(&attributes);
    return started;
}

inline void join_thread(thread_id thread) { pthread_join(thread, nullptr); }
inline void detach_this_thread() { pthread_detach(pthread_self()); }
inline void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) {
    pthread_atfork(before, in_parent, in_child);
}

#endif

}  // namespace platform
