/* What runs kernels, and what else the door and compiled callers use that knows no op: the choice of an instruction set, the
   floating-point mode, the thread pool, objectives that Numba has compiled. fastopt.h has the kernels. */
#ifndef FASTOPT_RUNTIME_H
#define FASTOPT_RUNTIME_H

#include "scalars.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- instruction sets (kernels/core/dispatch.cpp) ---------------------------------------------------------------- */

/* Chooses the best instruction set that the CPU has, or the one named. Returns NULL, or what is wrong. */
const char *fastopt_select_isa(const char *name);
const char *fastopt_isa(void);
/* The k-th instruction set that this build has and this CPU can run, best last; NULL past the end. */
const char *fastopt_available_isa(int k);

/* The k-th kernel of the list, as it is in the named instruction set, or the one in use; 0 past the end. */
typedef struct {
    const char *family;
    const char *name;
    const char *record;
    const fastopt_kernel *kernels;
} fastopt_listed_kernel;
int fastopt_kernel_at(fastopt_listed_kernel *kernel, const char *isa, int k);

/* Between 1 and 0 the kernels note that they ran; fastopt_traced then says whether the k-th did, for an element type. */
void fastopt_trace(int on);
int fastopt_traced(int k, int element_type);

/* ---- the floating-point mode, and memory ------------------------------------------------------------------------- */

/* From enter to leave this thread computes in the mode of the kernels (kernels/core/float_mode.hpp), then in its own. */
typedef struct {
    uint64_t state[8];
    int rounding; /* of long doubles too, which numbers may be converted from */
} fastopt_float_mode;
void fastopt_enter_float_mode(fastopt_float_mode *own);
void fastopt_leave_float_mode(fastopt_float_mode *own);

/* out = values, element by element of 2, 4 or 8 bytes, wherever they lie (strides in bytes): without asking for memory. */
void fastopt_copy(void *out, const int64_t *out_strides, const void *values, const int64_t *strides,
                  const int64_t *shape, int dimensions, int64_t element_bytes);

/* ---- the thread pool ---------------------------------------------------------------------------------------------- */

/* `size` items for one kernel, cut into chunks of `grain` items that start at multiples of the grain. */
typedef struct {
    fastopt_kernel kernel;
    const void *args;
    int64_t size;
    int64_t grain;
    int64_t first_chunk; /* filled in by fastopt_run */
} fastopt_job;

/* Runs all jobs to the end, on as many threads as the work is worth: it counts what is worth waking a second thread for
   (about 10 microseconds). Any thread may call it at any time. */
void fastopt_run(fastopt_job *jobs, int64_t count, double work);

/* A job that the pool's other threads do while the caller does something else; what lies behind `job->args` has to stay.
 * NULL: no memory. fastopt_wait returns once items [0, items) are done, and does those that no thread has taken.
 * fastopt_end gives the job up, whatever is left of it. Both are for the thread that began it.
 * Where `while_waiting` is not NULL the kernel is foreign code, which takes as long as it likes and may wait for any lock:
 * a fork does not wait for it, and who waits calls `while_waiting` with the job's args some times a second. In a forked
 * child fastopt_wait does again what other threads had taken and not done. */
typedef struct fastopt_ahead fastopt_ahead;
typedef void (*fastopt_waiting)(const void *args);
fastopt_ahead *fastopt_begin(const fastopt_job *job, double work, fastopt_waiting while_waiting);
void fastopt_wait(fastopt_ahead *ahead, int64_t items);
void fastopt_end(fastopt_ahead *ahead);

int fastopt_get_num_threads(void);
void fastopt_set_num_threads(int count); /* count >= 1 */
/* The calling thread's own number, instead of the process's; 0: it has none. Returns the one before. */
int fastopt_set_own_num_threads(int count);
/* How often this process is the child of a fork: a thread that finds another number than before is alone here. */
int64_t fastopt_forks(void);

/* ---- objectives that Numba has compiled (kernels/cem/scoring.cpp) -------------------------------------------------- */

/* A function that Numba has compiled, by its own convention: scores[k] = what the user's makes of row k of x, whose number
   is in `at` meanwhile. Returns 0; or -1 where a Python exception was raised, which is pending in this thread; or another
   number where compiled code raised. */
typedef int32_t (*fastopt_score)(int64_t *returned, void **raised, void *x, int64_t rows, int64_t dimensions,
                                 double *scores, int64_t *at);
typedef struct {
    double *scores;
    cem_candidates_args candidates; /* whose `out` and `scratch` are not used, `indices` is NULL */
    fastopt_kernel make_candidates; /* of the element type */
    int64_t element_bytes;
    fastopt_score score;
    int calls_python; /* whether the function may take the GIL */
    int64_t *nanoseconds_each; /* a candidate takes, as far as is known; 0: it is not */
} cem_score_args;
#define FASTOPT_SCORED 0
#define FASTOPT_SCORE_NO_MEMORY 1
#define FASTOPT_SCORE_RAISED 2 /* in compiled code */
#define FASTOPT_SCORE_EXCEPTION 3 /* it is the thread's current one, of candidate `*at`, or -1: a signal's */
/* scores[k] = the score of candidate first + k for k in [0, size), as far as it gets. Foreign code runs in slices of some
   milliseconds, or one candidate, in each thread; nobody holds the pool meanwhile, and between them the calling thread,
   which has given the GIL away, looks at signals. */
int fastopt_score_candidates(const cem_score_args *args, int64_t size, int64_t grain, int64_t *at);

/* ---- functions for compiled callers (kernels/core/njit.cpp) --------------------------------------------------------- */

typedef struct {
    const char *name; /* with a contract number; NULL ends the table */
    const void *address;
} fastopt_symbol;
extern const fastopt_symbol fastopt_symbols[];

#ifdef __cplusplus
}
#endif
#endif
