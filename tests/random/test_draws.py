"""Philox4x32: what its numbers are, which addresses it hands out, and how it is stored, copied and spawned."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fastopt
from fastopt import Philox4x32, _core, reference
from fastopt.random import DOMAIN_RAW, DOMAIN_ROUNDING, DOMAIN_SPAWN, DOMAIN_UNIFORM

from ..support import DTYPES, OPTIMIZER_GRAIN, RANDOM_GRAIN, assert_same_bits

SEED, STREAM = 0xFEDCBA9876543210, 2**56 - 1

DRAWS = {
    "random_raw": lambda rng, size, **address: rng.random_raw(size, **address),
    "random float32": lambda rng, size, **address: rng.random(size, np.float32, **address),
    "random float64": lambda rng, size, **address: rng.random(size, np.float64, **address),
    "standard_normal float32": lambda rng, size, **address: rng.standard_normal(size, np.float32, **address),
    "standard_normal float64": lambda rng, size, **address: rng.standard_normal(size, np.float64, **address),
    "integers": lambda rng, size, **address: rng.integers(-5, 10**12, size, **address),
    "integers of all": lambda rng, size, **address: rng.integers(-(2**63), 2**63, size, **address),
}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())

# ---- bits ------------------------------------------------------------------------------------------------------------


@each_draw
def test_lengths_and_offsets(draw):
    for size in range(68):
        for offset in (0, 1, 2, 3, 5, 4 * size + 7, 2**32 + 1, 2**33 - 30):
            actual = draw(Philox4x32(SEED), size, stream=STREAM, offset=offset)
            expected = draw(reference.Philox4x32(SEED), size, stream=STREAM, offset=offset)
            assert_same_bits(actual, expected, f"size {size}, offset {offset}")


@each_draw
def test_the_block_number_carries_into_its_upper_word(draw):
    # Block 2**32 begins with word 2**34, which is element 2**33 where an element takes two words. From every place in a
    # register of blocks and in a group of normal numbers, and in a later chunk of a long draw.
    for border in (2**33, 2**34):
        for before in (*range(1, 70), 3 * RANDOM_GRAIN + 1):
            actual = draw(Philox4x32(SEED), before + 70, stream=STREAM, offset=border - before)
            expected = draw(reference.Philox4x32(SEED), before + 70, stream=STREAM, offset=border - before)
            assert_same_bits(actual, expected, f"{before} elements before {border}")
            assert_same_bits(actual[before:], draw(Philox4x32(SEED), 70, stream=STREAM, offset=border))
    above, start = (draw(Philox4x32(SEED), 70, stream=STREAM, offset=offset) for offset in (2**34, 0))
    assert not np.any(above == start)


def test_the_words_above_the_carry():
    for offset, counter in ((2**34, (0, 1)), (2**34 - 4, (2**32 - 1, 0)), (2**64 - 4, (2**32 - 1, 2**30 - 1))):
        words = reference.philox4x32(np.array([*counter, 9, 0], np.uint32), np.array([SEED % 2**32, SEED >> 32]))
        assert_same_bits(Philox4x32(SEED).random_raw(4, stream=9, offset=offset), words)


@each_draw
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_chunk_borders_and_threads(draw, threads):
    fastopt.set_num_threads(threads)
    for size in (RANDOM_GRAIN - 1, RANDOM_GRAIN + 1, 3 * RANDOM_GRAIN + 5, 37 * OPTIMIZER_GRAIN + 11):
        actual = draw(Philox4x32(3), size, stream=2, offset=1)
        assert_same_bits(actual, draw(reference.Philox4x32(3), size, stream=2, offset=1), f"size {size}")


@each_draw
@example(seed=0, stream=0, offset=2**63 - 5, shape=5)  # the last float64 numbers of a stream: 2**64 words in all
@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, 2**56 - 1),
    offset=st.integers(0, 2**63 - 3000),
    shape=st.one_of(st.integers(0, 2000), st.tuples(st.integers(0, 20), st.integers(0, 20)), st.just(())),
)
def test_any_address(draw, seed, stream, offset, shape):
    actual = draw(Philox4x32(seed), shape, stream=stream, offset=offset)
    assert_same_bits(actual, draw(reference.Philox4x32(seed), shape, stream=stream, offset=offset))


def test_a_stream_has_an_end():
    rng = Philox4x32(3)
    assert rng.random_raw(3, offset=2**64 - 3).shape == (3,)
    assert rng.random(3, offset=2**63 - 3).shape == (3,)
    for draw in (lambda: rng.random_raw(3, offset=2**64 - 2), lambda: rng.random(3, offset=2**63 - 2)):
        with pytest.raises(ValueError, match="offset: expected 0 <= offset < "):
            draw()
    assert rng.state["stream"] == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", range(16))
def test_out_at_shifted_addresses(dtype, shift):
    for size in (0, 1, 31, 32, 33, 200):
        buffer = np.full(size + shift + 1, -7, dtype)
        out = buffer[shift : shift + size]
        assert Philox4x32(5).random(dtype=dtype, out=out) is out
        assert_same_bits(out, reference.Philox4x32(5).random(size, dtype))
        assert np.all(buffer[:shift] == -7)
        assert buffer[-1] == -7


def test_float32_uniforms_are_24_bits_of_a_word():
    words = reference.words(SEED, STREAM, DOMAIN_UNIFORM, 9, 1000)
    expected = np.array([(int(word) >> 8) / 2**24 for word in words], np.float32)
    assert_same_bits(Philox4x32(SEED).random(1000, np.float32, stream=STREAM, offset=9), expected)


def test_float64_uniforms_are_53_bits_of_two_words():
    words = reference.words(SEED, STREAM, DOMAIN_UNIFORM, 18, 2000)
    pairs = zip(words[::2].tolist(), words[1::2].tolist(), strict=True)
    expected = np.array([((high << 32 | low) >> 11) / 2**53 for low, high in pairs])
    assert_same_bits(Philox4x32(SEED).random(1000, np.float64, stream=STREAM, offset=9), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniforms_lie_in_the_half_open_interval_and_fill_it(dtype):
    u = Philox4x32(11).random(2**20, dtype)
    assert u.min() >= 0
    assert u.max() < 1
    # Each of 64 cells holds its share within a bound that a right generator breaks with probability below 1e-12: a cell
    # is binomial, and by Chernoff P(|k/n - q| >= d) <= 2 exp(-n d**2 / (3 q)).
    n, q = u.size, 1 / 64
    bound = np.sqrt(3 * q * np.log(2 * 64 / 1e-12) / n)
    assert np.all(np.abs(np.bincount((u * 64).astype(int), minlength=64) / n - q) < bound)


def test_scalars():
    rng = Philox4x32(1)
    raw, single, double = rng.random_raw(), rng.random(dtype=np.float32), rng.random()
    assert type(raw) is int
    assert type(single) is float
    assert type(double) is float
    assert raw == Philox4x32(1).random_raw(1, stream=0)[0]
    assert single == Philox4x32(1).random(1, np.float32, stream=1)[0]
    assert double == Philox4x32(1).random(1, stream=2)[0]


@each_draw
def test_shape_and_pieces_do_not_matter(draw):
    whole = draw(Philox4x32(2), 60, stream=1)
    assert_same_bits(draw(Philox4x32(2), (3, 4, 5), stream=1).ravel(), whole)
    for cut in range(61):
        pieces = [draw(Philox4x32(2), cut, stream=1), draw(Philox4x32(2), 60 - cut, stream=1, offset=cut)]
        assert_same_bits(np.concatenate(pieces), whole)


def test_domains_do_not_share_words():
    domains = {name: value for name, value in vars(fastopt.random).items() if name.startswith("DOMAIN_")}
    assert len(set(domains.values())) == len(domains) >= 7
    assert all(0 <= domain < 256 for domain in domains.values())
    drawn = [tuple(reference.words(1, 2, domain, 0, 8)) for domain in domains.values()]
    assert len(set(drawn)) == len(domains)
    assert_same_bits(Philox4x32(1).random_raw(8, stream=2), reference.words(1, 2, DOMAIN_RAW, 0, 8))


# ---- addresses -------------------------------------------------------------------------------------------------------


def test_each_call_takes_exactly_one_stream_whatever_its_size():
    rng = Philox4x32(4)
    x = np.ones((3, 4), np.float32)
    calls = [
        lambda: rng.random_raw(),
        lambda: rng.random_raw(0),
        lambda: rng.random_raw(100_000),
        lambda: rng.random(),
        lambda: rng.random((2, 0)),
        lambda: rng.random(70_000, np.float32),
        lambda: rng.random(out=np.empty(3)),
        lambda: rng.standard_normal(),
        lambda: rng.standard_normal((0, 3)),
        lambda: rng.standard_normal(70_000, np.float32),
        *(lambda p=p: fastopt.dropout(x, p, rng=rng) for p in (0, 0.5, 1)),
        lambda: fastopt.dropout(np.empty(0), rng=rng),
        lambda: fastopt.dropout(x, rng=rng, out=x),
    ]
    for taken, call in enumerate(calls):
        assert rng.state == {"format": 1, "seed": 4, "stream": taken, "spawned": 0}
        call()
    assert rng.state["stream"] == len(calls)


def test_the_stream_taken_is_the_one_that_an_explicit_address_names():
    rng = Philox4x32(4)
    raw, uniform, (dropped, mask), again = (
        rng.random_raw(9),
        rng.random(9),
        fastopt.dropout(np.ones(9), rng=rng),
        rng.random(9),
    )
    assert_same_bits(raw, rng.random_raw(9, stream=0))
    assert_same_bits(uniform, rng.random(9, stream=1))
    assert mask == (4, 2, 0.5, (9,))
    assert_same_bits(dropped, fastopt.dropout(np.ones(9), rng=(4, 2))[0])
    assert_same_bits(again, rng.random(9, stream=3))
    assert rng.state["stream"] == 4


def test_no_two_calls_share_a_counter(monkeypatch):
    # What a training program takes from one generator, and from its children: each (seed, stream, domain) once.
    taken = []

    def record(function, first):  # the arguments seed, stream, domain begin there
        def recorded(*args):
            taken.append(args[first : first + 3])
            return function(*args)

        return recorded

    for name, first in (
        *((f"fill_random_{kind}", 1) for kind in ("raw", "uniform", "normal")),
        ("dropout", 4),
        ("bias_leaky_relu_dropout", 5),
    ):
        monkeypatch.setattr(_core, name, record(getattr(_core, name), first))

    rng = Philox4x32(8)
    params = [np.ones(300, np.float32)]
    optimizers = [fastopt.Adam(params, state_dtype="8bit", rng=rng) for _ in range(2)]
    for source in (rng, *rng.spawn(3), *rng.spawn(2)):
        for _ in range(3):
            source.random_raw(5)
            source.random(5)
            source.standard_normal(5)
            h = rng.standard_normal((4, 5), np.float32)
            h, _ = fastopt.bias_leaky_relu_dropout(h, np.zeros(5, np.float32), 0.1, 0.5, rng=source)
            masks = []
            for _ in range(4):  # layers
                h, mask = fastopt.dropout(h, 0.5, rng=source)
                masks.append(mask)
            forward = taken[-4:]
            for mask in reversed(masks):
                fastopt.dropout_backward(h, mask)
            assert taken[-4:] == forward[::-1]
            del taken[-4:]
    taken += [(optimizer.state_dict()["rounding_key"], 0, DOMAIN_ROUNDING) for optimizer in optimizers]
    assert len(taken) == 6 * 3 * 9 + 5 + 2 * 2
    assert len(set(taken)) == len(taken)


def test_no_stream_is_given_twice_to_threads():
    rng = Philox4x32(6)
    x = np.ones(5, np.float32)

    def masks(_):
        return [fastopt.dropout(x, rng=rng)[1].stream for _ in range(500)]

    with ThreadPoolExecutor(4) as executor:
        streams = [stream for some in executor.map(masks, range(4)) for stream in some]
    assert sorted(streams) == list(range(2000))


WRONG_DRAWS = {
    "size": (lambda rng: rng.random_raw(-1), ValueError, "negative dimensions"),
    "size kind": (lambda rng: rng.random(2.5), TypeError, "2.5|float"),
    "dtype": (lambda rng: rng.random(2, np.int64), TypeError, "dtype: expected float32 or float64, got int64"),
    "byte order": (lambda rng: rng.random(2, ">f8"), TypeError, "dtype: expected float32 or float64, got >f8"),
    "half": (lambda rng: rng.random(2, np.float16), TypeError, "dtype: expected float32 or float64, got float16"),
    "out kind": (lambda rng: rng.random(out=[0.0]), TypeError, "out: expected an ndarray of float64 .*, got list"),
    "out dtype": (lambda rng: rng.random(out=np.empty(2, "f4")), TypeError, "out: expected .* float64 .*, got float32"),
    "out shape": (
        lambda rng: rng.random(3, out=np.empty(2)),
        ValueError,
        r"out: expected the shape of size, 3, got \(2,\)",
    ),
    "out strides": (lambda rng: rng.random(out=np.empty(6)[::2]), ValueError, "out: expected a C-contiguous"),
    "out order": (lambda rng: rng.random(out=np.empty((3, 2), order="F")), ValueError, "out: expected a C-contiguous"),
    "out read-only": (lambda rng: rng.random(out=np.broadcast_to(1.0, ())), ValueError, "out: expected .*writeable"),
    "stream kind": (lambda rng: rng.random(2, stream=1.0), TypeError, "stream: expected an int, got float"),
    "stream bool": (lambda rng: rng.random(2, stream=True), TypeError, "stream: expected an int, got bool"),
    "stream below": (lambda rng: rng.random_raw(2, stream=-1), ValueError, "stream: expected 0 <= stream < .*, got -1"),
    "stream above": (lambda rng: rng.random_raw(2, stream=2**56), ValueError, "stream: expected 0 <= stream < "),
    "offset kind": (lambda rng: rng.random(2, offset="1"), TypeError, "offset: expected an int, got str"),
    "offset below": (lambda rng: rng.random_raw(2, offset=-1), ValueError, "offset: expected 0 <= offset < .*, got -1"),
    "offset above": (lambda rng: rng.random_raw(2, offset=2**64 - 1), ValueError, "offset: expected 0 <= offset < "),
}


@pytest.mark.parametrize(("draw", "error", "message"), WRONG_DRAWS.values(), ids=WRONG_DRAWS.keys())
def test_a_wrong_draw_takes_no_stream(draw, error, message):
    rng = Philox4x32(4)
    with pytest.raises(error, match=message):
        draw(rng)
    assert rng.state == Philox4x32(4).state


@pytest.mark.parametrize("name", ["random_raw", "random", "standard_normal"])
def test_an_explicit_address_takes_no_stream(name):
    rng = Philox4x32(4)
    getattr(rng, name)(5, stream=3, offset=2)
    getattr(rng, name)(5, stream=2**56 - 1)
    assert rng.state == Philox4x32(4).state


@pytest.mark.parametrize("name", ["random_raw", "random", "standard_normal"])
def test_an_offset_reads_on_in_the_stream_that_is_taken(name):
    rng = Philox4x32(4)
    assert_same_bits(getattr(rng, name)(5, offset=2), getattr(rng, name)(7, stream=0)[2:])
    assert rng.state["stream"] == 1


def test_streams_can_run_out():
    rng = Philox4x32(4)
    rng.state = {"format": 1, "seed": 4, "stream": 2**56 - 1, "spawned": 0}
    rng.random_raw(1)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"rng: all 2\*\*56 streams of this generator are used up"):
            rng.random_raw(1)
    assert rng.state == {"format": 1, "seed": 4, "stream": 2**56, "spawned": 0}


# ---- seeds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1, np.int64(7), np.uint64(2**64 - 1)])
def test_integer_seeds(seed):
    rng = Philox4x32(seed)
    assert type(rng.seed) is int
    assert rng.seed == int(seed)
    assert repr(rng) == f"Philox4x32(seed={int(seed)}, stream=0)"


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError), ([1, 2], TypeError)],
)
def test_wrong_seeds(seed, error):
    with pytest.raises(error, match="seed: expected "):
        Philox4x32(seed)


def test_no_seed_takes_fresh_entropy():
    assert len({Philox4x32().seed for _ in range(20)}) == 20


@pytest.mark.parametrize("make", [np.random.SeedSequence, np.random.PCG64, np.random.Philox, np.random.default_rng])
def test_seeds_from_numpy(make):
    assert Philox4x32(make(3)).seed == Philox4x32(make(3)).seed
    source = make(3)
    assert len({Philox4x32(source).seed for _ in range(20)}) == 20  # each takes a new key from it


# ---- state -----------------------------------------------------------------------------------------------------------

COPIES = {
    "pickle": lambda rng: pickle.loads(pickle.dumps(rng)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "state": lambda rng: _with_state(rng.state),
}


def _with_state(state):
    rng = Philox4x32(0)
    rng.state = state
    return rng


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES.keys())
def test_copies_go_on_alike_and_apart(duplicate):
    rng = Philox4x32(SEED)
    rng.random(3)
    rng.spawn(2)
    other = duplicate(rng)
    assert type(other) is Philox4x32
    assert other.state == rng.state == {"format": 1, "seed": SEED, "stream": 1, "spawned": 2}
    assert_same_bits(other.random(4), rng.random(4))
    assert other.spawn(1)[0].seed == rng.spawn(1)[0].seed
    rng.random(1)
    assert other.state["stream"] == 2


def test_state_is_a_plain_dict_of_ints():
    state = Philox4x32(np.uint64(5)).state
    assert type(state) is dict
    assert all(type(value) is int for value in state.values())
    state["stream"] = 9  # a copy: the generator keeps its own


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({"seed": 1, "stream": 2}, ValueError, "state: expected a dict with the keys format, seed, stream, spawned"),
        (
            {"format": 2, "seed": 1, "stream": 2, "spawned": 0},
            ValueError,
            r"state\['format'\]: expected 1 <= .*, got 2",
        ),
        ([1, 2, 3], ValueError, "state: expected a dict with the keys format, seed, stream, spawned"),
        ({"format": 1, "seed": -1, "stream": 2, "spawned": 0}, ValueError, r"state\['seed'\]: expected 0 <= "),
        (
            {"format": 1, "seed": 1, "stream": 2.0, "spawned": 0},
            TypeError,
            r"state\['stream'\]: expected an int, got float",
        ),
        ({"format": 1, "seed": 1, "stream": 2, "spawned": 2**57}, ValueError, r"state\['spawned'\]: expected 0 <= "),
    ],
)
def test_wrong_states_change_nothing(state, error, message):
    rng = Philox4x32(4)
    with pytest.raises(error, match=message):
        rng.state = state
    assert rng.state == Philox4x32(4).state


def test_states_go_through_files(tmp_path):
    for seed in (3, 2**63 - 1, 2**64 - 1):
        rng = Philox4x32(seed)
        rng.random(3)
        np.savez(tmp_path / "state.npz", **rng.state)
        with np.load(tmp_path / "state.npz") as saved:
            assert _with_state(saved).state == rng.state
        assert _with_state(json.loads(json.dumps(rng.state))).state == rng.state


def test_spawned_children_have_keys_of_their_own():
    rng = Philox4x32(SEED)
    children = rng.spawn(3) + rng.spawn(0) + rng.spawn(2)
    words = [reference.words(SEED, k, DOMAIN_SPAWN, 0, 2) for k in range(5)]
    assert [child.seed for child in children] == [int(low) | int(high) << 32 for low, high in words]
    assert all(child.state == Philox4x32(child.seed).state for child in children)
    assert rng.state == {"format": 1, "seed": SEED, "stream": 0, "spawned": 5}


@pytest.mark.parametrize(("n", "error"), [(-1, ValueError), (1.0, TypeError), (None, TypeError), (2**57, ValueError)])
def test_wrong_spawns_change_nothing(n, error):
    rng = Philox4x32(4)
    with pytest.raises(error, match="n: expected "):
        rng.spawn(n)
    assert rng.state == Philox4x32(4).state


def test_nothing_is_called_while_the_lock_is_held():
    # What is called is where a signal's handler, which may draw too, or a fork in another thread comes in.
    rng, held = Philox4x32(1), []

    def event(_, kind, argument):
        if getattr(argument, "__name__", "") not in ("__enter__", "__exit__") and rng._lock.locked():
            held.append((kind, argument))

    sys.setprofile(event)
    try:
        rng.spawn(2)
        rng.random()
        state = rng.state
        rng.state = state
        with pytest.raises(ValueError, match="n: expected"):
            rng.spawn(2**56 - 1)
    finally:
        sys.setprofile(None)
    assert not held
