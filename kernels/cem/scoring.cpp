// Candidates that are scored where they are made, by a function that Numba has compiled: they never leave the cache.
//
// The function is foreign code. It may run for long, print, take the GIL, raise, fork, be interrupted, change the
// floating-point mode: what it does to its thread is undone after each call, and what it raised is kept and handed on.
#include <Python.h>

#include "runtime.h"

#include "core/float_mode.hpp"
#include "core/platform/threads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>

namespace {

using steady = std::chrono::steady_clock;
using std::chrono::nanoseconds;

constexpr int64_t CLOSE = 4096;                   // elements of candidates that stay in the first-level cache
constexpr int64_t SLICE = 10'000'000;             // nanoseconds that a call of the function is to take
constexpr int64_t CHUNK = 20'000;                 // nanoseconds of work that are worth another thread
constexpr std::chrono::milliseconds SIGNALS(50);  // they are looked at that often

struct scoring : cem_score_args {
    const platform::thread_id caller = platform::this_thread();
    const int64_t forks = fastopt_forks();
    mutable std::atomic<int> outcome{FASTOPT_SCORED};
    mutable std::atomic<int64_t> each{0};  // nanoseconds a candidate, as measured last
    mutable steady::time_point looked{};   // at signals, by the caller; {}: not yet
    // Guarded by the GIL.
    mutable PyObject* exception = nullptr;
    mutable int64_t at = -1;
    mutable bool kept_is_urgent = false;

    explicit scoring(const cem_score_args& args) : cem_score_args(args) {
        each = __atomic_load_n(nanoseconds_each, __ATOMIC_RELAXED);
    }

    bool caller_is_here() const { return platform::is_this_thread(caller); }
    // In a child that a worker has forked nobody waits for scores.
    bool goes_on() const {
        return outcome.load(std::memory_order_relaxed) == FASTOPT_SCORED &&
               (forks == fastopt_forks() || caller_is_here());
    }
    int64_t rows_of(int64_t time, int64_t first_time) const {
        const int64_t one = each.load(std::memory_order_relaxed);
        return one > 0 ? std::max<int64_t>(1, time / one) : first_time;
    }

    void end_with(int reason) const {
        int still = FASTOPT_SCORED;
        outcome.compare_exchange_strong(still, reason);
    }

    // The thread's exception, if it has one, is kept; the GIL is held. Of several it is the first one, but what a signal's
    // handler raised (candidate -1) and what is no Exception come before errors: whoever catches those may go on, in spite
    // of Ctrl-C.
    void keep_exception(int64_t candidate) const {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        if (type == nullptr) return;
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback != nullptr) PyException_SetTraceback(value, traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
        const bool urgent = candidate < 0 || !PyErr_GivenExceptionMatches(value, PyExc_Exception);
        if (exception == nullptr || (urgent && !kept_is_urgent)) {
            Py_XDECREF(exception);
            exception = value;
            at = candidate;
            kept_is_urgent = urgent;
        } else {
            Py_XDECREF(value);
        }
        end_with(FASTOPT_SCORE_EXCEPTION);
    }

    void raised(int status, int64_t candidate) const {
        if (status == -1) {
            const PyGILState_STATE gil = PyGILState_Ensure();
            keep_exception(candidate);
            PyGILState_Release(gil);
        }
        end_with(FASTOPT_SCORE_RAISED);
    }

    // For the caller.
    void look_at_signals(steady::time_point now) const {
        if (looked == steady::time_point{}) looked = now;
        if (now - looked < SIGNALS) return;
        const PyGILState_STATE gil = PyGILState_Ensure();
        if (PyErr_CheckSignals() != 0) keep_exception(-1);
        PyGILState_Release(gil);
        looked = steady::now();
    }
};

// A Python thread state of the pool's thread, without the GIL: an exception stays in it after the function has returned. No
// destructor leaves it: while the interpreter ends, who asks for the GIL may have its thread ended by unwinding.
struct python_thread {
    PyGILState_STATE gil;
    PyThreadState* state;

