// A driver of the thread pool: `make tsan` builds it with the pool alone, plainly and for the thread sanitizer, and runs it.
//
// Several callers run jobs of every size at once; some begin jobs ahead and use all, a part or none of them; jobs call
// the pool themselves; foreign ones sleep, stop early, change the floating-point mode, and fork, in a worker or in the
// caller, which goes on with its job in the child too; the main thread forks and changes the number of threads. Every
// result is compared. Ends after the number of jobs that it is given.
#include "runtime.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#endif
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

namespace {

std::atomic<int64_t> jobs_done{0};
std::atomic<bool> stopping{false};

[[noreturn]] void fail(const char* what) {
    std::fprintf(stderr, "wrong: %s\n", what);
    std::_Exit(1);
}

struct filling {
    int64_t* out;
    int64_t first;
    bool nested;
    std::atomic<int>* stop;  // of foreign code: what an exception does
    std::thread::id caller;
    std::atomic<bool>* forked;  // whether one may fork
};

#if defined(_WIN32)
constexpr bool FORKS = false;
pid_t fork() { return -1; }
void alarm(unsigned) {}
void wait_for(pid_t) {}
#else
constexpr bool FORKS = true;
#endif

const pid_t parent = getpid();
volatile double tiny = 0x1p-60;

// A child that hangs is ended by its alarm. Under the thread sanitizer that happens now and then without a fault of the
// pool's: a fork in the middle of an allocation leaves the sanitizer's own allocator locked in the child. So few may hang
// there, and none in a plain build, which `make tsan` runs first.
constexpr unsigned SECONDS = 30;
std::atomic<int64_t> forked_children{0}, hung{0};

#if !defined(_WIN32)
void wait_for(pid_t child) {
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) fail("a fork");
    ++forked_children;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM) fail("a child");
#if defined(__SANITIZE_THREAD__)
    if (++hung <= 3 + forked_children / 100) return;
#endif
    fail("a child that hangs");
}
#endif

void run_small(int64_t seed);

void fill(const void* args, int64_t begin, int64_t end) {
    const filling& f = *static_cast<const filling*>(args);
    if (f.stop != nullptr && *f.stop != 0) return;
    if (f.nested && begin % 3 == 0) run_small(begin);
    if (f.stop != nullptr && begin % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
    if (f.stop != nullptr && begin % 1009 == 7) *f.stop = 1;
    if (f.forked != nullptr && !f.forked->exchange(true)) {
        const pid_t child = fork();
        if (child == 0) alarm(SECONDS);
        if (child != 0) wait_for(child);
        else if (std::this_thread::get_id() != f.caller) std::_Exit(0);  // nobody waits there
    }
    if (f.stop != nullptr) std::fesetround(FE_UPWARD);
    for (int64_t i = begin; i < end; ++i) f.out[i] = f.first + i;
}

void check(const std::vector<int64_t>& out, int64_t first, int64_t size) {
    for (int64_t i = 0; i < size; ++i)
        if (out[static_cast<size_t>(i)] != first + i) fail("an item was not done");
}

void run_small(int64_t seed) {
    std::vector<int64_t> out(40, -1);
    const filling f = {out.data(), seed, false, nullptr, {}, nullptr};
    fastopt_job job = {fill, &f, 40, 4, 0};
    fastopt_run(&job, 1, 10);
    check(out, seed, 40);
    ++jobs_done;
}

void run_several(std::mt19937_64& random) {
    const int count = 1 + static_cast<int>(random() % 4);
    std::vector<int64_t> out[4];
    filling f[4];
    fastopt_job jobs[4];
    for (int k = 0; k < count; ++k) {
        const int64_t size = static_cast<int64_t>(random() % 300);
        out[k].assign(static_cast<size_t>(size), -1);
        f[k] = {out[k].data(), k, random() % 8 == 0, nullptr, {}, nullptr};
        jobs[k] = {fill, &f[k], size, 1 + static_cast<int64_t>(random() % 50), 0};
    }
    fastopt_run(jobs, count, 20);
    for (int k = 0; k < count; ++k) check(out[k], k, static_cast<int64_t>(out[k].size()));
    jobs_done += count;
}

void nothing(const void*) {}

void run_ahead(std::mt19937_64& random, bool foreign) {
    const int64_t size = 1 + static_cast<int64_t>(random() % 400);
    std::vector<int64_t> out(static_cast<size_t>(size), -1);
    std::atomic<int> stop{0};
    std::atomic<bool> forked{false};
    const bool forks = FORKS && foreign && getpid() == parent && random() % 64 == 0;
    const filling f = {out.data(), 5, random() % 4 == 0, foreign ? &stop : nullptr, std::this_thread::get_id(),
                       forks ? &forked : nullptr};
    const fastopt_job job = {fill, &f, size, 1 + static_cast<int64_t>(random() % 20), 0};
    fastopt_ahead* ahead = fastopt_begin(&job, 20, foreign ? nothing : nullptr);
    if (ahead == nullptr) fail("no memory");
    const int64_t wanted = foreign ? size : static_cast<int64_t>(random() % static_cast<uint64_t>(size + 1));
    for (int64_t items = 0; items < wanted;) {
        items = std::min(wanted, items + 1 + static_cast<int64_t>(random() % 60));
        fastopt_wait(ahead, items);
        if (stop == 0) check(out, 5, items);
        if (random() % 4 == 0) run_small(1);
    }
    fastopt_end(ahead);
    if (1.0 + tiny != 1.0) fail("the floating-point mode of a caller");
    if (getpid() != parent && forks) std::_Exit(0);  // the child's part is done
    ++jobs_done;
}

void call(uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!stopping) {
        switch (random() % 6) {
            case 0: run_ahead(random, false); break;
            case 1: run_ahead(random, true); break;
            case 2: {
                const int before = fastopt_set_own_num_threads(1 + static_cast<int>(random() % 5));
                run_several(random);
                fastopt_set_own_num_threads(before);
                break;
            }
            default: run_several(random);
        }
    }
}

void fork_once() {
    const pid_t child = fork();
    if (child == 0) {
        alarm(SECONDS);
        std::mt19937_64 random(1);
        for (int k = 0; k < 20; ++k) run_several(random), run_ahead(random, k % 2 == 0);
        std::_Exit(0);
    }
    wait_for(child);
}

}  // namespace

int main(int count, char** arguments) {
    const int64_t wanted = count > 1 ? std::atoll(arguments[1]) : 1'000'000;
    fastopt_set_num_threads(3);
    std::vector<std::thread> callers;
    for (uint64_t k = 0; k < 4; ++k) callers.emplace_back(call, k);
    int64_t forks = 0, shown = 0;
    for (std::mt19937_64 random(99); jobs_done < wanted; ++forks) {
        fastopt_set_num_threads(1 + static_cast<int>(random() % 5));
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (FORKS && forks % 4 == 0) fork_once();
        if (jobs_done - shown >= wanted / 10) {
            shown = jobs_done;
            std::fprintf(stderr, "%lld jobs, %lld forks\n", static_cast<long long>(shown), static_cast<long long>(forks / 4));
        }
    }
    stopping = true;
    for (std::thread& caller : callers) caller.join();
    std::fprintf(stderr, "%lld jobs, %lld forks, of which %lld hung: right\n", static_cast<long long>(jobs_done.load()),
                 static_cast<long long>(forked_children.load()), static_cast<long long>(hung.load()));
}
