"""State dtypes of 16 and 8 bits: what their codes hold, how they are rounded, and what that costs in memory."""

from __future__ import annotations

import numpy as np
import pytest

import fastopt
from fastopt import reference

from ..support import DTYPES, assert_same_bits, laid_out, values

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_small = pytest.mark.parametrize("state_dtype", ["bfloat16", "8bit"])
BLOCK = 256  # elements that share an exponent (FASTOPT_STATE_BLOCK)

# Betas that float32 rounds to 1 while 1 - beta is not 0: with gradients of zero and lr 0 a step decodes each state,
# keeps its value and encodes it again.
STILL = {"lr": 0.0, "betas": (1 - 1e-12, 1 - 1e-12)}


def finite(seed, shape, dtype=np.float32):
    x = values(seed, shape, dtype)
    return np.where(np.abs(x) < 2**10, x, dtype(0.75))


def decoded(optimizer, kind, dtype=np.float32):
    """The values of a state of the first parameter, as the reference reads its codes."""
    state = optimizer.state_dict()
    key = f"{kind}/0"
    if state.get("state_dtype") is None:
        return state[key]
    like = np.empty(state[key].shape, dtype)
    plain = reference._State(like, state["state_dtype"], signed=kind in ("exp_avg", "momentum_buffer"))
    plain.array = state[key]
    plain.exponents = state.get(f"{kind}_exponent/0")
    return plain.load()


def assert_same_states(optimizer, other):
    assert optimizer._states.keys() == other._states.keys()
    for kind, arrays in optimizer._states.items():
        for array, wanted in zip(arrays, other._states[kind], strict=True):
            assert_same_bits(array, wanted, kind)


# ---- codes -----------------------------------------------------------------------------------------------------------


@each_small
@each_dtype
@pytest.mark.parametrize("maximize", [False, True])
def test_zero_stays_exactly_zero(state_dtype, dtype, maximize):
    # In the same block as elements that move, and under a gradient of -0.0 as well.
    live = np.arange(1000) % 3 == 0
    for make in (
        lambda w: fastopt.Adam([w], amsgrad=True, maximize=maximize, state_dtype=state_dtype, rng=1),
        lambda w: fastopt.SGD([w], momentum=0.9, maximize=maximize, state_dtype=state_dtype, rng=1),
        lambda w: fastopt.RMSprop([w], momentum=0.9, maximize=maximize, state_dtype=state_dtype, rng=1),
    ):
        param = finite(1, 1000, dtype)
        before = param.copy()
        optimizer = make(param)
        for step in range(20):
            grad = np.where(live, finite(step, 1000, dtype), dtype(-0.0 if step % 2 else 0.0))
            optimizer.step([grad])
        assert np.array_equal(param[~live], before[~live])  # but for the sign of a zero
        assert np.count_nonzero(param != before) > 300
        for kind, (state,) in optimizer._states.items():
            if not kind.endswith("_exponent"):
                assert not state[~live].any(), kind
                assert state[live].any(), kind


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_code_of_16_bits_comes_back(dtype):
    codes = np.arange(2**16).astype(np.uint16)
    magnitude = codes & 0x7FFF
    for kind, sign in (("exp_avg", 0xFFFF), ("exp_avg_sq", 0x7FFF)):
        optimizer = fastopt.Adam([np.zeros(2**16, dtype)], state_dtype="bfloat16", rng=1, **STILL)
        optimizer.load_state_dict(optimizer.state_dict() | {f"{kind}/0": codes & sign})
        optimizer.step([np.zeros(2**16, dtype)])
        after = optimizer.state_dict()[f"{kind}/0"]
        # Normal numbers and zero; infinity less infinity is a NaN in exp_avg, and every NaN has one code.
        same = (magnitude >= 0x80) & (magnitude < 0x7F80) | (codes == 0)
        own = codes & sign
        if kind == "exp_avg_sq":  # is twice the smallest normal number at least
            own = np.where((own >= 0x80) & (own < 0x100), np.uint16(0x100), own)
        assert_same_bits(after[same], own[same], kind)
        assert np.all(after[magnitude > 0x7F80] == 0x7FC0), kind


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [32, 33, 100, 127, 200, 254])
def test_every_code_of_8_bits_comes_back(dtype, exponent):
    # A block that holds every code, and one that is cut off: of the size of the largest code.
    codes = np.concatenate([np.arange(256), np.full(7, 0x7F), [0]]).astype(np.uint8)
    for kind in ("exp_avg", "exp_avg_sq"):
        optimizer = fastopt.Adam([np.zeros(len(codes), dtype)], state_dtype="8bit", rng=1, **STILL)
        own = codes.copy()
        if kind == "exp_avg":
            own[128] = 0  # a negative zero; the others are numbers of either sign
        else:
            own[-2] = 0xFF
        state = {f"{kind}/0": own, f"{kind}_exponent/0": np.full(2, exponent, np.uint8)}
        optimizer.load_state_dict(optimizer.state_dict() | state)
        for _ in range(3):
            optimizer.step([np.zeros(len(codes), dtype)])
        if kind == "exp_avg_sq" and exponent == 32:  # is twice the smallest normal number at least
            own[(own > 0) & (own < 8)] = 8
        after = optimizer.state_dict()
        assert_same_bits(after[f"{kind}_exponent/0"][:1], state[f"{kind}_exponent/0"][:1], kind)
        assert_same_bits(after[f"{kind}/0"][:256], own[:256], kind)
        before = reference._State(np.empty(len(codes), dtype), "8bit", signed=kind == "exp_avg")
        before.array, before.exponents = own, state[f"{kind}_exponent/0"]
        assert_same_bits(decoded(optimizer, kind, dtype), before.load(), kind)


