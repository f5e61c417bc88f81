"""Print how many bytes of code each family has for each instruction set: ``python kernels/sizes.py [build folder]``."""

import re
import subprocess
import sys
from pathlib import Path

NAME = re.compile(r"isa_(\w+?)_(baseline|x86_64_v\d)\.dir")

if __name__ == "__main__":
    folders = [Path(sys.argv[1])] if len(sys.argv) > 1 else sorted(Path("build").glob("*/CMakeFiles"))
    objects = {found.groups(): path for f in folders for path in f.rglob("*.o") if (found := NAME.search(str(path)))}
    if not objects:
        sys.exit(f"build folder: expected one with the objects of a build, got {[str(f) for f in folders]}")
    sizes = {}
    for pair, path in objects.items():
        table = subprocess.run(["size", path], capture_output=True, text=True, check=True).stdout
        sizes[pair] = int(table.splitlines()[1].split()[0])
    isas = sorted({isa for _, isa in sizes})
    print(f"{'':>12}" + "".join(f"{isa:>12}" for isa in isas))
    families = sorted({family for family, _ in sizes}, key=lambda family: -sizes[family, isas[0]])
    for family in families:
        print(f"{family:>12}" + "".join(f"{sizes[family, isa]:>12,}" for isa in isas))
    print(f"{'all':>12}" + "".join(f"{sum(sizes[family, isa] for family in families):>12,}" for isa in isas))
