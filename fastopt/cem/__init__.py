"""The cross-entropy method: the population is never stored, and every candidate can be had again from its number."""

from fastopt.cem.method import CEM
from fastopt.cem.minimize import minimize_cem
from fastopt.cem.result import Result as Result  # for annotations: no name of `fastopt` itself

__all__ = ["CEM", "minimize_cem"]
