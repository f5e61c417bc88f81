// Stochastic gradient descent with momentum, dampening and Nesterov's variant, as torch.optim.SGD defines them
// (Sutskever, Martens, Dahl and Hinton, ICML 2013).

template <class T, bool MOMENTUM, bool EMA, bool ZERO>
void sgd_loop(const optimizer_args& a, int64_t begin, int64_t end) {
    T* param = static_cast<T*>(a.param);
    T* buffer = static_cast<T*>(a.momentum);
    T* ema = static_cast<T*>(a.ema);
    T* grad = static_cast<T*>(a.grad);
    const sgd_scalars& s = *static_cast<const sgd_scalars*>(a.scalars);
    const T grad_scale = static_cast<T>(s.grad_scale), weight_decay = static_cast<T>(s.weight_decay);
    const T momentum = static_cast<T>(s.momentum), one_minus_dampening = static_cast<T>(s.one_minus_dampening);
    const T lr = static_cast<T>(s.lr), ema_rate = static_cast<T>(a.ema_rate);
    const bool first_step = s.first_step, nesterov = s.nesterov;
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
        T g = grad[i] * grad_scale;
        g = weight_decay != 0 ? g + weight_decay * param[i] : g;
        if constexpr (MOMENTUM) {
            T b = momentum * buffer[i];
            b = one_minus_dampening != 0 ? b + one_minus_dampening * g : b;
            b = first_step ? g : b;
            g = nesterov ? g + momentum * b : b;
            buffer[i] = flush_subnormal(b);
        }
        const T p = lr != 0 ? param[i] - lr * g : param[i];
        param[i] = p;
        if constexpr (EMA) ema[i] = ema_rate != 0 ? ema[i] + ema_rate * (p - ema[i]) : ema[i];
        if constexpr (ZERO) grad[i] = 0;
    }
}

template <class T>
void sgd(const sgd_args& a, int64_t begin, int64_t end) {
    const bool momentum = static_cast<T>(static_cast<const sgd_scalars*>(a.scalars)->momentum) != 0;
    switch (momentum * 4 + (a.ema != nullptr) * 2 + (a.zero_grad != 0)) {
        case 0: return sgd_loop<T, false, false, false>(a, begin, end);
        case 1: return sgd_loop<T, false, false, true>(a, begin, end);
        case 2: return sgd_loop<T, false, true, false>(a, begin, end);
        case 3: return sgd_loop<T, false, true, true>(a, begin, end);
        case 4: return sgd_loop<T, true, false, false>(a, begin, end);
        case 5: return sgd_loop<T, true, false, true>(a, begin, end);
        case 6: return sgd_loop<T, true, true, false>(a, begin, end);
        case 7: return sgd_loop<T, true, true, true>(a, begin, end);
    }
}

template <class T>
void sgd_rows(const sgd_rows_args& a, int64_t begin, int64_t end) {
    step_rows<T, sgd<T>>(a, begin, end);
}

template <class T>
void sgd_bfloat16(const sgd_bfloat16_args& a, int64_t begin, int64_t end) {
    step_small_states<T, bfloat16_states, sgd<T>>(a, begin, end);
}

template <class T>
void sgd_8bit(const sgd_8bit_args& a, int64_t begin, int64_t end) {
    step_small_states<T, eight_bit_states, sgd<T>>(a, begin, end);
}
