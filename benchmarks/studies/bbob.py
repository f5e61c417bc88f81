"""The 24 noiseless functions of the BBOB suite, vectorised over the rows of an array, in plain NumPy.

Written from N. Hansen, S. Finck, R. Ros, A. Auger: Real-parameter black-box optimization benchmarking 2009: noiseless
functions definitions, INRIA research report RR-6829 (version 2). The symbols below are the report's. `bbob_run.py` runs
optimisers on them.

What differs from COCO's own instances: x_opt, f_opt, the rotations R and Q, and the peaks of f21 and f22 come from
NumPy's generator (the rotations from the QR decomposition of a normal matrix), not from the suite's own generator. So
figures compare between the optimisers of one table, not with COCO's archive. As in COCO's code, the coordinates of
x_opt with an odd number (from 1) are positive in f4, since its local optima lie on that side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Problem:
    """Function `number` (1 to 24) in a dimension (from 2) and an instance; its smallest value is f_opt, at x_opt.

    Call it with points of shape (..., dimension); it returns values of shape (...). It is defined everywhere; the
    optimum lies in [-5, 5].

    >>> sphere = Problem(1, dimension=3)
    >>> float(sphere(sphere.x_opt) - sphere.f_opt)
    0.0
    """

    def __init__(self, number: int, dimension: int, instance: int = 1) -> None:
        rng = np.random.default_rng((number, dimension, instance))
        self.number, self.dimension, self.instance = number, dimension, instance
        self.f_opt = float(np.clip(round(100 * rng.standard_cauchy(), 2), -1000, 1000))
        self.x_opt: Array = rng.uniform(-4, 4, dimension)
        self.r, self.q = rotation(rng, dimension), rotation(rng, dimension)
        self.exponents = np.arange(dimension) / (dimension - 1)
        self.set_up(rng)

    @property
    def title(self) -> str:
        return TITLES[self.number - 1]

    def __call__(self, x: Any) -> Any:
        x = np.asarray(x, float)
        return FUNCTIONS[self.number - 1](self, x) + self.f_opt

    def set_up(self, rng: np.random.Generator) -> None:
        """Place the optimum where the function's definition wants it, and draw the peaks of f21 and f22."""
        signs = rng.choice((-1.0, 1.0), self.dimension)
        match self.number:
            case 4:
                self.x_opt[::2] = abs(self.x_opt[::2])
            case 5:
                self.x_opt = 5 * signs
            case 8:
                self.x_opt *= 0.75
            case 9 | 19:  # z = 1 there
                self.x_opt = np.full(self.dimension, 0.5 / rosenbrock_scale(self.dimension)) @ self.r
            case 20:
                self.x_opt = 4.2096874633 / 2 * signs
            case 21:
                self.peaks(rng, count=101, condition=1000.0, box=5.0, optimum_box=4.0)
            case 22:
                self.peaks(rng, count=21, condition=1000.0**2, box=4.9, optimum_box=3.92)
            case 24:
                self.x_opt = 2.5 / 2 * signs

    def peaks(self, rng: np.random.Generator, count: int, condition: float, box: float, optimum_box: float) -> None:
        self.y = rng.uniform(-box, box, (count, self.dimension))
        self.y[0] = self.x_opt = rng.uniform(-optimum_box, optimum_box, self.dimension)
        self.w = np.concatenate([[10.0], 1.1 + 8 * np.arange(count - 1) / (count - 2)])
        alpha = np.concatenate([[condition], 1000 ** (2 * rng.permutation(count - 1) / (count - 2))])
        self.c = np.array([a ** (rng.permutation(self.exponents) / 2) / a**0.25 for a in alpha])

    # the matrices and transformations of the report

    def powers(self, base: float) -> Array:
        """base ** ((i - 1) / (D - 1))"""
        return np.asarray(base**self.exponents)

    def conditioned(self, x: Array, alpha: float) -> Array:
        """The diagonal matrix Lambda^alpha times x."""
        return x * self.powers(alpha**0.5)

    def asymmetric(self, x: Array, beta: float) -> Array:
        """T_asy^beta"""
        return np.where(x > 0, np.maximum(x, 0) ** (1 + beta * self.exponents * np.sqrt(np.maximum(x, 0))), x)


def rotation(rng: np.random.Generator, dimension: int) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    return np.asarray(q * np.sign(np.diag(r)))


def rosenbrock_scale(dimension: int) -> float:
    return max(1.0, dimension**0.5 / 8)


