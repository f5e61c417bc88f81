"""The package `tests` for scripts run apart: with this folder on their path they import it, and nothing else with it.

The folder above tests/ would not do: it holds fastopt/, which would hide the fastopt that is installed. Nor would
tests/ itself: random/ would hide the standard library's.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[1])]
