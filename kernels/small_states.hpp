// Optimiser states in 16 or 8 bits. A piece of them is decoded to the element type, the plain step runs on it, and the
// result is encoded again: one pass over memory, and any option of the plain step.
//
// A code keeps the top bits of a float32's magnitude. bfloat16: 8 bits of exponent, 7 of mantissa. 8 bits: relative to
// the largest exponent of a block, so that a few bits of exponent are enough: momentum has a sign, 4 bits of exponent
// and 3 of mantissa, the averages of squares 5 and 3. A code of 0 is exactly zero; a square that is not zero keeps a
// code of at least 1, for a zero there would let its momentum through undivided.
//
// What is cut off decides by chance whether the code goes up: always to the nearest, the decay of 1 - beta2 per step, far
// less than half a unit, would be lost. The chance of an element is 16 bits: those of its block of 256 from the stream,
// plus its place in the block and the number of the step along a two-dimensional R sequence (Roberts, "The unreasonable
// effectiveness of quasirandom sequences", 2018: powers of 1 / 1.32472, the plastic number, times 65536). Each chance is
// uniform over seeds, and neighbours and successive steps share it evenly, so that their errors cancel instead of adding
// up to a random walk; and it costs next to nothing, where a fresh value for each element would cost 0.19 ns.

constexpr uint32_t SIGN = 0x80000000, INFINITE = 0x7F800000;
constexpr uint32_t CHANCE_BY_PLACE = 0xC141, CHANCE_BY_STEP = 0x91E1;
constexpr int64_t SMALL_PIECE = 2048;  // elements decoded at a time, a multiple of FASTOPT_STATE_BLOCK

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

inline uint32_t float_bits(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}

inline float float_of(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

struct bfloat16_states {
    typedef uint16_t code;

    template <bool SIGNED, class T>
    static void decode(T* x, const code* codes, const uint8_t*, int64_t n) {
        FASTOPT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) x[i] = static_cast<T>(float_of(static_cast<uint32_t>(codes[i]) << 16));
    }

    template <bool SIGNED, class T>
    static void encode(code* codes, uint8_t*, const T* x, uint32_t chance, int64_t n) {
        FASTOPT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i, chance += CHANCE_BY_PLACE) {
            const uint32_t bits = float_bits(static_cast<float>(x[i])), magnitude = bits & ~SIGN;
            const uint32_t rounded = (magnitude + (chance & 0xFFFF)) >> 16 | (bits & SIGN) >> 16;
            codes[i] = static_cast<code>(magnitude > INFINITE ? 0x7FC0 : rounded);
        }
    }
};

struct eight_bit_states {
    typedef uint8_t code;
    static constexpr int32_t LOWEST_EXPONENT = 32;  // of a block, biased as in a float32; the highest is that of infinity

    // The exponent field of a code whose value has the exponent of its block.
    template <bool SIGNED>
    static constexpr int32_t top_field = SIGNED ? 15 : 31;

    template <bool SIGNED, class T>
    static void decode(T* x, const code* codes, const uint8_t* exponent, int64_t n) {
        const uint32_t base = static_cast<uint32_t>(*exponent - top_field<SIGNED>) << 23;
        FASTOPT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i) {
            const int32_t wide = SIGNED ? static_cast<int8_t>(codes[i]) : codes[i];
            const uint32_t bits = static_cast<uint32_t>(wide) << 20 & (SIGNED ? 0x87F00000 : 0x0FF00000);
            x[i] = static_cast<T>(float_of((bits & ~SIGN) != 0 ? bits + base : 0));
        }
    }

    template <bool SIGNED, class T>
    static void encode(code* codes, uint8_t* exponent, const T* x, uint32_t chance, int64_t n) {
        int32_t largest = 0;
        for (int64_t i = 0; i < n; ++i) {
            const int32_t magnitude = static_cast<int32_t>(float_bits(static_cast<float>(x[i])) & ~SIGN);
            largest = magnitude > largest ? magnitude : largest;
        }
        if (largest > static_cast<int32_t>(INFINITE)) {  // a NaN counts as zero: it must not take its block along
            T clean[FASTOPT_STATE_BLOCK];
            for (int64_t i = 0; i < n; ++i) clean[i] = x[i] == x[i] ? x[i] : T(0);
            encode<SIGNED>(codes, exponent, clean, chance, n);
            return;
        }
        int32_t top = (largest + 0xFFFFF) >> 23;  // of the largest even when it is rounded up
        top = top < LOWEST_EXPONENT ? LOWEST_EXPONENT : top;
        *exponent = static_cast<uint8_t>(top);
        const int32_t base = (top - top_field<SIGNED>) * (1 << 23);
        FASTOPT_INDEPENDENT
        for (int64_t i = 0; i < n; ++i, chance += CHANCE_BY_PLACE) {
            const uint32_t bits = float_bits(static_cast<float>(x[i]));
            const int32_t magnitude = static_cast<int32_t>(bits & ~SIGN);
            const int32_t least = !SIGNED && magnitude > 0 ? 1 : 0;
            int32_t rounded = (magnitude + static_cast<int32_t>((chance & 0xFFFF) << 4) - base) >> 20;
            rounded = rounded < least ? least : rounded;
            codes[i] = static_cast<code>(SIGNED ? rounded | static_cast<int32_t>((bits & SIGN) >> 24) : rounded);
        }
    }
};

