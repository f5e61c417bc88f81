# Instruction set, threads, and the functions for compiled callers.


def get_isa():
    return fastopt_isa().decode()


def available_isas():
    """The instruction sets that this build has and this CPU can run, best last."""
    names = []
    while fastopt_available_isa(len(names)) != NULL:
        names.append(fastopt_available_isa(len(names)).decode())
    return names


def get_num_threads():
    return fastopt_get_num_threads()


def set_num_threads(int n):
    fastopt_set_num_threads(n)


def symbols():
    """Name and address of each function of kernels/njit.cpp."""
    cdef int k = 0
    found = {}
    while fastopt_symbols[k].name != NULL:
        found[fastopt_symbols[k].name.decode()] = <uintptr_t>fastopt_symbols[k].address
        k += 1
    return found


cdef int _select_isa() except -1:
    cdef bytes name = os.environb.get(b"FASTOPT_ISA", b"")
    cdef const char* wrong = fastopt_select_isa(<const char*>name if name else NULL)
    if wrong != NULL:
        raise ImportError(f"FASTOPT_ISA: {os.fsdecode(name)!r} {wrong.decode()}; expected one of "
                          f"{', '.join(available_isas())}, or unset it for the best of them")
    return 0


_select_isa()