@each_small
def test_codes_hold_what_they_promise(state_dtype):
    # SGD's first step keeps the gradient. bfloat16 has 8 significant bits, the codes of 8 bits have 4 within 2**-14 of
    # the largest of their block: rounded up or down, a relative error below one unit of those. (Below that they are
    # evenly spaced.)
    gradient = np.ldexp(1 + np.arange(BLOCK) / BLOCK, -(np.arange(BLOCK) % 14)).astype(np.float32)
    gradient *= np.where(np.arange(BLOCK) % 2, 1, -1)
    optimizer = fastopt.SGD([np.zeros(BLOCK, np.float32)], momentum=0.9, state_dtype=state_dtype, rng=1)
    optimizer.step([gradient])
    error = np.abs(decoded(optimizer, "momentum_buffer") / gradient - 1)
    assert 0 < error.max() < (2.0**-7 if state_dtype == "bfloat16" else 2.0**-3)
    # Squares have a range of 2**-31 below the largest, and what is smaller still does not become zero.
    gradient = np.ldexp(np.float32(1), -(np.arange(BLOCK) % 16)).astype(np.float32)
    gradient[-1] = 2.0**-60
    optimizer = fastopt.Adam([np.zeros(BLOCK, np.float32)], betas=(0.0, 0.0), state_dtype=state_dtype, rng=1)
    optimizer.step([gradient])
    assert_same_bits(decoded(optimizer, "exp_avg_sq")[:-1], np.square(gradient[:-1]))  # powers of two are exact
    assert decoded(optimizer, "exp_avg_sq")[-1] > 0


# ---- rounding by chance ----------------------------------------------------------------------------------------------


