// Stochastic gradient descent with momentum, dampening and Nesterov's variant, as torch.optim.SGD defines them
// (Sutskever, Martens, Dahl and Hinton, ICML 2013).

template <class T>
void sgd(const sgd_args& a, int64_t begin, int64_t end) {
    T* param = static_cast<T*>(a.param);
    T* buffer = static_cast<T*>(a.momentum);
    const T* grad = static_cast<const T*>(a.grad);
    const sgd_scalars& s = *static_cast<const sgd_scalars*>(a.scalars);
    const T grad_scale = static_cast<T>(s.grad_scale), weight_decay = static_cast<T>(s.weight_decay);
    const T momentum = static_cast<T>(s.momentum), one_minus_dampening = static_cast<T>(s.one_minus_dampening);
    const T lr = static_cast<T>(s.lr);
    if (momentum == 0) {
        FASTOPT_INDEPENDENT
        for (int64_t i = begin; i < end; ++i) {
            T g = grad[i] * grad_scale;
            g = weight_decay != 0 ? g + weight_decay * param[i] : g;
            param[i] = lr != 0 ? param[i] - lr * g : param[i];
        }
        return;
    }
    const bool first_step = s.first_step, nesterov = s.nesterov;
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) {
        T g = grad[i] * grad_scale;
        g = weight_decay != 0 ? g + weight_decay * param[i] : g;
        T b = momentum * buffer[i];
        b = one_minus_dampening != 0 ? b + one_minus_dampening * g : b;
        b = first_step ? g : b;
        g = nesterov ? g + momentum * b : b;
        param[i] = lr != 0 ? param[i] - lr * g : param[i];
        buffer[i] = flush_subnormal(b);
    }
}
