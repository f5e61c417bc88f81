// Returns and advantages. Generalised advantage estimation: Schulman, Moritz, Levine, Jordan and Abbeel, "High-dimensional
// continuous control using generalized advantage estimation", 2016.
//
// Time runs backwards and each step needs the one after it, so environments are worked on side by side: WIDTH columns of
// the (time, environments) arrays at once, whose last results stay in registers.

template <class Args, template <class, int> class Columns, class T, int WIDTH>
inline int64_t side_by_side(const Args& a, int64_t first, int64_t end) {
    for (; first + WIDTH <= end; first += WIDTH) Columns<T, WIDTH>::run(a, first);
    return first;
}

// The widths together do any range: those of 1 to 8 are for few environments, 64 for whole lines of many.
template <class Args, template <class, int> class Columns, class T>
inline void all_widths(const Args& a, int64_t begin, int64_t end) {
    begin = side_by_side<Args, Columns, T, 64>(a, begin, end);
    begin = side_by_side<Args, Columns, T, 16>(a, begin, end);
    begin = side_by_side<Args, Columns, T, 8>(a, begin, end);
    begin = side_by_side<Args, Columns, T, 4>(a, begin, end);
    side_by_side<Args, Columns, T, 1>(a, begin, end);
}

template <class T, int WIDTH>
struct gae_columns {
    static void run(const gae_args& a, int64_t first) {
        const T *rewards = static_cast<const T*>(a.rewards), *values = static_cast<const T*>(a.values);
        const T* next_values = static_cast<const T*>(a.next_values);
        T *advantages = static_cast<T*>(a.advantages), *returns = static_cast<T*>(a.returns);
        const T gamma = static_cast<T>(a.gamma), gamma_lam = static_cast<T>(a.gamma_lam);
        T following[WIDTH] = {};
        for (int64_t t = a.time - 1; t >= 0; --t) {
            const int64_t at = t * a.environments + first;
            FASTOPT_INDEPENDENT
            for (int j = 0; j < WIDTH; ++j) {
                const T reward = rewards[at + j], value = values[at + j];
                const T with_next = reward + gamma * next_values[at + j];
                const T delta = (a.terminated[at + j] != 0 ? reward : with_next) - value;
                const T with_following = delta + gamma_lam * following[j];
                following[j] = (a.terminated[at + j] | a.truncated[at + j]) != 0 ? delta : with_following;
                advantages[at + j] = following[j];
                returns[at + j] = following[j] + value;
            }
        }
    }
};

template <class T>
void gae(const gae_args& a, int64_t begin, int64_t end) {
    all_widths<gae_args, gae_columns, T>(a, begin, end);
}

template <class T, int WIDTH>
struct returns_columns {
    static void run(const discounted_returns_args& a, int64_t first) {
        const T *rewards = static_cast<const T*>(a.rewards), *next_values = static_cast<const T*>(a.next_values);
        T* returns = static_cast<T*>(a.returns);
        const T gamma = static_cast<T>(a.gamma);
        T following[WIDTH] = {};
        for (int64_t t = a.time - 1; t >= 0; --t) {
            const int64_t at = t * a.environments + first;
            const int last = t == a.time - 1;
            FASTOPT_INDEPENDENT
            for (int j = 0; j < WIDTH; ++j) {
                const T reward = rewards[at + j];
                const bool cut = (a.truncated[at + j] | last) != 0;
                const bool ended = a.terminated[at + j] != 0 || (next_values == nullptr && cut);
                const T next = next_values != nullptr && cut ? next_values[at + j] : following[j];
                const T with_next = reward + gamma * next;
                following[j] = ended ? reward : with_next;
                returns[at + j] = following[j];
            }
        }
    }
};

template <class T>
void discounted_returns(const discounted_returns_args& a, int64_t begin, int64_t end) {
    all_widths<discounted_returns_args, returns_columns, T>(a, begin, end);
}

template <class T>
void standardize(const standardize_args& a, int64_t begin, int64_t end) {
    const T* x = static_cast<const T*>(a.x);
    T* y = static_cast<T*>(a.y);
    FASTOPT_INDEPENDENT
    for (int64_t i = begin; i < end; ++i) y[i] = static_cast<T>((static_cast<double>(x[i]) - a.mean) * a.scale);
}