@each_small
@pytest.mark.parametrize(("beta2", "steps"), [(0.99, 300), (0.999, 3000)])
def test_decay_is_not_lost(state_dtype, beta2, steps):
    # Always to the nearest, nothing would ever decay: a thousandth is less than half a unit in every code.
    codes = np.arange(0x80, 0x7F80, dtype=np.uint32)  # every positive normal number of bfloat16
    ahead = ((codes << 16).view(np.float32) * np.float32(0.999)).view(np.uint32)
    assert np.array_equal((ahead + 0x8000) >> 16, codes)

    size = 64 * BLOCK
    optimizer = fastopt.Adam([np.zeros(size, np.float32)], betas=(0.9, beta2), state_dtype=state_dtype, rng=1)
    optimizer.step([(1 + np.arange(size) % 97 / 97).astype(np.float32)])
    start = decoded(optimizer, "exp_avg_sq").astype(np.float64).mean()
    idle = [np.zeros(size, np.float32)]
    for _ in range(steps):
        optimizer.step(idle)
    after = decoded(optimizer, "exp_avg_sq").astype(np.float64)
    # What is rounded depends on how it was rounded before, so this asks for chances that are new at each step, not only
    # right on average. A unit of 8 bits is about a tenth of a number: it goes down some 30 times, give or take 6, and
    # the mean of 16,384 is right to about 1 %.
    np.testing.assert_allclose(after.mean(), start * beta2**steps, rtol=0.05)
    assert len(np.unique(after)) > 10  # by chance, not in step


SHARES = [1 / 16, 0.25, 0.5, 0.8125]


def _kept(state_dtype, share, seed, blocks):
    """The share of elements that were rounded up, of each block."""
    unit = np.float32(2.0**-7 if state_dtype == "bfloat16" else 2.0**-3)
    low = np.float32(1.25)
    gradient = np.full(blocks * BLOCK, low + np.float32(share) * unit, np.float32)
    optimizer = fastopt.SGD([np.zeros_like(gradient)], momentum=0.9, state_dtype=state_dtype, rng=seed)
    optimizer.step([gradient])
    kept = decoded(optimizer, "momentum_buffer")
    assert np.isin(kept, [low, low + unit]).all()
    return (kept > low).reshape(blocks, BLOCK).mean(axis=1)


@each_small
@pytest.mark.parametrize("share", SHARES)
def test_rounding_is_unbiased(state_dtype, share):
    # A block's chances begin at 16 random bits of its own, so blocks are independent and each one's share of roundings
    # up has the expectation `share` and at most the variance of one element, share * (1 - share). A sum of so many
    # is as good as normal: it leaves 5 standard deviations once in two million times.
    blocks = 4000
    mean = _kept(state_dtype, share, 1, blocks).mean()
    assert abs(mean - share) < 5 * np.sqrt(share * (1 - share) / blocks)
    # Spread over a block, the chances do better than independent ones, whose mean over a block of 256 would deviate by
    # sqrt(share * (1 - share) / 256).
    deviation = _kept(state_dtype, share, 1, blocks).std()
    assert deviation < 0.5 * np.sqrt(share * (1 - share) / BLOCK)


@each_small
def test_rounding_is_unbiased_over_seeds(state_dtype):
    # One element under many seeds is a Bernoulli trial each: the same bound, on the first and the last of a block.
    seeds, share = 2000, 0.25
    unit = np.float32(2.0**-7 if state_dtype == "bfloat16" else 2.0**-3)
    ups = np.zeros(2)
    for seed in range(seeds):
        optimizer = fastopt.SGD([np.zeros(BLOCK, np.float32)], momentum=0.9, state_dtype=state_dtype, rng=seed)
        optimizer.step([np.full(BLOCK, np.float32(1) + np.float32(share) * unit)])
        (codes,) = optimizer._states["momentum_buffer"]
        ups += codes[[0, -1]] != (0x3F80 if state_dtype == "bfloat16" else 0x78)
    assert np.all(np.abs(ups / seeds - share) < 5 * np.sqrt(share * (1 - share) / seeds))