def oscillated(x: Array) -> Array:
    """T_osz"""
    hat = np.log(np.where(x == 0, 1, abs(x)))
    c1, c2 = np.where(x > 0, 10, 5.5), np.where(x > 0, 7.9, 3.1)
    return np.asarray(np.sign(x) * np.exp(hat + 0.049 * (np.sin(c1 * hat) + np.sin(c2 * hat))))


def outside(x: Array) -> Array:
    """f_pen"""
    return np.asarray((np.maximum(0, abs(x) - 5) ** 2).sum(-1))


def total(x: Array) -> Array:
    return np.asarray(x.sum(-1))


# ---- separable -------------------------------------------------------------------------------------------------------


def f1(p: Problem, x: Array) -> Array:
    return total((x - p.x_opt) ** 2)


def f2(p: Problem, x: Array) -> Array:
    return total(p.powers(1e6) * oscillated(x - p.x_opt) ** 2)


def f3(p: Problem, x: Array) -> Array:
    return rastrigin(p.conditioned(p.asymmetric(oscillated(x - p.x_opt), 0.2), 10))


def rastrigin(z: Array) -> Array:
    return 10 * (z.shape[-1] - total(np.cos(2 * np.pi * z))) + total(z**2)


def f4(p: Problem, x: Array) -> Array:
    z = oscillated(x - p.x_opt)
    odd = np.arange(p.dimension) % 2 == 0  # numbered from 1
    return rastrigin(np.where((z > 0) & odd, 10, 1) * p.conditioned(z, 10)) + 100 * outside(x)


def f5(p: Problem, x: Array) -> Array:
    z = np.where(p.x_opt * x < 25, x, p.x_opt)
    s = np.sign(p.x_opt) * p.powers(10)
    return total(5 * abs(s) - s * z)


# ---- low or moderate conditioning ------------------------------------------------------------------------------------


def f6(p: Problem, x: Array) -> Array:
    z = p.conditioned((x - p.x_opt) @ p.r.T, 10) @ p.q.T
    return oscillated(total((np.where(z * p.x_opt > 0, 100, 1) * z) ** 2)) ** 0.9


def f7(p: Problem, x: Array) -> Array:
    hat = p.conditioned((x - p.x_opt) @ p.r.T, 10)
    z = np.where(abs(hat) > 0.5, np.floor(0.5 + hat), np.floor(0.5 + 10 * hat) / 10) @ p.q.T
    return 0.1 * np.maximum(abs(hat[..., 0]) / 1e4, total(p.powers(100) * z**2)) + outside(x)


def f8(p: Problem, x: Array) -> Array:
    return total(rosenbrock(rosenbrock_scale(p.dimension) * (x - p.x_opt) + 1))


def rosenbrock(z: Array) -> Array:
    """The terms of the sum."""
    return 100 * (z[..., :-1] ** 2 - z[..., 1:]) ** 2 + (z[..., :-1] - 1) ** 2


def f9(p: Problem, x: Array) -> Array:
    return total(rosenbrock(rosenbrock_scale(p.dimension) * x @ p.r.T + 0.5))


# ---- high conditioning, unimodal -------------------------------------------------------------------------------------


def f10(p: Problem, x: Array) -> Array:
    return total(p.powers(1e6) * oscillated((x - p.x_opt) @ p.r.T) ** 2)


def f11(p: Problem, x: Array) -> Array:
    z = oscillated((x - p.x_opt) @ p.r.T)
    return 1e6 * z[..., 0] ** 2 + total(z[..., 1:] ** 2)


def f12(p: Problem, x: Array) -> Array:
    z = p.asymmetric((x - p.x_opt) @ p.r.T, 0.5) @ p.r.T
    return z[..., 0] ** 2 + 1e6 * total(z[..., 1:] ** 2)


def f13(p: Problem, x: Array) -> Array:
    z = p.conditioned((x - p.x_opt) @ p.r.T, 10) @ p.q.T
    return z[..., 0] ** 2 + 100 * np.sqrt(total(z[..., 1:] ** 2))


def f14(p: Problem, x: Array) -> Array:
    return np.sqrt(total(abs((x - p.x_opt) @ p.r.T) ** (2 + 4 * p.exponents)))


# ---- multi-modal with adequate global structure ----------------------------------------------------------------------


def f15(p: Problem, x: Array) -> Array:
    z = p.asymmetric(oscillated((x - p.x_opt) @ p.r.T), 0.2)
    return rastrigin(p.conditioned(z @ p.q.T, 10) @ p.r.T)


