// One small pool, made on first need and never destroyed.
//
// The calling thread cuts the work into chunks and takes part; any thread takes the next chunk, so that a thread that
// the system has put aside delays one chunk and not the step. One caller at a time has the pool: a second one does its
// work alone. A thread that waits looks for work for a moment before it sleeps.
//
// Besides, the workers may do jobs ahead of their callers, chunk by chunk when there is nothing else to do. Nobody holds
// the pool for those, and nobody waits for workers to come: the caller does what they have not begun.
//
// Foreign code (an objective that Numba has compiled) is such a job. It takes as long as it likes, may wait for the GIL,
// fork, or call the pool itself, so nobody ever waits for it but its own caller. Before a fork the running job ends and
// the workers are joined, but for those in foreign code, which are left to themselves: they end when it returns. Parent
// and child make new workers on need; in the child a caller does again what workers of the parent had taken and not done.
#include "runtime.h"
#include "core/float_mode.hpp"
#include "core/platform/threads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace {

void run_chunk(const fastopt_job& job, int64_t chunk) {
    const int64_t begin = chunk * job.grain;
    job.kernel(job.args, begin, std::min(begin + job.grain, job.size));
}

void run_serial(const fastopt_job* jobs, int64_t count) {
    default_float_mode mode;
    for (int64_t k = 0; k < count; ++k)
        if (jobs[k].size > 0) jobs[k].kernel(jobs[k].args, 0, jobs[k].size);
}

int64_t chunks_of(const fastopt_job& job) { return (job.size + job.grain - 1) / job.grain; }

// All the chunks of one call. A thread takes up to 8 neighbours at once where there are many: longer runs through memory
// (an Adam step over 2^26 float32: 0.53 ns an element with 8 chunks of 2^14, 0.56 with one).
struct schedule {
    const fastopt_job* jobs;
    int64_t count;
    int64_t chunks;
    int64_t at_once;
    std::atomic<int64_t> next{0};

    schedule(const fastopt_job* jobs_, int64_t count_, int64_t chunks_, int64_t threads)
        : jobs(jobs_), count(count_), chunks(chunks_), at_once(chunks_ / (8 * threads)) {
        at_once = at_once < 1 ? 1 : at_once > 8 ? 8 : at_once;
    }

    void work() {
        int64_t k = 0;  // the chunks a thread takes only grow, and so do the jobs they belong to
        for (int64_t chunk; (chunk = next.fetch_add(at_once, std::memory_order_relaxed)) < chunks;) {
            for (const int64_t stop = std::min(chunk + at_once, chunks); chunk < stop; ++chunk) {
                while (k + 1 < count && jobs[k + 1].first_chunk <= chunk) ++k;
                run_chunk(jobs[k], chunk - jobs[k].first_chunk);
            }
        }
    }
};

}  // namespace

struct fastopt_ahead {
    const fastopt_job job;
    const fastopt_waiting while_waiting;  // NULL unless the kernel is foreign code
    const int64_t chunks, helpers;        // workers that may be at it at once
    const int64_t forks = fastopt_forks();
    std::vector<std::atomic<bool>> done;  // of each chunk
    int64_t seen = 0;                     // chunks that the caller has found done
    std::atomic<int64_t> next{0}, working{0};
    fastopt_ahead* following = nullptr;  // in the pool's list

    fastopt_ahead(const fastopt_job& job_, fastopt_waiting while_waiting_, int64_t chunks_, int64_t helpers_)
        : job(job_),
          while_waiting(while_waiting_),
          chunks(chunks_),
          helpers(helpers_),
          done(static_cast<size_t>(chunks_)) {}

    bool foreign() const { return while_waiting != nullptr; }
    bool wants_help() const { return working < helpers && next.load(std::memory_order_relaxed) < chunks; }
    bool left_behind() const { return forks != fastopt_forks(); }  // in a child whose parent began it

    void do_chunk(int64_t chunk) {
        default_float_mode mode;
        run_chunk(job, chunk);
        done[static_cast<size_t>(chunk)].store(true, std::memory_order_release);
    }

    bool one_chunk() {
        const int64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
        if (chunk >= chunks) return false;
        do_chunk(chunk);
        return true;
    }
};