@each_small
def test_rounding_is_unbiased_over_steps(state_dtype):
    # Each element under 400 steps: 5 standard deviations of as many independent trials.
    share, steps = 0.25, 400
    unit = np.float32(2.0**-7 if state_dtype == "bfloat16" else 2.0**-3)
    grads = [np.full(BLOCK, np.float32(1) + np.float32(share) * unit)]
    optimizer = fastopt.Adam([np.zeros(BLOCK, np.float32)], betas=(0.0, 0.9), state_dtype=state_dtype, rng=1)
    ups = np.zeros(BLOCK)
    for _ in range(steps):
        optimizer.step(grads)
        ups += decoded(optimizer, "exp_avg") > 1
    assert np.all(np.abs(ups / steps - share) < 5 * np.sqrt(share * (1 - share) / steps))


# ---- seeds -----------------------------------------------------------------------------------------------------------


def trained(rng, state_dtype, make=fastopt.Adam, layout="C"):
    params = [laid_out(finite(1, (20, 30)), layout), finite(2, 700)]
    optimizer = make(params, state_dtype=state_dtype, rng=rng)
    for seed in range(3, 6):
        optimizer.step([finite(seed, (20, 30)), finite(seed, 700)])
    return optimizer, [np.array(param, order="C") for param in params]


@each_small
def test_a_seed_is_the_bits_and_another_seed_others(state_dtype):
    one, params = trained(7, state_dtype)
    same, same_params = trained(7, state_dtype)
    other, other_params = trained(8, state_dtype)
    assert_same_states(one, same)
    for param, wanted, different in zip(params, same_params, other_params, strict=True):
        assert_same_bits(param, wanted)
        assert np.any(param != different)
    assert one._rounding_key == same._rounding_key != other._rounding_key
    for kind, arrays in one._states.items():
        if not kind.endswith("_exponent"):
            assert np.any(arrays[0] != other._states[kind][0]), kind


@each_small
def test_parameters_are_rounded_apart(state_dtype):
    # Two parameters alike, and two states alike, have chances of their own.
    params = [np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.float32)]
    optimizer = fastopt.Adam(params, betas=(0.0, 0.0), state_dtype=state_dtype, rng=1)
    optimizer.step([np.full(BLOCK, np.float32(1.03)), np.full(BLOCK, np.float32(1.03))])
    first, second = optimizer._states["exp_avg"]
    assert np.any(first != second)


@each_small
@pytest.mark.parametrize("layout", ["Fortran", "reversed", "every other"])
def test_addresses_count_in_c_order(state_dtype, layout):
    plain, params = trained(3, state_dtype)
    other, other_params = trained(3, state_dtype, layout=layout)
    assert_same_states(plain, other)
    for param, wanted in zip(other_params, params, strict=True):
        assert_same_bits(param, wanted)


@each_small
def test_kinds_of_sources(state_dtype):
    def key(rng):
        return fastopt.SGD([np.ones(3)], momentum=0.5, state_dtype=state_dtype, rng=rng)._rounding_key

    generator = fastopt.Philox4x32(5)
    first = key(generator)
    assert generator.state == {"format": 1, "seed": 5, "stream": 1, "spawned": 0}  # exactly one stream
    assert key(generator) != first
    assert generator.state["stream"] == 2
    # An int is the seed of a generator's first stream, a pair the address.
    assert key(5) == key(np.int64(5)) == key((5, 0)) == first
    assert key((5, 1)) != first
    assert key(0) != 0  # derived, not the seed itself
    assert key(None) != key(None)
    numpy_generator = np.random.default_rng(1)
    assert key(numpy_generator) != key(numpy_generator)
    assert key(np.random.default_rng(1)) == key(np.random.default_rng(1)) == key(np.random.PCG64(1))


def test_states_of_the_parameters_dtype_take_no_stream():
    generator = fastopt.Philox4x32(5)
    optimizer = fastopt.Adam([np.ones(3)], rng=generator)
    optimizer.step([np.ones(3)])
    assert generator.state["stream"] == 0


