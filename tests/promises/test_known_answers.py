"""Random123's known answers for Philox4x32-10 hold for the definition and for the kernels.

A kernel reaches a counter by address: words 0 and 1 are the block, offset // 4; word 2 the low half of the stream; word
3 the rest of the stream and the domain. The offset counts words in 64 bits, so blocks from 2**62 on are out of its
reach: there the definition alone has the known answer, and kernel and definition are compared below that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastopt import _core, reference

from ..support import assert_same_bits

ROWS = [
    [int(word, 16) for word in line.split(",")]
    for line in (Path(__file__).parent / "philox4x32_10.csv").read_text().splitlines()
    if not line.startswith("#")
]


def kernel_words(count, counter, key):
    """Words from the counter (c0, c1, c2, c3) on, by the kernel."""
    out = np.empty(count, np.uint32)
    offset = 4 * (counter[0] | counter[1] << 32)
    stream = counter[2] | (counter[3] & 0xFFFFFF) << 32
    _core.fill_random_raw(out, key[0] | key[1] << 32, stream, counter[3] >> 24, offset)
    return out


def reference_words(count, counter, key):
    stream = counter[2] | (counter[3] & 0xFFFFFF) << 32
    first = 4 * (counter[0] | counter[1] << 32)
    return reference.words(key[0] | key[1] << 32, stream, counter[3] >> 24, first, count)


@pytest.mark.parametrize("row", ROWS)
def test_definition(row):
    counter, key, answer = (np.array(part, np.uint32) for part in (row[:4], row[4:6], row[6:]))
    assert_same_bits(reference.philox4x32(counter, key), answer)


def test_definition_of_many_counters_at_once():
    counters = np.array([row[:4] for row in ROWS], np.uint32)
    for row in ROWS:
        words = reference.philox4x32(counters, np.array(row[4:6], np.uint32))
        assert_same_bits(words[ROWS.index(row)], np.array(row[6:], np.uint32))


def test_kernel():
    counter, key, answer = ROWS[0][:4], ROWS[0][4:6], np.array(ROWS[0][6:], np.uint32)
    assert counter == [0, 0, 0, 0]
    assert_same_bits(kernel_words(4, counter, key), answer)
    assert_same_bits(kernel_words(1000, counter, key)[:4], answer)  # long enough for the vector code


@pytest.mark.parametrize("row", ROWS[1:])
def test_kernel_with_the_key_and_stream_of_a_known_answer(row):
    counter = [row[0], row[1] & 0x3FFFFFFF, row[2], row[3]]
    counter[0] -= counter[0] == 0xFFFFFFFF and counter[1] == 0x3FFFFFFF  # block 2**62 - 1 is the last: leave room
    for count in (1, 3, 4):
        assert_same_bits(kernel_words(count, counter, row[4:6]), reference_words(count, counter, row[4:6]))
    below = [counter[0] - 300, *counter[1:]]
    assert_same_bits(kernel_words(1200, below, row[4:6]), reference_words(1200, below, row[4:6]))


@pytest.mark.parametrize("before", range(1, 36))
def test_kernel_carries_into_the_second_counter_word(before):
    # From every place in a register of blocks; the stream word above must not take the carry.
    counter, key = [2**32 - before, 6, 0xFFFFFFFF, 0xFFFFFFFF], [0x12345678, 0xFFFFFFFF]
    words = kernel_words(4 * 72, counter, key)
    assert_same_bits(words, reference_words(4 * 72, counter, key))
    assert_same_bits(words[4 * before :], kernel_words(4 * (72 - before), [0, 7, *counter[2:]], key))
