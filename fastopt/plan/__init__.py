"""Planning with a model, by the cross-entropy method: one decision after another, for one problem or many at once."""

from fastopt.plan.planner import CEMPlanner

__all__ = ["CEMPlanner"]
