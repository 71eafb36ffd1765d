"""Metrics that have changed their names, and how result files and users that have the old ones are served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, final

from hacontrol_envs.renamed import warn

Value = TypeVar("Value")

RENAMED = {
    "policy_error_law": "policy_error_visited",
    "policy_error_law_by_action": "policy_error_visited_by_action",
    "value_error_law": "value_error_visited",
    "rate_error_law": "rate_error_visited",
    "residual_law": "residual_visited",
}
"""Name of each metric today, by its name up to version 0.1 and in result files of format 1."""


def with_new_names(metrics: Mapping[str, Value]) -> dict[str, Value]:
    """Return metrics by the names that they have today."""
    return {RENAMED.get(name, name): value for name, value in metrics.items()}


@final
class ByMetric(dict[str, Value]):
    """Values by the name of a metric; asked by a name of version 0.1, it returns that of the new name, and warns."""

    def __missing__(self, name: str) -> Value:
        if RENAMED.get(name) not in self:
            raise KeyError(name)
        warn(f"metric {name!r}", repr(RENAMED[name]))
        return self[RENAMED[name]]
