# What Python computes and compares outside the kernels, in their floating-point mode.


cdef class DefaultFloatMode:
    """``with DefaultFloatMode():`` this thread rounds to nearest and keeps subnormal numbers, whatever its own mode is."""
    cdef fastopt_float_mode _own

    def __enter__(self):
        fastopt_enter_float_mode(&self._own)
        return self

    def __exit__(self, *error):
        fastopt_leave_float_mode(&self._own)

    def outside(self, function):
        """What the function returns when it is called in the thread's own mode."""
        fastopt_leave_float_mode(&self._own)
        try:
            return function()
        finally:
            fastopt_enter_float_mode(&self._own)


def finite_number(str name, value, least=None, *, most=None, above=None, below=None):
    """Return a finite float in range: least <= value <= most, above < value < below, as far as they are given."""
    cdef fastopt_float_mode own
    if type(value) is not float and isinstance(value, (bool, np.bool, str, bytes)):
        raise TypeError(f"{name}: expected a float, got {type(value).__name__}")
    fastopt_enter_float_mode(&own)  # else a subnormal number might count as 0, and a long one be rounded in any direction
    try:
        if type(value) is not float:
            try:
                value = float(value)
            except OverflowError:
                value = float("inf") if value > 0 else -float("inf")
            except (TypeError, ValueError):
                raise TypeError(f"{name}: expected a float, got {type(value).__name__}") from None
        if (
            not isfinite(<double>value)
            or (least is not None and value < least)
            or (most is not None and value > most)
            or (above is not None and value <= above)
            or (below is not None and value >= below)
        ):
            limits = ((">=", least), ("<=", most), (">", above), ("<", below))
            wanted = " and ".join([f"{sign} {limit:g}" for sign, limit in limits if limit is not None])
            raise ValueError(f"{name}: expected a finite number{' ' + wanted if wanted else ''}, got {value}")
        return value
    finally:
        fastopt_leave_float_mode(&own)
