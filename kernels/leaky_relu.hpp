// Leaky ReLU, its gradient, and the count of inactive units. Maas, Hannun and Ng, "Rectifier nonlinearities improve
// neural network acoustic models", 2013.

template <class T>
void leaky_relu(const leaky_relu_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    const T slope = static_cast<T>(a.negative_slope);
    write_elements(static_cast<T*>(a.y), begin, end, a.nontemporal, [=](T* y, int64_t from, int64_t to) {
        FASTOPT_INDEPENDENT
        for (int64_t i = from; i < to; ++i) y[i - from] = x[i] > 0 ? x[i] : x[i] * slope;
    });
}

template <class T>
void leaky_relu_backward(const leaky_relu_backward_args& a, int64_t begin, int64_t end) {
    const T* grad = static_cast<const T*>(a.grad);
    const T* x = static_cast<const T*>(a.x);
    const T slope = static_cast<T>(a.negative_slope);
    write_elements(static_cast<T*>(a.dx), begin, end, a.nontemporal, [=](T* dx, int64_t from, int64_t to) {
        FASTOPT_INDEPENDENT
        for (int64_t i = from; i < to; ++i) dx[i - from] = x[i] > 0 ? grad[i] : grad[i] * slope;
    });
}

template <class T>
void count_inactive(const count_inactive_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    for (int64_t row = 0; row < a.rows; ++row) {
        FASTOPT_INDEPENDENT
        for (int64_t j = begin; j < end; ++j) a.counts[j] += x[row * a.columns + j] <= 0 ? 1 : 0;
    }
}