WRONG = {
    "params": lambda rng: fastopt.Adam([np.ones(3), 1.0], state_dtype="8bit", rng=rng),
    "overlap": lambda rng: (lambda w: fastopt.Adam([w, w], state_dtype="8bit", rng=rng))(np.ones(3)),
    "option": lambda rng: fastopt.SGD([np.ones(3)], ema_decay=2.0, state_dtype="8bit", rng=rng),
    "state_dtype": lambda rng: fastopt.SGD([np.ones(3)], state_dtype="4bit", rng=rng),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG.keys())
def test_an_error_takes_no_stream(make):
    generator = fastopt.Philox4x32(5)
    with pytest.raises((TypeError, ValueError)):
        make(generator)
    assert generator.state["stream"] == 0


@pytest.mark.parametrize("rng", ["5", 1.0, -1, (2**64, 0), (1,), np.ones(2)], ids=repr)
def test_wrong_sources(rng):
    with pytest.raises((TypeError, ValueError), match=r"(rng|seed).*: expected "):
        fastopt.Adam([np.ones(3)], state_dtype="8bit", rng=rng)


@pytest.mark.parametrize("state_dtype", ["float16", "bf16", "", "8BIT", 8, np.float16, np.uint8, True, [1]], ids=repr)
@pytest.mark.parametrize("make", [fastopt.Adam, fastopt.AdamW, fastopt.RMSprop, fastopt.SGD])
def test_wrong_state_dtypes(make, state_dtype):
    with pytest.raises(ValueError, match=r'^state_dtype: expected None, "bfloat16" or "8bit", got '):
        make([np.ones(3)], state_dtype=state_dtype)


# ---- memory ----------------------------------------------------------------------------------------------------------


@each_dtype
def test_memory(dtype):
    size = 100_003  # whole blocks but for the last
    for options, limit in (
        ({"state_dtype": "8bit"}, 2.01),
        ({"state_dtype": "bfloat16"}, 4.0),
        ({"state_dtype": "8bit", "amsgrad": True}, 3.02),
        ({}, 2.0 * np.dtype(dtype).itemsize),
    ):
        optimizer = fastopt.Adam({"w": np.ones((size, 1), dtype), "b": np.ones(1000, dtype)}, **options)
        used = sum(array.nbytes for arrays in optimizer._states.values() for array in arrays)
        assert used / (size + 1000) <= limit, options


# ---- what is not finite, what is idle --------------------------------------------------------------------------------


@each_small
@each_dtype
@pytest.mark.parametrize("name", ["Adam", "RMSprop", "SGD"])
def test_a_nan_does_not_reach_its_neighbours(state_dtype, dtype, name):
    options = {"state_dtype": state_dtype, "rng": 1} | ({"amsgrad": True} if name == "Adam" else {"momentum": 0.9})
    place = BLOCK + 17
    param, twin_param = finite(1, 600, dtype), finite(1, 600, dtype)
    optimizer, twin = getattr(fastopt, name)([param], **options), getattr(fastopt, name)([twin_param], **options)
    others = np.arange(600) != place
    for step in range(4):
        grad = finite(step + 2, 600, dtype)
        grad[place] = 0
        twin.step([grad])
        if step == 1:
            grad[place] = np.nan
        optimizer.step([grad])
    assert np.isnan(param[place])
    assert_same_bits(param[others], twin_param[others])
    for kind, (state,) in optimizer._states.items():
        if kind.endswith("_exponent"):
            assert_same_bits(state, twin._states[kind][0], kind)
        else:
            assert_same_bits(state[others], twin._states[kind][0][others], kind)


@each_small
@each_dtype
def test_an_infinity_leaves_its_neighbours_finite(state_dtype, dtype):
    # It takes the exponent of its block, so that what its neighbours remember is lost, but they are not made NaN.
    param = finite(1, 600, dtype)
    optimizer = fastopt.Adam([param], state_dtype=state_dtype, rng=1)
    for step in range(4):
        grad = finite(step + 2, 600, dtype)
        if step == 1:
            grad[BLOCK + 17] = -np.inf
        optimizer.step([grad])
    assert np.flatnonzero(~np.isfinite(param)).tolist() == [BLOCK + 17]
    # Other blocks do not notice.
    plain = finite(1, 600, dtype)
    twin = fastopt.Adam([plain], state_dtype=state_dtype, rng=1)
    for step in range(4):
        twin.step([finite(step + 2, 600, dtype)])
    elsewhere = np.arange(600) // BLOCK != 1
    assert_same_bits(param[elsewhere], plain[elsewhere])


