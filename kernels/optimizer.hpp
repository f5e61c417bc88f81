// What Adam and SGD share: the flushing of small states, the step on single rows, the average of weights, scaling.

// A state that has decayed below the smallest normal number is stored as 0: arithmetic on subnormal numbers costs
// 10-50 times as much, and a parameter that has been idle for long must not slow the step. NaN stays.
template <class T>
inline T flush_subnormal(T x) {
    constexpr T smallest = sizeof(T) == 4 ? static_cast<T>(__FLT_MIN__) : static_cast<T>(__DBL_MIN__);
    return x < smallest && x > -smallest ? T(0) : x;
}

template <class T>
inline void* at(void* array, int64_t index) {
    return array == nullptr ? nullptr : static_cast<T*>(array) + index;
}

template <class T, void (*STEP)(const optimizer_args&, int64_t, int64_t)>
void step_rows(const optimizer_rows_args& a, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
        optimizer_args row = a.step;
        const int64_t first = a.rows[k] * a.width;
        row.param = at<T>(a.step.param, first);
        row.momentum = at<T>(a.step.momentum, first);
        row.exp_avg_sq = at<T>(a.step.exp_avg_sq, first);
        row.grad = at<T>(a.step.grad, k * a.width);
        STEP(row, 0, a.width);
    }
}

template <class T>
void sum_rows(const sum_rows_args& a, int64_t begin, int64_t end) {
    const T* values = static_cast<const T*>(a.values);
    for (int64_t k = begin; k < end; ++k) {
        T* out = static_cast<T*>(a.out) + k * a.width;
        __builtin_memcpy(out, values + a.order[a.starts[k]] * a.width, static_cast<size_t>(a.width) * sizeof(T));
        for (int64_t i = a.starts[k] + 1; i < a.starts[k + 1]; ++i) {
            const T* row = values + a.order[i] * a.width;
            FASTOPT_INDEPENDENT
            for (int64_t j = 0; j < a.width; ++j) out[j] += row[j];
        }
    }
}

template <class T>
void ema(const ema_args& a, int64_t begin, int64_t end) {
    T* average = static_cast<T*>(a.average);
    const T* value = static_cast<const T*>(a.value);
    const T rate = static_cast<T>(a.rate);
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i)
        average[i] = rate != 0 ? average[i] + rate * (value[i] - average[i]) : average[i];
}

template <class T>
void scale(const scale_args& a, int64_t begin, int64_t end) {
    T* x = static_cast<T*>(a.x);
    const T factor = static_cast<T>(a.factor);
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) x[i] = x[i] * factor;
}
