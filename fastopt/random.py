"""Random numbers by address: each is a pure function of (seed, stream, element)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastopt import _core
from fastopt._checks import integer

__all__ = ["Philox4x32"]

DOMAIN_RAW, DOMAIN_DROPOUT, DOMAIN_NORMAL, DOMAIN_CEM, DOMAIN_ROUNDING, DOMAIN_KEY = 0, 1, 2, 3, 4, 5
DOMAIN_SPAWN, DOMAIN_UNIFORM, DOMAIN_ACTION, DOMAIN_INTEGERS, DOMAIN_PERMUTATION = 6, 7, 8, 9, 10
DOMAIN_PLAN = 11

MAX_STREAM = 2**56
FORMAT = 1  # of a saved state


class Philox4x32:
    """A stream of random numbers that are computed from their address, not drawn from a changing state.

    Every number is Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC11) of a 64-bit seed, a stream and the position of
    the element; what changes as you draw is only the number of the next stream. Each draw, and each call of an op that
    is given this object as `rng`, takes exactly one stream, whatever its size; a call that raises takes none. So no two
    calls ever share a number, and a draw does not depend on how large the ones before it were.

    Parameters
    ----------
    seed : int, numpy.random.SeedSequence, BitGenerator or Generator, optional
        64-bit seed, or a source from which one is drawn. A larger int is hashed to 64 bits, as NumPy's SeedSequence
        does it. None takes fresh entropy from the system.

    Raises
    ------
    TypeError, ValueError
        If `seed` is of another kind or out of range.

    Notes
    -----
    It pickles, and its state is a plain dict. Streams are handed out under a lock: two threads never get the same one.
    A forked child, or a copy, goes on with the same streams as its original: give each one a child of :meth:`spawn`.

    Examples
    --------
    >>> rng = Philox4x32(seed=7)
    >>> rng.random(3, dtype="float32")
    array([0.8867639 , 0.9774545 , 0.71232444], dtype=float32)
    >>> rng.random(2, stream=0, offset=1, dtype="float32")  # elements 1 and 2 of that same draw
    array([0.9774545 , 0.71232444], dtype=float32)
    >>> rng
    Philox4x32(seed=7, stream=1)
    """

    __slots__ = ("_lock", "_seed", "_spawned", "_stream")

    def __init__(self, seed: Any = None) -> None:
        self._seed = _seed_from(seed)
        self._stream = 0
        self._spawned = 0
        self._lock = threading.Lock()

    def random_raw(self, size: Any = None, *, stream: int | None = None, offset: int = 0) -> Any:
        """Return 32-bit words, the raw output of the generator.

        Word e of a stream is word e % 4 of Philox block e // 4, so stream 0 equals ``randint4x(seed, ...)`` of Triton.

        Parameters
        ----------
        size : int or tuple of ints, optional
            Shape of the result; None gives one Python int.
        stream : int, optional
            Read this stream (0 <= stream < 2**56) and take none.
        offset : int
            Element of the stream to begin with.

        Returns
        -------
        ndarray of uint32, or int

        Examples
        --------
        >>> Philox4x32(0).random_raw(4)
        array([1713891541, 3781805453, 3159862348, 2600524760], dtype=uint32)
        """
        out = np.empty(() if size is None else size, np.uint32)
        return self._drawn(self._fill_raw, out, stream, offset, 1, single=size is None)

    def random(
        self,
        size: Any = None,
        dtype: DTypeLike = np.float64,
        out: NDArray[Any] | None = None,
        *,
        stream: int | None = None,
        offset: int = 0,
    ) -> Any:
        """Return numbers uniform in [0, 1).

        float32 numbers are the upper 24 bits of word e, times 2**-24; float64 numbers the upper 53 bits of the 64 in
        words 2e (low) and 2e + 1 (high), times 2**-53. Both are exact, and 1.0 never comes.

        Parameters
        ----------
        size : int or tuple of ints, optional
            Shape of the result; None gives one Python float, or the shape of `out`.
        dtype : float32 or float64
            Type of the result; must agree with `out`.
        out : ndarray, optional
            Array to write to, C-contiguous.
        stream, offset : int
            As for :meth:`random_raw`.

        Returns
        -------
        ndarray, or float

        Examples
        --------
        >>> Philox4x32(0).random(2)
        array([0.29220664, 0.04940094])
        """
        result = _output(size, dtype, out)
        single = size is None and out is None
        return self._drawn(self._fill_uniform, result, stream, offset, result.itemsize // 4, single=single)

    def standard_normal(
        self,
        size: Any = None,
        dtype: DTypeLike = np.float64,
        out: NDArray[Any] | None = None,
        *,
        stream: int | None = None,
        offset: int = 0,
    ) -> Any:
        """Return standard normal numbers, of mean 0 and variance 1.

        Box and Muller's transform in aligned groups of 32 elements: elements j and j + 16 of a group are the cosine
        and the sine of one angle times one radius, sqrt(-2 ln u1). u1 has 32 random bits for float32, so that |z| is at
        most 6.66, and 53 for float64, at most 8.57; it is never 0 and the result never infinite. Logarithm, sine and
        cosine are polynomials, the same in the reference, so the bits are the same on every machine.

        Parameters
        ----------
        size, dtype, out, stream, offset
            As for :meth:`random`.

        Returns
        -------
        ndarray, or float

        Notes
        -----
        Of 2**20 numbers against the exact transform of the same words, the largest errors were 4.2 units in the last
        place in float32, and 3.4 in float64 (of 1/64 for numbers smaller than that, which is what could be compared).

        Examples
        --------
        >>> Philox4x32(0).standard_normal(2, dtype="float32")
        array([ 0.11235616, -0.04257821], dtype=float32)
        """
        result = _output(size, dtype, out)
        single = size is None and out is None
        return self._drawn(self._fill_normal, result, stream, offset, result.itemsize // 4, single=single)

    def integers(
        self,
        low: int,
        high: int | None = None,
        size: Any = None,
        dtype: DTypeLike = np.int64,
        endpoint: bool = False,
        *,
        stream: int | None = None,
        offset: int = 0,
    ) -> Any:
        """Return integers uniform in [low, high), or in [0, low) where `high` is None.

        Element e is low + floor(u * (high - low) / 2**64), where u is the 64 bits in words 2e (low) and 2e + 1 (high):
        no number is ever drawn again, so each has its address, and its probability is off by less than 2**-64 (by
        nothing where high - low is a power of two).

        Parameters
        ----------
        low, high : int
            The range; `high` itself is one of its numbers with `endpoint`.
        size : int or tuple of ints, optional
            Shape of the result; None gives one Python int.
        dtype : dtype
            Any type of integers, or bool, that holds the range.
        endpoint : bool
            Whether `high` (or `low`, where `high` is None) may come too.
        stream, offset : int
            As for :meth:`random_raw`.

        Returns
        -------
        ndarray of dtype, or int

        Examples
        --------
        >>> Philox4x32(0).integers(10, size=5)
        array([4, 6, 9, 4, 6])
        """
        kind = np.dtype(dtype)
        if kind.kind not in "iub":
            raise TypeError(f"dtype: expected a type of integers or bool, got {kind}")
        info = np.iinfo(kind) if kind.kind != "b" else None
        least, most = (int(info.min), int(info.max)) if info is not None else (0, 1)
        first, last = (0, low) if high is None else (integer("low", low, least, most + 1), high)
        name = "low" if high is None else "high"
        last = integer(name, last, first + (not endpoint), most + 2 - endpoint) - (not endpoint)
        out = np.empty(() if size is None else size, np.int64)
        wrapped = (first + 2**63) % 2**64 - 2**63

        def fill(numbers: NDArray[Any], taken: int, offset: int) -> None:
            self._fill_integers(numbers, taken, offset, wrapped, (last - first + 1) % 2**64)

        return self._drawn(fill, out, stream, offset, 2, single=size is None, dtype=kind)

    def permutation(self, x: Any, axis: int = 0, *, stream: int | None = None) -> NDArray[Any]:
        """Return 0, 1, ..., x - 1 in random order; or a copy of an array, shuffled along an axis.

        The shuffle is Fisher and Yates': element i changes places with element floor(u * (i + 1) / 2**64), where u is
        the 64 bits in words 2i (low) and 2i + 1 (high), for i = 1, 2, ...

        Parameters
        ----------
        x : int or array_like
            How many numbers, or what to shuffle; slices along `axis` stay whole.
        axis : int
            Of an array.
        stream : int, optional
            As for :meth:`random_raw`.

        Returns
        -------
        ndarray

        Examples
        --------
        >>> rng = Philox4x32(0)
        >>> rng.permutation(5)
        array([4, 3, 0, 1, 2])
        >>> rng.permutation([10, 20, 30], stream=7)
        array([10, 30, 20])
        """
        if np.ndim(x) == 0:
            n, values = integer("x", x, 0, 2**63), None
        else:
            values = np.asarray(x)
            n = values.shape[np.lib.array_utils.normalize_axis_index(axis, values.ndim)]
        order = np.empty(n, np.int64)

        def fill(numbers: NDArray[Any], taken: int, offset: int) -> None:
            self._fill_permutation(numbers, taken)

        self._drawn(fill, order, stream, 0, 2, single=False)
        return order if values is None else values.take(order, axis)

    def spawn(self, n: int) -> list[Philox4x32]:
        """Return `n` new generators with seeds of their own, for workers, environments or layers.

        Child k has words 0 and 1 of stream k of a domain of its own for its seed. Spawning takes no stream.

        Examples
        --------
        >>> Philox4x32(0).spawn(2)[1].random_raw(1)
        array([2897030017], dtype=uint32)
        """
        n = integer("n", n, 0, MAX_STREAM)
        while True:
            first = self._spawned
            after = integer("n", first + n, 0, MAX_STREAM)
            children = [type(self)(_derived_key(self._seed, first + k, DOMAIN_SPAWN)) for k in range(n)]
            # Counted when nothing can fail any more. Nothing is called while the lock is held: a signal's handler, or a
            # fork, would come in.
            with self._lock:
                if self._spawned == first:  # not another thread's meanwhile
                    self._spawned = after
                    return children

    @property
    def seed(self) -> int:
        """The 64-bit seed."""
        return self._seed

    @property
    def state(self) -> dict[str, int]:
        """Seed, number of the next stream and of the next child, as a plain dict of ints. Settable, also to what an npz
        file of them, or JSON, gives back."""
        with self._lock:
            return {"format": FORMAT, "seed": self._seed, "stream": self._stream, "spawned": self._spawned}

    @state.setter
    def state(self, state: Mapping[str, Any]) -> None:
        if not isinstance(state, Mapping) or set(state) != {"format", "seed", "stream", "spawned"}:
            raise ValueError(f"state: expected a dict with the keys format, seed, stream, spawned, got {state!r}")
        numbers = {k: v[()] if isinstance(v, np.ndarray) and v.ndim == 0 else v for k, v in state.items()}
        integer("state['format']", numbers["format"], FORMAT, FORMAT + 1)
        seed = integer("state['seed']", numbers["seed"], 0, 2**64)
        stream = integer("state['stream']", numbers["stream"], 0, MAX_STREAM + 1)
        spawned = integer("state['spawned']", numbers["spawned"], 0, MAX_STREAM + 1)
        with self._lock:
            self._seed, self._stream, self._spawned = seed, stream, spawned

    def __getstate__(self) -> dict[str, int]:
        return self.state

    def __setstate__(self, state: dict[str, int]) -> None:
        self._lock = threading.Lock()
        self.state = state

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seed={self._seed}, stream={self._stream})"

    def _take_stream(self) -> int:
        with self._lock:
            stream = self._stream
            if stream >= MAX_STREAM:
                raise ValueError("rng: all 2**56 streams of this generator are used up; spawn() gives a new one")
            self._stream = stream + 1
        return stream

    def _drawn(
        self,
        fill: Callable[[NDArray[Any], int, int], None],
        out: NDArray[Any],
        stream: int | None,
        offset: int,
        words: int,
        *,
        single: bool,
        dtype: np.dtype[Any] | None = None,
    ) -> Any:
        """Fill `out`, whose elements are of so many words each, and return it (as `dtype`) or its one number."""
        integer("offset", offset, 0, 2**64 // words - out.size + 1)
        taken = self._take_stream() if stream is None else integer("stream", stream, 0, MAX_STREAM)
        try:
            fill(out, taken, offset)
            result = out if dtype is None else out.astype(dtype, copy=False)
            return result.item() if single else result
        except MemoryError:
            if stream is None:
                give_back(self, taken)
            raise

    # What reference.Philox4x32 does in NumPy.

    def _fill_raw(self, out: NDArray[np.uint32], stream: int, offset: int) -> None:
        _core.fill_random_raw(out, self._seed, stream, DOMAIN_RAW, offset)

    def _fill_uniform(self, out: NDArray[Any], stream: int, offset: int) -> None:
        _core.fill_random_uniform(out, self._seed, stream, DOMAIN_UNIFORM, offset)

    def _fill_normal(self, out: NDArray[Any], stream: int, offset: int) -> None:
        _core.fill_random_normal(out, self._seed, stream, DOMAIN_NORMAL, offset)

    def _fill_integers(self, out: NDArray[np.int64], stream: int, offset: int, low: int, count: int) -> None:
        _core.fill_random_integers(out, self._seed, stream, DOMAIN_INTEGERS, offset, low, count)

    def _fill_permutation(self, out: NDArray[np.int64], stream: int) -> None:
        _core.fill_permutation(out, self._seed, stream, DOMAIN_PERMUTATION)


def resolve_rng(rng: Any) -> tuple[int, int]:
    """Return the (seed, stream) that one call with this `rng` argument uses; takes a stream, or a key, from it."""
    if isinstance(rng, Philox4x32):
        stream = rng._take_stream()
        try:
            return rng.seed, stream
        except MemoryError:
            give_back(rng, stream)
            raise
    if rng is None or isinstance(rng, np.random.SeedSequence | np.random.BitGenerator | np.random.Generator):
        return _seed_from(rng), 0
    if isinstance(rng, tuple) and len(rng) == 2:
        return integer("rng[0] (seed)", rng[0], 0, 2**64), integer("rng[1] (stream)", rng[1], 0, MAX_STREAM)
    if isinstance(rng, int | np.integer):
        raise TypeError(
            f"rng: expected a Philox4x32, got the int {rng}, which would give the same decisions at every call; "
            f"make rng = fastopt.Philox4x32({rng}) once and pass it each time, or pass (seed, stream)"
        )
    raise TypeError(
        "rng: expected a Philox4x32, None, a numpy.random SeedSequence, BitGenerator or Generator, "
        f"or a (seed, stream) pair, got {type(rng).__name__}"
    )


def give_back(rng: Any, stream: int) -> None:
    """A call that has taken this stream ran out of memory: the next call gets it, unless one has taken the next."""
    if isinstance(rng, Philox4x32):
        with rng._lock:
            if rng._stream == stream + 1:
                rng._stream = stream


def run_key(rng: Any) -> int:
    """Return a key for all the streams of a run of its own (an optimiser that rounds, a CEM): an int is a seed here."""
    return run_address(rng)[1]


def run_address(rng: Any) -> tuple[tuple[int, int], int]:
    """Return (the (seed, stream) that a run takes, which gives the same run again as its `rng`; its key)."""
    seed, stream = (_seed_from(rng), 0) if isinstance(rng, int | np.integer) else resolve_rng(rng)
    try:
        return (seed, stream), _derived_key(seed, stream, DOMAIN_KEY)
    except MemoryError:
        give_back(rng, stream)
        raise


def _seed_from(source: Any) -> int:
    if source is None:
        return int.from_bytes(os.urandom(8), "little")
    if isinstance(source, np.random.SeedSequence):
        # generate_state gives the same words at each call: a child makes each call's key new.
        return _of_words(source.spawn(1)[0])
    if isinstance(source, np.random.BitGenerator):
        source = np.random.Generator(source)
    if isinstance(source, np.random.Generator):
        return int(source.integers(2**64, dtype=np.uint64))
    if isinstance(source, int | np.integer) and source >= 2**64:
        return _of_words(np.random.SeedSequence(int(source)))
    return integer("seed", source, 0, 2**64)


def _of_words(sequence: np.random.SeedSequence) -> int:
    low, high = sequence.generate_state(2, np.uint32)
    return int(low) | int(high) << 32


def _derived_key(seed: int, stream: int, domain: int) -> int:
    words = np.empty(2, np.uint32)
    _core.fill_random_raw(words, seed, stream, domain, 0)
    return int(words[0]) | int(words[1]) << 32


def _output(size: Any, dtype: DTypeLike, out: NDArray[Any] | None) -> NDArray[Any]:
    wanted = np.dtype(dtype)
    if wanted not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {wanted}")
    if out is None:
        return np.empty(() if size is None else size, wanted)
    if not isinstance(out, np.ndarray) or out.dtype != wanted:
        got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
        raise TypeError(f"out: expected an ndarray of {wanted} (the dtype argument), got {got}")
    if size is not None and out.shape != np.broadcast_shapes(size):
        raise ValueError(f"out: expected the shape of size, {size}, got {out.shape}")
    if not (out.flags.carray and out.flags.writeable):
        raise ValueError("out: expected a C-contiguous, writeable array")
    return out
