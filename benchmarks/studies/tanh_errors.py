"""The errors of tanh over all float32 that are not negative (it is odd), and whether it ever falls: a minute.

python benchmarks/studies/tanh_errors.py
"""

from __future__ import annotations

import numpy as np

import fastopt

BLOCK = 1 << 22


def main() -> None:
    infinity = int(np.array(np.inf, np.float32).view(np.uint32))
    worst, at, falls, last = 0.0, 0.0, 0, np.float32(0)
    for begin in range(0, infinity + 1, BLOCK):
        x = np.arange(begin, min(begin + BLOCK, infinity + 1), dtype=np.uint32).view(np.float32)
        y, exact = fastopt.tanh(x), np.tanh(x.astype(np.float64))
        assert np.array_equal(fastopt.tanh(-x), -y), "not odd"
        error = np.abs(y - exact) / np.spacing(exact.astype(np.float32))
        falls += int(np.count_nonzero(np.diff(y, prepend=last) < 0))
        last = y[-1]
        if error.max() > worst:
            worst, at = float(error.max()), float(x[error.argmax()])
    print(
        f"largest error: {worst:.3f} units in the last place, at {at}; places where it falls: {falls}; at most {last}"
    )


if __name__ == "__main__":
    main()
