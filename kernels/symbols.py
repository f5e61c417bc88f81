"""Check that each object of an instruction set has one symbol for others, its table: ``symbols.py NM OBJECT ...``.

The linker keeps one copy of a weak symbol for all objects: code for AVX-512 would run on a CPU without it.
"""

import re
import subprocess
import sys

# nm's letters: small ones are local but for u, v and w, U is undefined. macOS puts a "_" before names; names with a "."
# are GCC's own on Windows, for a pointer to what is elsewhere.
SYMBOL = re.compile(r"^[\da-fA-F]* +([A-TV-Zuvw]) _?([^.\s]\S*)$", re.MULTILINE)

if __name__ == "__main__":
    nm, *objects = sys.argv[1:]
    for path in objects:
        listed = subprocess.run([nm, path], capture_output=True, text=True, check=True).stdout
        found = SYMBOL.findall(listed)
        if len(found) != 1 or found[0][0] in "uvVwW" or not found[0][1].startswith("fastopt_"):
            sys.exit(f"{path}: expected no symbol but a table of kernels, got {[name for _, name in found]}")
