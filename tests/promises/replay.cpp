// The kernels without Python: runs the cases that tests/promises/recorded.py has written, on one instruction set, and prints
// a hash of what each kernel has written; then one of the scalars that are computed once a call. `make emulate` builds it for
// other machines and compares.
//
//     replay CASES [INSTRUCTION SET]
#include "runtime.h"

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "replay: %s\n", what.c_str());
    std::exit(1);
}

struct reader {
    FILE* file;
    void bytes(void* to, size_t n) {
        if (n > 0 && std::fread(to, 1, n, file) != n) fail("the cases end too early");
    }
    int64_t number() {
        int64_t x;
        bytes(&x, sizeof x);
        return x;
    }
    std::string text() {
        std::string s(static_cast<size_t>(number()), ' ');
        bytes(&s[0], s.size());
        return s;
    }
};

// A record or an array. A hash covers the elements [begin, end) of arrays that the kernel writes, bytes.
struct block {
    std::vector<uint64_t> memory;
    size_t begin, end;
    char format;
    unsigned char* data() { return reinterpret_cast<unsigned char*>(memory.data()); }
};

struct hash {
    uint64_t value = 0xCBF29CE484222325;  // FNV-1a
    void add(uint64_t x) {
        for (int k = 0; k < 8; ++k, x >>= 8) value = (value ^ (x & 0xFF)) * 0x100000001B3;
    }
    void add(double x) {
        uint64_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        add(x == x ? bits : uint64_t(0x7FF8) << 48);
    }
    // Any NaN is like another.
    void add(block& b) {
        for (size_t k = b.begin; k < b.end;) {
            if (b.format == 'f') {
                float x;
                std::memcpy(&x, b.data() + k, sizeof x);
                add(static_cast<double>(x));
                k += sizeof x;
            } else if (b.format == 'd') {
                double x;
                std::memcpy(&x, b.data() + k, sizeof x);
                add(x);
                k += sizeof x;
            } else {
                add(static_cast<uint64_t>(b.data()[k++]));
            }
        }
    }
};

const fastopt_kernel* kernel_named(const std::string& name) {
    static fastopt_listed_kernel kernel;
    for (int k = 0; fastopt_kernel_at(&kernel, nullptr, k); ++k)
        if (name == kernel.name) return kernel.kernels;
    fail("no kernel is named " + name);
}

// What a step of a rule computes, with hyper-parameters between 0 and 1 that are all different.
template <class Hyper, class Scalars>
void add_rule(hash& all, fastopt_scalars scalars) {
    constexpr size_t COUNT = sizeof(Hyper) / sizeof(double);
    for (int64_t t = 1; t < 2000; t += 17)
        for (int type = 0; type < 2; ++type) {
            double hyper[COUNT];
            for (size_t k = 0; k < COUNT; ++k) hyper[k] = 1 - 1 / (1.5 + static_cast<double>(k) + static_cast<double>(t % 5));
            block out;
            out.memory.resize(sizeof(Scalars) / 8);
            all.add(static_cast<uint64_t>(scalars(out.data(), t, hyper, 0.5, type)));
            for (const uint64_t bits : out.memory) all.add(bits);
        }
}

// Weights, rates and the scale of a search.
void add_search(hash& all) {
    for (int64_t n = 1; n < 300; n += n / 3 + 1) {
        std::vector<double> weights(40), path(static_cast<size_t>(n), 0.75), std(path);
        cem_refit_args a{};
        a.std = std.data(), a.path = path.data(), a.distribution.dimensions = n, a.count = 40;
        fastopt_cem_scalars(&a, weights.data());
        fastopt_cem_scale(&a, 1);
        for (const double x : {a.total, a.effective, a.fair, a.keep, a.push, a.rank_one, a.std_lr, std[0]}) all.add(x);
        for (const double x : weights) all.add(x);
    }
}

// The noise's factor, and the weights of candidates by each rule.
void add_plan(hash& all) {
    constexpr int64_t N = 24;
    std::vector<double> factor(N * N), work(2 * N), weights(N);
    std::vector<int64_t> rows(N);
    for (const double beta : {0.0, 0.5, 1.0, 2.0}) {
        fastopt_noise_factor(factor.data(), work.data(), N, beta);
        for (const double x : factor) all.add(x);
        for (const int rule : {FASTOPT_PLAN_ELITES, FASTOPT_PLAN_SOFTMAX, FASTOPT_PLAN_MPPI}) {
            int64_t best;
            plan_choice c{rows.data(), weights.data(), &best, &factor[N * (N - 1)], N, N, rule, 0.7, work.data()};
            fastopt_plan_weigh(&c, 0, 1);
            for (const double x : weights) all.add(x);
        }
    }
}

void scalars() {
    hash all;
    for (int64_t t = 1; t < 100000; t += t / 7 + 1)
        for (const double x : {0.9, 0.95, 0.999, 0.9999, 0.5, 1e-3}) all.add(fastopt_power(x, t));
#define ADD_RULE(NAME) add_rule<NAME##_hyper, NAME##_scalars>(all, fastopt_find_rule(#NAME)->scalars);
    FASTOPT_RULES(ADD_RULE)
    for (int k = 1; k < 200; ++k) {
        uint32_t threshold;
        double scale;
        fastopt_dropout_scalars(k / 200.0, &threshold, &scale);
        all.add(static_cast<uint64_t>(threshold));
        all.add(scale);
    }
    add_search(all);
    add_plan(all);
    std::printf("scalars %016" PRIx64 "\n", all.value);
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) fail("expected a file of cases");
    if (const char* wrong = fastopt_select_isa(count > 2 ? arguments[2] : nullptr)) fail(wrong);
    reader in{std::fopen(arguments[1], "rb")};
    if (in.file == nullptr) fail("the file of cases is not there");
    for (int64_t cases = in.number(); cases > 0; --cases) {
        const std::string name = in.text();
        const int64_t type = in.number(), n = in.number();
        std::vector<std::unique_ptr<block>> blocks;
        for (int64_t k = in.number(); k > 0; --k) {
            auto b = std::make_unique<block>();
            b->format = static_cast<char>(in.number());
            b->begin = static_cast<size_t>(in.number());
            b->end = static_cast<size_t>(in.number());
            const size_t bytes = static_cast<size_t>(in.number());
            b->memory.resize(bytes / 8 + 9);
            in.bytes(b->data(), bytes);
            blocks.push_back(std::move(b));
        }
        for (int64_t k = in.number(); k > 0; --k) {
            const int64_t from = in.number(), at = in.number(), to = in.number(), place = in.number();
            const void* const pointer = blocks.at(static_cast<size_t>(to))->data() + place;
            std::memcpy(blocks.at(static_cast<size_t>(from))->data() + at, &pointer, sizeof pointer);
        }
        kernel_named(name)[type](blocks[0]->data(), 0, n);
        hash written;
        for (const auto& b : blocks) written.add(*b);
        std::printf("%s_%s %016" PRIx64 "\n", name.c_str(), type == 0 ? "float32" : "float64", written.value);
    }
    scalars();
    return 0;
}