def f16(p: Problem, x: Array) -> Array:
    z = p.conditioned(oscillated((x - p.x_opt) @ p.r.T) @ p.q.T, 1 / 100) @ p.r.T
    k = np.arange(12)
    f0 = total(0.5**k * np.cos(np.pi * 3**k))
    waves = total(0.5**k * np.cos(2 * np.pi * 3**k * (z[..., None] + 0.5)))
    return 10 * (waves.mean(-1) - f0) ** 3 + 10 / p.dimension * outside(x)


def f17(p: Problem, x: Array) -> Array:
    return schaffers(p, x, 10)


def f18(p: Problem, x: Array) -> Array:
    return schaffers(p, x, 1000)


def schaffers(p: Problem, x: Array, condition: float) -> Array:
    z = p.conditioned(p.asymmetric((x - p.x_opt) @ p.r.T, 0.5) @ p.q.T, condition)
    s = np.hypot(z[..., :-1], z[..., 1:])
    return np.mean(np.sqrt(s) * (1 + np.sin(50 * s**0.2) ** 2), axis=-1) ** 2 + 10 * outside(x)


def f19(p: Problem, x: Array) -> Array:
    s = rosenbrock(rosenbrock_scale(p.dimension) * x @ p.r.T + 0.5)
    return 10 * np.mean(s / 4000 - np.cos(s), axis=-1) + 10


# ---- multi-modal with weak global structure --------------------------------------------------------------------------


def f20(p: Problem, x: Array) -> Array:
    hat, optimum = 2 * np.sign(p.x_opt) * x, 2 * abs(p.x_opt)
    hat[..., 1:] += 0.25 * (hat[..., :-1] - optimum[:-1])
    z = 100 * (p.conditioned(hat - optimum, 10) + optimum)
    return 4.189828872724339 - total(z * np.sin(np.sqrt(abs(z)))) / (100 * p.dimension) + 100 * outside(z / 100)


def gallagher(p: Problem, x: Array) -> Array:
    """f21 and f22"""
    distance = total(p.c * ((x[..., None, :] - p.y) @ p.r.T) ** 2)
    highest = (p.w * np.exp(-distance / (2 * p.dimension))).max(-1)
    return oscillated(10 - highest) ** 2 + outside(x)


def f23(p: Problem, x: Array) -> Array:
    d = p.dimension
    z = p.conditioned((x - p.x_opt) @ p.r.T, 100) @ p.q.T
    powers = 2.0 ** np.arange(1, 33)
    scaled = z[..., None] * powers
    rough = total(abs(scaled - np.rint(scaled)) / powers)
    product = np.prod((1 + np.arange(1, d + 1) * rough) ** (10 / d**1.2), axis=-1)
    return 10 / d**2 * (product - 1) + outside(x)


def f24(p: Problem, x: Array) -> Array:
    d, mu0 = p.dimension, 2.5
    s = 1 - 1 / (2 * (d + 20) ** 0.5 - 8.2)
    mu1 = -(((mu0**2 - 1) / s) ** 0.5)
    hat = 2 * np.sign(p.x_opt) * x
    z = p.conditioned((hat - mu0) @ p.r.T, 100) @ p.q.T
    funnels = np.minimum(total((hat - mu0) ** 2), d + s * total((hat - mu1) ** 2))
    return funnels + 10 * (d - total(np.cos(2 * np.pi * z))) + 1e4 * outside(x)


FUNCTIONS: list[Callable[[Problem, Array], Array]] = [
    *(f1, f2, f3, f4, f5),
    *(f6, f7, f8, f9),
    *(f10, f11, f12, f13, f14),
    *(f15, f16, f17, f18, f19),
    *(f20, gallagher, gallagher, f23, f24),
]
TITLES = [
    *("sphere", "ellipsoid, separable", "Rastrigin, separable", "Büche-Rastrigin", "linear slope"),
    *("attractive sector", "step ellipsoid", "Rosenbrock", "Rosenbrock, rotated"),
    *("ellipsoid", "discus", "bent cigar", "sharp ridge", "different powers"),
    *("Rastrigin", "Weierstrass", "Schaffers F7", "Schaffers F7, ill-conditioned", "Griewank-Rosenbrock"),
    *("Schwefel", "Gallagher, 101 peaks", "Gallagher, 21 peaks", "Katsuura", "Lunacek bi-Rastrigin"),
]
