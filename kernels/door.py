"""Translate the door into C, in the source tree: ``door.py FOLDER_OF_DECLARATIONS OUT [OPTION OF CYTHON ...]``.

Cython keeps the paths of all it has read, for tracebacks and in comments. Those outside the source tree depend on where
it was built and with which Python: of them the names are kept, so that the same sources make the same module. A Cython
that writes its list otherwise ends a strict build (-Werror); in others the paths stay.
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
    if end and '  "kernels/core/_core.pyx",\n' in files:
        files = re.sub(r'^  "(?!kernels/).*/', '  "', files, flags=re.MULTILINE)
        after = re.sub(r'^( +/\* ")(?!kernels/)[^"]*/(?=[^"/]*":\d+$)', r"\1", after, flags=re.MULTILINE)
        Path(out).write_text(before + begin + files + end + after)
    elif "-Werror" in options:
        sys.exit(f"{out}: expected Cython's list of files, __pyx_f, got none that names kernels/core/_core.pyx")