template <class T, class STATES, void (*STEP)(const optimizer_args&, int64_t, int64_t)>
void step_small_states(const small_state_args& a, int64_t begin, int64_t end) {
    typedef typename STATES::code code;
    alignas(64) T momentum[SMALL_PIECE], exp_avg_sq[SMALL_PIECE], max_exp_avg_sq[SMALL_PIECE];
    T* const values[3] = {momentum, exp_avg_sq, max_exp_avg_sq};
    void* const states[3] = {a.step.momentum, a.step.exp_avg_sq, a.step.max_exp_avg_sq};
    const philox_stream stream(a.rounding);
    for (int64_t i = begin; i < end; i += SMALL_PIECE) {
        const int64_t n = smaller(end - i, SMALL_PIECE);
        const int64_t block = i / FASTOPT_STATE_BLOCK;
        for (int k = 0; k < 3; ++k) {
            if (states[k] == nullptr) continue;
            for (int64_t j = 0; j < n; j += FASTOPT_STATE_BLOCK) {
                const int64_t b = block + j / FASTOPT_STATE_BLOCK, length = smaller(n - j, FASTOPT_STATE_BLOCK);
                const code* from = static_cast<const code*>(states[k]) + i + j;
                if (k == 0) STATES::template decode<true>(values[k] + j, from, a.exponents[k] + b, length);
                else STATES::template decode<false>(values[k] + j, from, a.exponents[k] + b, length);
            }
        }

        optimizer_args piece = a.step;
        piece.param = at<T>(a.step.param, i);
        piece.ema = at<T>(a.step.ema, i);
        piece.grad = at<T>(a.step.grad, i);
        piece.momentum = values[0];
        piece.exp_avg_sq = values[1];
        piece.max_exp_avg_sq = states[2] == nullptr ? nullptr : values[2];
        STEP(piece, 0, n);

        uint32_t words[SMALL_PIECE / FASTOPT_STATE_BLOCK];  // one a block: the low half for momentum, the high one else
        philox_words(words, stream, static_cast<uint64_t>(block / 4), SMALL_PIECE / FASTOPT_STATE_BLOCK / 4);
        for (int k = 0; k < 3; ++k) {
            if (states[k] == nullptr) continue;
            for (int64_t j = 0; j < n; j += FASTOPT_STATE_BLOCK) {
                const int64_t b = block + j / FASTOPT_STATE_BLOCK, length = smaller(n - j, FASTOPT_STATE_BLOCK);
                const uint32_t word = words[j / FASTOPT_STATE_BLOCK];
                const uint32_t chance = (k == 0 ? word : word >> 16) + a.step_number * CHANCE_BY_STEP;
                code* to = static_cast<code*>(states[k]) + i + j;
                if (k == 0) STATES::template encode<true>(to, a.exponents[k] + b, values[k] + j, chance, length);
                else STATES::template encode<false>(to, a.exponents[k] + b, values[k] + j, chance, length);
            }
        }
    }
}