    void enter() {
        gil = PyGILState_Ensure();
        state = PyEval_SaveThread();
    }
    void leave() {
        PyEval_RestoreThread(state);
        PyGILState_Release(gil);
    }
};

// The first `count` rows of x are candidates first, first + 1, ... of the job.
void score_rows(const scoring& s, char* x, int64_t first, int64_t count) {
    const int64_t n = s.candidates.distribution.dimensions;
    for (int64_t row = 0, rows; row < count && s.goes_on(); row += rows) {
        rows = std::min(count - row, s.rows_of(SLICE, 1));
        const steady::time_point begin = steady::now();
        int64_t returned, at = 0;
        void* raised = nullptr;
        int status;
        {
            const foreign_float_mode around;
            status = s.score(&returned, &raised, x + row * n * s.element_bytes, rows, n, s.scores + first + row, &at);
        }
        const steady::time_point end = steady::now();
        const int64_t spent = nanoseconds(end - begin).count();
        s.each.store(std::max<int64_t>(1, spent / rows), std::memory_order_relaxed);
        if (status != 0) s.raised(status, first + row + at);
        if (s.caller_is_here()) {
            const foreign_float_mode around;
            s.look_at_signals(end);
        }
    }
}

void score_chunk(const void* args, int64_t begin, int64_t end) {
    const scoring& s = *static_cast<const scoring*>(args);
    if (!s.goes_on()) return;
    const int64_t n = s.candidates.distribution.dimensions, padded = (n + 31) / 32 * 32;
    const int64_t at_once = std::min(end - begin, std::max<int64_t>(1, CLOSE / padded));
    const bool scratch = s.candidates.distribution.factor != nullptr && padded > FASTOPT_CEM_SHORT;
    alignas(64) char near[CLOSE * sizeof(double)];
    char* x = near;
    void* far = nullptr;
    if (padded > CLOSE || scratch) {
        far = std::malloc(static_cast<size_t>((scratch ? 2 : 1) * at_once * padded * s.element_bytes));
        if (far == nullptr) {
            s.end_with(FASTOPT_SCORE_NO_MEMORY);
            return;
        }
        x = static_cast<char*>(far);
    }
    const bool attached = s.calls_python != 0 && !s.caller_is_here();
    python_thread python;
    if (attached) python.enter();
    cem_candidates_args here = s.candidates;
    here.out = x;
    here.scratch = x + at_once * padded * s.element_bytes;
    for (int64_t row = begin, rows; row < end && s.goes_on(); row += rows) {
        rows = std::min(at_once, end - row);
        here.first = s.candidates.first + row;
        s.make_candidates(&here, 0, rows);
        score_rows(s, x, row, rows);
    }
    if (attached) python.leave();
    std::free(far);
}

void look_at_signals(const void* args) { static_cast<const scoring*>(args)->look_at_signals(steady::now()); }

}  // namespace

extern "C" int fastopt_score_candidates(const cem_score_args* args, int64_t size, int64_t grain, int64_t* at) {
    // Not on the stack: a thread that is ended while the interpreter ends leaves it to the workers.
    scoring* const s = new (std::nothrow) scoring(*args);
    if (s == nullptr) return FASTOPT_SCORE_NO_MEMORY;
    const fastopt_job job = {score_chunk, s, size, std::min(grain, s->rows_of(CHUNK, grain)), 0};
    const double work = static_cast<double>(size) / static_cast<double>(job.grain);
    fastopt_ahead* const ahead = fastopt_begin(&job, work, look_at_signals);
    if (ahead == nullptr) {
        delete s;
        return FASTOPT_SCORE_NO_MEMORY;
    }
    fastopt_wait(ahead, size);
    fastopt_end(ahead);
    __atomic_store_n(args->nanoseconds_each, s->each.load(), __ATOMIC_RELAXED);
    int outcome = s->outcome;
    if (s->exception != nullptr) {
        const PyGILState_STATE gil = PyGILState_Ensure();
        PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(s->exception)), s->exception);
        Py_DECREF(s->exception);
        PyGILState_Release(gil);
        outcome = FASTOPT_SCORE_EXCEPTION;
    }
    *at = s->at;
    delete s;
    return outcome;
}
