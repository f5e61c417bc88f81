// One small pool, made on first need and never destroyed.
//
// The calling thread cuts the work into chunks and takes part; any thread takes the next chunk, so that a thread that
// the system has put aside delays one chunk and not the step. One caller at a time has the pool: a second one does its
// work alone. A thread that waits looks for work for a moment before it sleeps. Before a fork the running job ends and
// the workers are joined; parent and child make new ones on need.
//
// Besides, the workers may do one job ahead of its caller, chunk by chunk when there is nothing else to do. Nobody holds
// the pool for it, and nobody waits for them to come: its caller does what they have not begun.
#include "fastopt.h"
#include "core/float_mode.hpp"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
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
    const int64_t chunks, helpers;        // workers that may be at it at once
    std::vector<std::atomic<bool>> done;  // of each chunk
    int64_t seen = 0;                     // chunks that the caller has found done
    std::atomic<int64_t> next{0}, working{0};

    fastopt_ahead(const fastopt_job& job_, int64_t chunks_, int64_t helpers_)
        : job(job_), chunks(chunks_), helpers(helpers_), done(static_cast<size_t>(chunks_)) {}

    bool one_chunk() {
        const int64_t chunk = next.fetch_add(1, std::memory_order_relaxed);
        if (chunk >= chunks) return false;
        run_chunk(job, chunk);
        done[static_cast<size_t>(chunk)].store(true, std::memory_order_release);
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

    // Where the pool is in use or has such a job already the caller does all of it.
    void begin(fastopt_ahead& ahead) {
        const std::unique_lock<std::mutex> lock(in_use, std::try_to_lock);
        if (!lock.owns_lock()) return;
        post(ahead.helpers, [&] {
            if (ahead_ == nullptr) ahead_ = &ahead;
        });
    }

    void end(fastopt_ahead& ahead) {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            if (ahead_ == &ahead) ahead_ = nullptr;  // nobody comes to it any more
        }
        await([&ahead] { return ahead.working == 0; });
    }

    // For a fork: the workers are joined and nobody holds the mutex.
    void lock_for_fork() {
        in_use.lock();
        join_workers();
        mutex_.lock();
    }

    void unlock_after_fork(bool child) {
        if (child) ahead_ = nullptr;  // its caller may be a thread that is not here
        mutex_.unlock();
        in_use.unlock();
    }

    std::atomic<int> num_threads{1};

  private:
    // Make the workers that are missing, let `set` say what there is to do, and wake those who sleep. in_use is held.
    template <class Set>
    void post(int64_t helpers, Set set) {
        make_workers(helpers);
        int64_t asleep;
        {
            std::lock_guard<std::mutex> lock(mutex_);
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

    void join_workers() {  // in_use is held
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
            posted_.fetch_add(1);
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
        workers_.clear();
        stop_ = false;
    }

    void make_workers(int64_t wanted) {
        if (static_cast<int64_t>(workers_.size()) >= wanted) return;
        sigset_t all, saved;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &saved);  // a worker inherits this: signals are for the caller's threads
        try {
            while (static_cast<int64_t>(workers_.size()) < wanted) workers_.emplace_back([this] { serve(); });
        } catch (const std::exception&) {
            // no more threads to be had: those we have do the work
        }
        pthread_sigmask(SIG_SETMASK, &saved, nullptr);
    }

    void serve() {
        default_float_mode mode;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            const bool invited = current_ != nullptr && invited_ > 0;
            if (!stop_ && !invited && ahead_ != nullptr && ahead_->working < ahead_->helpers) {
                fastopt_ahead* ahead = ahead_;
                ++ahead->working;
                lock.unlock();
                const bool all_taken = !ahead->one_chunk();
                lock.lock();
                if (all_taken && ahead_ == ahead) ahead_ = nullptr;
                --ahead->working;  // from here on it may be gone
                continue;
            }
            if (!stop_ && !invited) {
                const uint64_t seen = posted_;
                const auto posted = [this, seen] { return posted_ != seen; };
                lock.unlock();
                look_for(posted);
                lock.lock();
                ++asleep_;
                wake_.wait(lock, posted);
                --asleep_;
                continue;  // who wakes too late for a job looks for the next one before it sleeps again
            }
            if (stop_) return;
            --invited_;
            ++working_;
            schedule* work = current_;
            lock.unlock();
            work->work();
            lock.lock();
            if (--working_ == 0) idle_.notify_one();
        }
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;  // guards what follows
    std::condition_variable wake_, idle_;
    schedule* current_ = nullptr;
    fastopt_ahead* ahead_ = nullptr;
    int64_t invited_ = 0, asleep_ = 0;
    bool stop_ = false;
    // Changed under the mutex, and read without it by those who look for a change.
    std::atomic<int64_t> working_{0};
    std::atomic<uint64_t> posted_{0};
};

pool& the_pool() {
    // Never destroyed: a worker may still wait on it while the process exits.
    static pool* const instance = [] {
        pool* made = new pool;
        pthread_atfork(
            [] { the_pool().lock_for_fork(); }, [] { the_pool().unlock_after_fork(false); },
            [] { the_pool().unlock_after_fork(true); });
        return made;
    }();
    return *instance;
}

}  // namespace

extern "C" double fastopt_work(const fastopt_job* job) {
    return job->work > 0 ? job->work : static_cast<double>(job->size) / static_cast<double>(job->grain);
}

// How many threads so many chunks are worth; `work` is in grains, each worth waking a thread for.
static int64_t threads_for(int64_t chunks, double work) {
    int64_t threads = the_pool().num_threads.load(std::memory_order_relaxed);
    if (threads > chunks) threads = chunks;
    return static_cast<double>(threads) > work ? static_cast<int64_t>(work) : threads;
}

extern "C" void fastopt_run(fastopt_job* jobs, int64_t count) {
    int64_t chunks = 0;
    double work = 0;
    for (int64_t k = 0; k < count; ++k) {
        jobs[k].first_chunk = chunks;
        chunks += chunks_of(jobs[k]);
        work += fastopt_work(&jobs[k]);
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

extern "C" fastopt_ahead* fastopt_begin(const fastopt_job* job) {
    try {
        const int64_t chunks = chunks_of(*job);
        const int64_t threads = threads_for(chunks, fastopt_work(job));
        fastopt_ahead* ahead = new fastopt_ahead(*job, chunks, threads - 1);
        if (threads > 1) the_pool().begin(*ahead);
        return ahead;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

extern "C" void fastopt_wait(fastopt_ahead* ahead, int64_t items) {
    default_float_mode mode;
    const int64_t wanted = (items + ahead->job.grain - 1) / ahead->job.grain;
    while (ahead->seen < wanted) {
        const std::atomic<bool>& done = ahead->done[static_cast<size_t>(ahead->seen)];
        if (done.load(std::memory_order_acquire)) ++ahead->seen;
        else if (!ahead->one_chunk()) await([&done] { return done.load(std::memory_order_acquire); });
    }
}

extern "C" void fastopt_end(fastopt_ahead* ahead) {
    the_pool().end(*ahead);
    delete ahead;
}

extern "C" int fastopt_get_num_threads(void) { return the_pool().num_threads.load(); }

// Workers that a lower number leaves over stay asleep.
extern "C" void fastopt_set_num_threads(int count) { the_pool().num_threads.store(count); }