namespace {

// To put a thread to sleep and wake it costs some 30 microseconds in a virtual machine, as much as a step of a small model:
// whoever waits looks for that long first. (Calls one after the other on 2^17 elements of dropout: 32 to 25 microseconds.)
template <class Condition>
void look_for(Condition met) {
    using clock = std::chrono::steady_clock;
    const clock::time_point end = clock::now() + std::chrono::microseconds(30);
    while (!met() && clock::now() < end)
        for (int k = 0; k < 8 && !met(); ++k) {
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
}

// For what a thread does within microseconds, unless the system has put it aside: then it is given this one's place.
template <class Condition>
void await(Condition met) {
    for (look_for(met); !met(); look_for(met)) std::this_thread::yield();
}

// For what takes as long as it likes.
template <class Condition, class Meanwhile>
void await_foreign(Condition met, Meanwhile meanwhile) {
    look_for(met);
    for (std::chrono::microseconds pause(20); !met(); pause = std::min(pause * 5 / 4, std::chrono::microseconds(10000))) {
        std::this_thread::sleep_for(pause);
        meanwhile();
    }
}

std::atomic<int64_t> forks{0};
thread_local int own_num_threads = 0;

class pool {
  public:
    std::mutex in_use;  // held by the caller whose job runs, and across a fork

    void run(schedule& work, int64_t helpers) {  // in_use is held
        post(helpers, [&] {
            current_ = &work;
            invited_ = helpers;
        });
        {
            default_float_mode mode;
            work.work();
        }
        std::unique_lock<std::mutex> lock(mutex_);
        current_ = nullptr;  // a worker that comes from here on finds nothing to join
        if (working_ > 0) {
            lock.unlock();
            look_for([this] { return working_ == 0; });
            lock.lock();
        }
        idle_.wait(lock, [this] { return working_ == 0; });
    }

    void begin(fastopt_ahead& ahead) {
        post(ahead.helpers, [&] {
            ahead.following = ahead_;
            ahead_ = &ahead;
        });
    }

    void end(fastopt_ahead& ahead) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            for (fastopt_ahead** at = &ahead_; *at != nullptr; at = &(*at)->following) {
                if (*at != &ahead) continue;
                *at = ahead.following;  // nobody comes to it any more
                break;
            }
        }
        const auto left = [&ahead] { return ahead.working == 0 || ahead.left_behind(); };
        if (ahead.foreign()) await_foreign(left, [&ahead] { ahead.while_waiting(ahead.job.args); });
        else await(left);
    }

    // For a fork: no worker runs a kernel, and nobody holds the mutex.
    void lock_for_fork() {
        in_use.lock();
        std::unique_lock<std::mutex> lock(mutex_);
        forking_ = true;
        ++generation_;
        posted_.fetch_add(1);
        wake_.notify_all();
        idle_.wait(lock, [this] { return alive_ == in_foreign_; });
        for (const platform::thread_id worker : ended_) platform::join_thread(worker);
        ended_.clear();
        alive_ = in_foreign_ = 0;
        lock.release();
    }

    void unlock_after_fork() {
        forking_ = false;
        int64_t helpers = 0;  // of jobs that go on
        for (const fastopt_ahead* ahead = ahead_; ahead != nullptr; ahead = ahead->following)
            helpers = std::max(helpers, ahead->helpers);
        make_workers(helpers);
        mutex_.unlock();
        in_use.unlock();
    }

    std::atomic<int> num_threads{1};

  private:
    // Make the workers that are missing, let `set` say what there is to do, and wake those who sleep.
    template <class Set>
    void post(int64_t helpers, Set set) {
        int64_t asleep;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            make_workers(helpers);
            set();
            posted_.fetch_add(1);
            asleep = asleep_;
        }
        if (helpers < asleep) {
            for (int64_t k = 0; k < helpers; ++k) wake_.notify_one();
        } else if (asleep > 0) {
            wake_.notify_all();
        }
    }

    // So that there are so many beside those in foreign code. The mutex is held.
    void make_workers(int64_t helpers) {
        const int64_t wanted = helpers + in_foreign_;
        if (alive_ >= wanted || forking_) return;
        try {
            ended_.reserve(static_cast<size_t>(wanted));
        } catch (const std::bad_alloc&) {
            return;
        }
        // Where there are no more threads to be had, those we have do the work.
        alive_ += platform::start_threads<begin_to_serve>(wanted - alive_, generation_, STACK_BYTES);
    }

    static void begin_to_serve(uintptr_t generation);

    void serve(uintptr_t generation) {
        std::unique_lock<std::mutex> lock(mutex_);
        while (generation_ == generation) {
            if (current_ != nullptr && invited_ > 0) {
                --invited_;
                ++working_;
                schedule* work = current_;
                lock.unlock();
                {
                    default_float_mode mode;
                    work->work();
                }
                lock.lock();
                if (--working_ == 0) idle_.notify_one();
            } else if (fastopt_ahead* ahead = first_that_wants_help()) {
                if (!one_chunk_ahead(*ahead, lock, generation)) return;
            } else {
                const uint64_t seen = posted_;
                const auto posted = [this, seen] { return posted_ != seen; };
                lock.unlock();
                look_for(posted);
                lock.lock();
                ++asleep_;
                wake_.wait(lock, posted);
                --asleep_;
                // Who wakes too late for a job looks for the next one before it sleeps again.
            }
        }
        ended_.push_back(platform::this_thread());
        --alive_;
        idle_.notify_one();
    }

    fastopt_ahead* first_that_wants_help() const {
        fastopt_ahead* ahead = ahead_;
        while (ahead != nullptr && !ahead->wants_help()) ahead = ahead->following;
        return ahead;
    }

    // False where this thread has been left to itself meanwhile, by a fork, and nobody counts on it.
    bool one_chunk_ahead(fastopt_ahead& ahead, std::unique_lock<std::mutex>& lock, uintptr_t generation) {
        const bool foreign = ahead.foreign();
        const int64_t before = forks;
        ++ahead.working;
        in_foreign_ += foreign ? 1 : 0;
        lock.unlock();
        ahead.one_chunk();
        if (forks != before) return false;  // in the child, where the foreign code forked: all that there is is this thread
        lock.lock();
        --ahead.working;  // from here on it may be gone
        if (generation_ == generation) {
            in_foreign_ -= foreign ? 1 : 0;
        } else if (foreign) {
            posted_.fetch_add(1);
            wake_.notify_one();  // one of those that were made since takes its place
            platform::detach_this_thread();
            return false;
        }
        return true;
    }

    // Python code, which an objective may call, wants the stack that it has in the threads of its own.
    static constexpr unsigned STACK_BYTES = 8u << 20;

    std::mutex mutex_;  // guards what follows
    std::condition_variable wake_, idle_;
    schedule* current_ = nullptr;
    fastopt_ahead* ahead_ = nullptr;  // the first of a list
    int64_t invited_ = 0, asleep_ = 0;
    int64_t alive_ = 0, in_foreign_ = 0;  // of this generation's workers
    bool forking_ = false;                // then there may be none that are new
    uintptr_t generation_ = 0;            // the next one begins with a fork
    std::vector<platform::thread_id> ended_;  // has room for all
    // Changed under the mutex, and read without it by those who look for a change.
    std::atomic<int64_t> working_{0};
    std::atomic<uint64_t> posted_{0};
};

