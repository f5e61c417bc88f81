"""Translate the door into C, in the source tree: ``door.py FOLDER_OF_DECLARATIONS OUT [OPTION OF CYTHON ...]``.

Cython keeps the paths of all it has read, for tracebacks. Those outside the source tree depend on where it was built
and with which Python: of them the names are kept, so that the same sources make the same module.
"""

import re
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    folder, out, *options = sys.argv[1:]
    command = [sys.executable, "-m", "cython", "-3", "--fast-fail", "--module-name", "fastopt._core", *options]
    done = subprocess.run([*command, "-I", "kernels", "-I", folder, "-o", out, "kernels/core/_core.pyx"], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    before, begin, rest = Path(out).read_text().partition("__pyx_f[] = {\n")
    files, end, after = rest.partition("};\n")
    if not end or '  "kernels/core/_core.pyx",\n' not in files:
        sys.exit(f"{out}: expected Cython's list of files, __pyx_f, got none that names kernels/core/_core.pyx")
    files = re.sub(r'^  "(?!kernels/).*/', '  "', files, flags=re.MULTILINE)
    Path(out).write_text(before + begin + files + end + after)
