# The rules of optimisers by name, and their scalars.

cdef enum:
    MOST_HYPER = 16  # hyper-parameters of a rule

cdef dict _hyper_names = {rule.removesuffix("_hyper"): names for rule, names in HYPER.items()}


cdef const fastopt_rule* rule_named(str name) except NULL:
    cdef const fastopt_rule* rule = fastopt_find_rule(PyUnicode_AsUTF8(name))
    if rule == NULL:
        raise ValueError(f"rule: expected one of FASTOPT_RULES in kernels/optimizers/optimizers.h, got {name!r}")
    return rule


cdef int rule_scalars_of(const fastopt_rule* rule, rule_scalars* out, tuple hyper, int kind, int64_t t,
                         double grad_scale) except -1:
    """Compute the scalars of step t from the rule's hyper-parameters, all of them numbers: whether the states rest."""
    cdef double numbers[MOST_HYPER]
    cdef Py_ssize_t k
    if len(hyper) != rule.hyper or rule.hyper > MOST_HYPER:
        raise ValueError(f"hyper: expected {rule.hyper} numbers, got {len(hyper)}")
    for k in range(rule.hyper):
        numbers[k] = hyper[k]
    cdef int zero = rule.scalars(out, t, numbers, grad_scale, kind)
    if zero > 0:
        least = "2**-87 = 6.5e-27" if kind == 0 else "2**-564 = 1.7e-170"
        raise ValueError(f"{_hyper_names[rule.name.decode()][zero - 1]}: expected at least {least} in {'float64' if kind else 'float32'}, where a "
                         f"smaller one changes no denominator, got {hyper[zero - 1]}")
    return zero < 0
