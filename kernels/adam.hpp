// Adam, algorithm 1 of Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015 (arXiv:1412.6980), with
// the bias corrections moved into two scalars; decoupled weight decay after Loshchilov and Hutter, ICLR 2019
// (arXiv:1711.05101); AMSGrad after Reddi, Kale and Kumar, ICLR 2018. One square root and one division per element; 28
// bytes moved per float32 parameter, 8 more for AMSGrad, 8 for the average of weights, 4 for zeroing the gradient.

template <class T>
inline T square_root(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x);
    else return __builtin_sqrt(x);
}

template <class T, bool AMSGRAD, bool EMA, bool ZERO>
void adam_loop(const optimizer_args& a, int64_t begin, int64_t end) {
    T* param = static_cast<T*>(a.param);
    T* exp_avg = static_cast<T*>(a.momentum);
    T* exp_avg_sq = static_cast<T*>(a.exp_avg_sq);
    T* max_exp_avg_sq = static_cast<T*>(a.max_exp_avg_sq);
    T* ema = static_cast<T*>(a.ema);
    T* grad = static_cast<T*>(a.grad);
    const adam_scalars& s = *static_cast<const adam_scalars*>(a.scalars);
    const T grad_scale = static_cast<T>(s.grad_scale), decay = static_cast<T>(s.decay);
    const T weight_decay = static_cast<T>(s.weight_decay), one_minus_beta1 = static_cast<T>(s.one_minus_beta1);
    const T beta2 = static_cast<T>(s.beta2), one_minus_beta2 = static_cast<T>(s.one_minus_beta2);
    const T lr = static_cast<T>(s.lr), eps = static_cast<T>(s.eps), ema_rate = static_cast<T>(a.ema_rate);
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
        T p = param[i] * decay;
        T g = grad[i] * grad_scale;
        g = weight_decay != 0 ? g + weight_decay * p : g;
        const T m = one_minus_beta1 != 1 ? exp_avg[i] + one_minus_beta1 * (g - exp_avg[i]) : g;
        const T gg = one_minus_beta2 * (g * g);
        const T v = beta2 != 0 ? beta2 * exp_avg_sq[i] + gg : gg;
        T largest = v;
        if constexpr (AMSGRAD) {
            largest = max_exp_avg_sq[i] > v || max_exp_avg_sq[i] != max_exp_avg_sq[i] ? max_exp_avg_sq[i] : v;
            max_exp_avg_sq[i] = flush_subnormal(largest);
        }
        const T update = lr * (m / (square_root(largest) + eps));
        p = lr != 0 ? p - update : p;
        param[i] = p;
        exp_avg[i] = flush_subnormal(m);
        exp_avg_sq[i] = flush_subnormal(v);
        if constexpr (EMA) ema[i] = ema_rate != 0 ? ema[i] + ema_rate * (p - ema[i]) : ema[i];
        if constexpr (ZERO) grad[i] = 0;
    }
}

template <class T>
void adam(const adam_args& a, int64_t begin, int64_t end) {
    // What adds traffic is chosen here, once a range; what only adds arithmetic is a select inside the loop.
    switch ((a.max_exp_avg_sq != nullptr) * 4 + (a.ema != nullptr) * 2 + (a.zero_grad != 0)) {
        case 0: return adam_loop<T, false, false, false>(a, begin, end);
        case 1: return adam_loop<T, false, false, true>(a, begin, end);
        case 2: return adam_loop<T, false, true, false>(a, begin, end);
        case 3: return adam_loop<T, false, true, true>(a, begin, end);
        case 4: return adam_loop<T, true, false, false>(a, begin, end);
        case 5: return adam_loop<T, true, false, true>(a, begin, end);
        case 6: return adam_loop<T, true, true, false>(a, begin, end);
        case 7: return adam_loop<T, true, true, true>(a, begin, end);
    }
}

template <class T>
void adam_rows(const adam_rows_args& a, int64_t begin, int64_t end) {
    step_rows<T, adam<T>>(a, begin, end);
}

template <class T>
void adam_bfloat16(const adam_bfloat16_args& a, int64_t begin, int64_t end) {
    step_small_states<T, bfloat16_states, adam<T>>(a, begin, end);
}

template <class T>
void adam_8bit(const adam_8bit_args& a, int64_t begin, int64_t end) {
    step_small_states<T, eight_bit_states, adam<T>>(a, begin, end);
}
