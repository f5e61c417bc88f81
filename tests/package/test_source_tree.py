"""Python started in a source tree, whose fastopt/ has no compiled module, says what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import fastopt


def test_without_the_compiled_module(tmp_path):
    package = Path(fastopt.__file__).parent
    shutil.copytree(package, tmp_path / "fastopt", ignore=shutil.ignore_patterns("_core*.so", "*.pyd", "__pycache__"))
    folders = [str(tmp_path), str(Path(np.__file__).parent.parent)]
    script = f"import sys; sys.path[:0] = {folders!r}; import fastopt"
    found = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    message = found.stderr.splitlines()[-1]
    assert message.startswith("ImportError: fastopt._core: expected the compiled module in an installed package, got")
    assert "pip install ." in message