def state_bits(optimizer, kind, dtype):
    """(the values of a state, the smallest normal number of the format that they are kept in)"""
    small = optimizer.state_dict().get("state_dtype") is not None
    return decoded(optimizer, kind, dtype), np.finfo(np.float32 if small else dtype).tiny


@pytest.mark.parametrize("state_dtype", [None, "bfloat16", "8bit"])
@each_dtype
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {"betas": (0.9, 0.95), "amsgrad": True}),
        ("Adam", {"betas": (0.957, 0.5)}),
        ("SGD", {"momentum": 0.9}),
        ("SGD", {"momentum": 0.957}),
        ("RMSprop", {"momentum": 0.957, "alpha": 0.957}),
    ],
    ids=str,
)
def test_idle_states_are_zeros_or_normal_numbers(state_dtype, dtype, name, options):
    # 0.957**2000 is just below the smallest normal number of float32: the states pass the subnormal range slowly.
    param = finite(1, 700, dtype)
    optimizer = getattr(fastopt, name)([param], state_dtype=state_dtype, rng=1, **options)
    kinds = [kind for kind in optimizer._states if not kind.endswith("_exponent")]
    grad, idle = finite(2, 700, dtype), np.zeros(700, dtype)
    optimizer.step([np.where(grad == 0, dtype(0.5), grad)])
    for step in range(1, 2001):
        optimizer.step([idle])
        if step % 40 == 0:
            for kind in kinds:
                state, tiny = state_bits(optimizer, kind, dtype)
                assert np.all((state == 0) | (np.abs(state) >= tiny)), f"{kind} after {step} steps"
    assert np.isfinite(param).all()


@each_small
@each_dtype
def test_idle_states_have_the_bits_of_the_reference(state_dtype, dtype):
    param, expected = finite(1, 300, dtype), finite(1, 300, dtype)
    options = {"betas": (0.5, 0.25), "state_dtype": state_dtype, "rng": 1}
    optimizer, twin = fastopt.Adam([param], **options), reference.Adam([expected], **options)
    for step in range(200):
        grad = finite(2, 300, dtype) if step == 0 else np.zeros(300, dtype)
        optimizer.step([grad])
        with np.errstate(all="ignore"):
            twin.step([grad])
    assert_same_bits(param, expected)
    for key, value in twin.state_dict().items():
        if key != "state_dtype":
            assert_same_bits(optimizer.state_dict()[key], value, key)


@each_small
@each_dtype
@pytest.mark.parametrize("name", ["RMSprop", "SGD"])
def test_momentum_0_leaves_its_state_alone(name, state_dtype, dtype):
    # From the start, and switched off: codes and exponents stay as they are.
    for momentum in (0.0, 0.9):
        param, expected = finite(1, 300, dtype), finite(1, 300, dtype)
        options = {"momentum": momentum, "state_dtype": state_dtype, "rng": 1}
        optimizer, twin = getattr(fastopt, name)([param], **options), getattr(reference, name)([expected], **options)
        for step in range(4):
            if step == 2:
                optimizer.param_groups[0]["momentum"] = twin.param_groups[0]["momentum"] = 0.0
                before = optimizer.state_dict()
            optimizer.step([finite(step, 300, dtype)])
            twin.step([finite(step, 300, dtype)])
        assert_same_bits(param, expected)
        after = optimizer.state_dict()
        for key in before:
            if key.startswith("momentum_buffer"):
                assert_same_bits(after[key], before[key], key)
                assert_same_bits(after[key], twin.state_dict()[key], key)
