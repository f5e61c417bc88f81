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


def set_own_num_threads(int n):
    """The calling thread's own number instead of the process's, 0 for none; return the one before."""
    return fastopt_set_own_num_threads(n)


def forks():
    """How often this process is the child of a fork: what a thread of the parent had begun is not going on here."""
    return fastopt_forks()


def symbols():
    """Name and address of each function of kernels/core/njit.cpp."""
    cdef int k = 0
    found = {}
    while fastopt_symbols[k].name != NULL:
        found[fastopt_symbols[k].name.decode()] = <uintptr_t>fastopt_symbols[k].address
        k += 1
    return found


def kernels(str isa=None):
    """The list of kernels in fastopt.h: (family, name, record, address for float32, for float64) in an instruction set."""
    cdef fastopt_listed_kernel kernel
    cdef bytes of = (isa or get_isa()).encode()
    found = []
    while fastopt_kernel_at(&kernel, of, len(found)):
        found.append((kernel.family.decode(), kernel.name.decode(), kernel.record.decode(),
                      <uintptr_t>kernel.kernels[0], <uintptr_t>kernel.kernels[1]))
    return found


def traced(function):
    """Call the function; return the names of the kernels that ran meanwhile, such as "adam_float32"."""
    fastopt_trace(True)
    try:
        function()
    finally:
        fastopt_trace(False)
    names = [kernel[1] for kernel in kernels()]
    return {f"{name}_{dtype}" for k, name in enumerate(names) for t, dtype in enumerate(("float32", "float64"))
            if fastopt_traced(k, t)}


def run_kernel(uintptr_t kernel, uintptr_t args, int64_t size, int64_t grain):
    """Run a kernel of that list on a record of its arguments, unchecked: for tests."""
    run(<fastopt_kernel>kernel, <const void*>args, size, grain)


cdef int _select_isa() except -1:
    cdef bytes name = os.fsencode(os.environ.get("FASTOPT_ISA", ""))
    cdef const char* wrong = fastopt_select_isa(<const char*>name if name else NULL)
    if wrong != NULL:
        raise ImportError(f"FASTOPT_ISA: {os.fsdecode(name)!r} {wrong.decode()}; expected one of "
                          f"{', '.join(available_isas())}, or unset it for the best of them")
    return 0


_select_isa()
