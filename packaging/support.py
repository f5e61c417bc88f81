"""What packaging/support.toml says, for people and for workflows.

python packaging/support.py            puts the table into README.md
python packaging/support.py --matrix   prints the matrices of .github/workflows, as lines for $GITHUB_OUTPUT
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- made by packaging/support.py -->\n", "<!-- end -->\n"
KNOWN = {
    "ci": "in the workflows, which have not run yet",
    "hand": "tested by hand",
    "expected": "expected to work",
    "refused": "refused, with a message",
}


def support() -> dict[str, Any]:
    return tomllib.loads((ROOT / "packaging/support.toml").read_text())


def table(known: dict[str, Any]) -> str:
    lines = ["| platform | compiler | wheel | |", "| --- | --- | --- | --- |"]
    for platform in known["platform"]:
        how = KNOWN[platform["known"]] + (f"; {platform['note']}" if "note" in platform else "")
        lines.append(f"| {platform['name']} | {platform['compiler']} | {platform['wheel']} | {how} |")
    python, numpy, numba = known["python"], known["numpy"], known["numba"]
    tested, expected = ", ".join(python["ci"]), ", ".join(python["expected"])
    lines += [
        "",
        f"Python {tested} ({python['note']}; {expected} expected; older ones are refused by pip);",
        f"NumPy {numpy['oldest']} to {numpy['newest']} ({numpy['note']});",
        f"Numba {numba['oldest']} to {numba['newest']} ({numba['note']}).",
        "What was run where: [docs/machines.md](docs/machines.md).",
    ]
    return "\n".join(lines) + "\n"


def readme(text: str, known: dict[str, Any]) -> str:
    """The README with the table in its place."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"README.md: expected the lines {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{table(known)}\n{end}{after}"


def matrices(known: dict[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Each Python on Linux x86_64, the oldest and the newest on every other runner; the runners that make wheels."""
    pythons = known["python"]["ci"]
    platforms = [platform for platform in known["platform"] if "runner" in platform]
    runners = [platform["runner"] for platform in platforms]
    test = [
        {"runner": platform["runner"], "python": python}
        for platform in platforms
        for python in (
            pythons if platform is platforms[0] else (pythons[0], platform.get("newest_python", pythons[-1]))
        )
    ]
    old = [{"python": pythons[0], "numpy": known["numpy"]["oldest"], "numba": known["numba"]["oldest"]}]
    return {"test": test, "oldest": old, "wheels": [{"runner": runner} for runner in runners]}


def main() -> None:
    known = support()
    if sys.argv[1:] == ["--matrix"]:
        for name, entries in matrices(known).items():
            print(f"{name}={json.dumps({'include': entries})}")
    else:
        README.write_text(readme(README.read_text(), known))


if __name__ == "__main__":
    main()
