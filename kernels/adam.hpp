// Adam, algorithm 1 of Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015 (arXiv:1412.6980), with
// the bias corrections moved into two scalars; decoupled weight decay after Loshchilov and Hutter, ICLR 2019
// (arXiv:1711.05101). One square root and one division per element; 28 bytes moved per float32 parameter.

template <class T>
inline T square_root(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x);
    else return __builtin_sqrt(x);
}

// A state that has decayed below the smallest normal number is stored as 0: arithmetic on subnormal numbers costs
// 10-50 times as much, and a parameter that has been idle for long must not slow the step. NaN stays.
template <class T>
inline T flush_subnormal(T x) {
    constexpr T smallest = sizeof(T) == 4 ? static_cast<T>(__FLT_MIN__) : static_cast<T>(__DBL_MIN__);
    return x < smallest && x > -smallest ? T(0) : x;
}

template <class T>
void adam(const adam_args& a, int64_t begin, int64_t end) {
    T* param = static_cast<T*>(a.param);
    T* exp_avg = static_cast<T*>(a.momentum);
    T* exp_avg_sq = static_cast<T*>(a.exp_avg_sq);
    const T* grad = static_cast<const T*>(a.grad);
    const adam_scalars& s = *static_cast<const adam_scalars*>(a.scalars);
    const T grad_scale = static_cast<T>(s.grad_scale), decay = static_cast<T>(s.decay);
    const T weight_decay = static_cast<T>(s.weight_decay), one_minus_beta1 = static_cast<T>(s.one_minus_beta1);
    const T beta2 = static_cast<T>(s.beta2), one_minus_beta2 = static_cast<T>(s.one_minus_beta2);
    const T lr = static_cast<T>(s.lr), eps = static_cast<T>(s.eps);
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
        T p = param[i] * decay;
        T g = grad[i] * grad_scale;
        g = weight_decay != 0 ? g + weight_decay * p : g;
        const T m = one_minus_beta1 != 1 ? exp_avg[i] + one_minus_beta1 * (g - exp_avg[i]) : g;
        const T gg = one_minus_beta2 * (g * g);
        const T v = beta2 != 0 ? beta2 * exp_avg_sq[i] + gg : gg;
        const T update = lr * (m / (square_root(v) + eps));
        param[i] = lr != 0 ? p - update : p;
        exp_avg[i] = flush_subnormal(m);
        exp_avg_sq[i] = flush_subnormal(v);
    }
}
