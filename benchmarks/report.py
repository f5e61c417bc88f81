"""Turn pytest-benchmark's JSON into a table and a plot.

pytest benchmarks --benchmark-json benchmarks/results.json
python benchmarks/report.py benchmarks/results.json --plot benchmarks/results.png > table.md
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from harness import size_name

COMMAND = "pytest benchmarks --benchmark-json benchmarks/results.json"
COLUMNS = {"reference": "reference", "numpy": "NumPy", "torch": "torch", "fastopt": "fastopt"}
COLOURS = {"reference": "#9a9a9a", "numpy": "#3b76c4", "torch": "#e07b39", "fastopt": "#1a9850"}


class Key(NamedTuple):
    op: str
    dtype: str
    size: int


class Row(NamedTuple):
    threads: int
    ns: dict[str, float]  # per element, by column; "stream" is the memory limit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(".")[0])
    parser.add_argument("results", type=Path, help="JSON file of pytest --benchmark-json")
    parser.add_argument("--threads", type=int, default=2, help="figures of up to so many threads (2)")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the float32 figures")
    options = parser.parse_args()
    report = json.loads(options.results.read_text())
    rows = read(report["benchmarks"], options.threads)
    print(heading(report), table(rows), sep="\n\n")
    if options.plot:
        plot(rows, options.threads, heading(report).partition("; `")[0], options.plot)


def read(benchmarks: list[dict[str, Any]], threads: int) -> dict[Key, Row]:
    """Return, for each op, dtype and size, the medians with the most threads measured; one-threaded contenders as are.

    A column takes the fastest of its contenders: of torch's implementations, of two ways to write it in NumPy, of
    ordinary and non-temporal stores.
    """
    medians: dict[Key, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        if info["threads"] <= threads:
            of = medians[Key(info["op"], info["dtype"], info["size"])][info["threads"]]
            column = info["contender"].partition("_")[0]
            of[column] = min(1e9 * benchmark["stats"]["median"] / info["size"], of.get(column, math.inf))
    most = {key: max(by_threads) for key, by_threads in medians.items()}
    ops = list(dict.fromkeys(key.op for key in medians))
    in_order = sorted(medians, key=lambda key: (ops.index(key.op), key.dtype, key.size))
    return {key: Row(most[key], medians[key][1] | medians[key][most[key]]) for key in in_order}


def heading(report: dict[str, Any]) -> str:
    machine = report["machine_info"]
    host = machine["fastopt"]
    isa, cpus = host["instruction set"].split()[0], host["threads"].partition("of ")[2].strip(")")
    versions = ", ".join(f"{name} {host[name]}" for name in ("fastopt", "Python", "NumPy"))
    return f"{host['CPU']}, {cpus}, {isa}; {versions}, torch {machine['torch']}; {report['datetime'][:10]}; `{COMMAND}`"


def table(rows: dict[Key, Row]) -> str:
    titles = ["op", "dtype", "elements", "threads", *COLUMNS.values()]
    titles += [f"x {name}" for column, name in COLUMNS.items() if column != "fastopt"] + ["of the memory limit"]
    lines = [titles, ["---"] * 3 + ["---:"] * (len(titles) - 3)]
    for key, (threads, ns) in rows.items():
        ours = ns["fastopt"]
        times = [short(ns[column]) if column in ns else "" for column in COLUMNS]
        ratios = [short(ns[column] / ours) if column in ns else "" for column in COLUMNS if column != "fastopt"]
        limit = f"{ns['stream'] / ours:.0%}" if "stream" in ns else ""
        lines.append([key.op, key.dtype, size_name(key.size), str(threads), *times, *ratios, limit])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def plot(rows: dict[Key, Row], threads: int, subtitle: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for key, row in rows.items():
        if key.dtype in ("float32", "uint32"):
            panels[key.op][key.size] = row.ns
    panels = {op: dict(sorted(points.items())) for op, points in panels.items() if len(points) > 2}

    wide = 4
    high = math.ceil((len(panels) + 1) / wide)
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold"}
    with plt.rc_context(style):
        figure, grid = plt.subplots(high, wide, figsize=(3.1 * wide, 2.7 * high), layout="constrained", squeeze=False)
        cells = list(grid.flat)
        for axes, (op, points) in zip(cells, panels.items(), strict=False):
            draw(axes, op, points)
        for axes in cells[len(panels) :]:
            axes.axis("off")
        handles, labels = cells[0].get_legend_handles_labels()
        cells[len(panels)].legend(handles, labels, loc="center", frameon=False, fontsize=11)
        for row in grid:
            row[0].set_ylabel("ns per element")
        for axes in cells[max(0, len(panels) - wide) : len(panels)]:
            axes.set_xlabel("elements")
        title = f"Time per element, float32, up to {threads} threads (reference and NumPy: 1); lower is better"
        figure.suptitle(f"{title}\n{subtitle}", fontsize=10)
        figure.savefig(path, dpi=130)


def draw(axes: Any, op: str, points: dict[int, dict[str, float]]) -> None:
    from matplotlib.ticker import LogLocator

    def line(column: str) -> tuple[list[int], list[float]]:
        sizes = [size for size, ns in points.items() if column in ns]
        return sizes, [points[size][column] for size in sizes]

    axes.set(xscale="log", yscale="log", title=op)
    for column, label in COLUMNS.items():
        width = {"lw": 2.4, "ms": 5} if column == "fastopt" else {"lw": 1.5, "ms": 3.5}
        axes.plot(*line(column), "o-", color=COLOURS[column], label=label, **width)
    sizes, limit = line("stream")
    axes.fill_between(sizes, limit, 1e-9, color="#00000014", lw=0)
    axes.plot(sizes, limit, "--", color="#444444", lw=1.2, label="memory limit")
    values = [value for ns in points.values() for value in ns.values()]
    axes.set_ylim(min(values) / 1.6, max(values) * 1.6)
    axes.set_xticks(list(points), [f"$2^{{{size.bit_length() - 1}}}$" for size in points], minor=False)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.grid(True, axis="y", color="#00000018", lw=0.6)


if __name__ == "__main__":
    main()