alignas(pool) unsigned char memory[sizeof(pool)];

pool& the_pool() {
    // Never destroyed: a worker may still wait on it while the process exits.
    static pool* const instance = [] {
        pool* made = new (memory) pool;
        platform::at_fork([] { the_pool().lock_for_fork(); }, [] { the_pool().unlock_after_fork(); },
                          [] {
                              // What the parent's workers wait on, and their callers' jobs, are not here.
                              const int count = the_pool().num_threads;
                              (new (memory) pool)->num_threads = count;
                              ++forks;
                          });
        return made;
    }();
    return *instance;
}

void pool::begin_to_serve(uintptr_t generation) { the_pool().serve(generation); }

int num_threads() {
    return own_num_threads > 0 ? own_num_threads : the_pool().num_threads.load(std::memory_order_relaxed);
}

}  // namespace

// How many threads so many chunks are worth; `work` is in grains, each worth waking a thread for.
static int64_t threads_for(int64_t chunks, double work) {
    int64_t threads = num_threads();
    if (threads > chunks) threads = chunks;
    return static_cast<double>(threads) > work ? static_cast<int64_t>(work) : threads;
}

extern "C" void fastopt_run(fastopt_job* jobs, int64_t count, double work) {
    int64_t chunks = 0;
    for (int64_t k = 0; k < count; ++k) {
        jobs[k].first_chunk = chunks;
        chunks += chunks_of(jobs[k]);
    }
    const int64_t threads = threads_for(chunks, work);
    pool& p = the_pool();
    if (threads > 1) {
        std::unique_lock<std::mutex> lock(p.in_use, std::try_to_lock);
        if (lock.owns_lock()) {
            schedule all(jobs, count, chunks, threads);
            p.run(all, threads - 1);
            return;
        }
    }
    run_serial(jobs, count);
}

extern "C" fastopt_ahead* fastopt_begin(const fastopt_job* job, double work, fastopt_waiting while_waiting) {
    try {
        const int64_t chunks = chunks_of(*job);
        const int64_t threads = threads_for(chunks, work);
        fastopt_ahead* ahead = new fastopt_ahead(*job, while_waiting, chunks, threads - 1);
        if (threads > 1) the_pool().begin(*ahead);
        return ahead;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

extern "C" void fastopt_wait(fastopt_ahead* ahead, int64_t items) {
    const int64_t wanted = (items + ahead->job.grain - 1) / ahead->job.grain;
    while (ahead->seen < wanted) {
        const std::atomic<bool>& done = ahead->done[static_cast<size_t>(ahead->seen)];
        const auto settled = [&] { return done.load(std::memory_order_acquire) || ahead->left_behind(); };
        if (done.load(std::memory_order_acquire)) ++ahead->seen;
        else if (ahead->one_chunk()) continue;
        else if (ahead->left_behind()) ahead->do_chunk(ahead->seen);
        else if (ahead->foreign()) await_foreign(settled, [=] { ahead->while_waiting(ahead->job.args); });
        else await(settled);
    }
}

extern "C" void fastopt_end(fastopt_ahead* ahead) {
    if (!ahead->left_behind()) the_pool().end(*ahead);
    delete ahead;
}

extern "C" int fastopt_get_num_threads(void) { return num_threads(); }

// Workers that a lower number leaves over stay asleep.
extern "C" void fastopt_set_num_threads(int count) {
    the_pool().num_threads = count;
    if (own_num_threads > 0) own_num_threads = count;
}

extern "C" int fastopt_set_own_num_threads(int count) {
    const int before = own_num_threads;
    own_num_threads = count;
    return before;
}

extern "C" int64_t fastopt_forks(void) { return forks; }
