"""Helpers for policy gradients, around a line search that checks the KL divergence."""

from __future__ import annotations

from fastopt._line_search import LineSearchResult, kl_line_search

__all__ = ["LineSearchResult", "kl_line_search"]
