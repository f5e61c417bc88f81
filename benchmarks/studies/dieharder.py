"""The raw stream through Debian's dieharder: `python benchmarks/studies/dieharder.py`.

All tests of `dieharder -a` with its own parameters, each fed the words of stream 0 after those of the test before,
through a pipe (generator 200, stdin_input_raw). The lagged sums, which alone would take 5.6e10 words, come last, lag by
lag, until `--words` are used up. What dieharder prints is printed, each test after the words that it was offered;
`dieharder.txt` is that of three seeds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import fastopt

CHUNK = 2**16  # words a write; what a test leaves of the last one is skipped
COLUMNS = "        test_name   |ntup| tsamples |psamples|  p-value |Assessment"


def tests() -> Iterator[list[str]]:
    """The arguments of each test, with the ntuples that `dieharder -a` takes."""
    for number in (*range(18), 100, 101, 102, 204, 205, 206, 207, 208, 209):
        yield ["-d", str(number)]
    for number, ntuples in ((200, range(1, 13)), (201, range(2, 6)), (202, range(2, 6))):
        for ntuple in ntuples:
            yield ["-d", str(number), "-n", str(ntuple)]
    for lag in itertools.count():
        yield ["-d", "203", "-n", str(lag)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--words", type=int, default=2**33, help="words of 32 bits in all (2**33)")
    options = parser.parse_args()

    version = subprocess.run(["dieharder", "-h"], capture_output=True, text=True).stdout.splitlines()[1].strip("# ")
    print(f"# fastopt {fastopt.__version__}, Philox4x32({options.seed}).random_raw, stream 0; {version}")
    print(f"#\n{COLUMNS}", flush=True)
    fastopt.set_num_threads(1)
    rng = fastopt.Philox4x32(options.seed)
    assessments: Counter[str] = Counter()
    first = 0
    for arguments in tests():
        command = ["dieharder", "-g", "200", *arguments]
        # 504: one line for each p-value and no header, which would time the generator.
        process = subprocess.Popen([*command, "-D", "504"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        after = feed(process.stdin.fileno(), rng, first, options.words)
        printed, _ = process.communicate()
        if after == options.words:
            break  # the test may have been cut short
        print(f"# words {first:,} .. {after - 1:,}: {' '.join(command)}\n{printed}", end="", flush=True)
        assessments.update(line.split("|")[-1].strip() for line in printed.splitlines())
        first = after
    print(f"#\n# {options.words:,} words; {assessments.total()} p-values: {dict(assessments)}")


def feed(pipe: int, rng: fastopt.Philox4x32, first: int, last: int) -> int:
    """Write words first .. last - 1 until the reader goes away; return the first word that was not offered to it."""
    while first < last:
        words = memoryview(rng.random_raw(min(CHUNK, last - first), stream=0, offset=first)).cast("B")
        first += len(words) // 4
        try:
            while words:
                words = words[os.write(pipe, words) :]
        except BrokenPipeError:
            break
    return first


if __name__ == "__main__":
    sys.exit(main())
