"""Judge: how far something learnt is from the truth about its subject, as numbers with names and meanings."""

from __future__ import annotations

import abc
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

Score: TypeAlias = "float | dict[str, float] | None"
"""The value of a metric: a number, or numbers by name; None where it does not apply."""


@final
@dataclass(frozen=True)
class Metric:
    """A number that says how far something learnt is from the truth, or what it cost."""

    name: str
    """Name of the metric in results."""
    meaning: str
    """Meaning of the metric, in one sentence or two for the reader of a report."""
    column: str = ""
    """Title of the metric's column in a leaderboard; "" where it has no column."""
    key: str = ""
    """Entry that the column shows of a metric that is several numbers by name."""
    style: Literal["small", "plain"] = "small"
    """How the column shows the number: "small" where the order of magnitude matters, otherwise "plain"."""


class Judge(abc.ABC):
    """Metrics of everything that learns about one kind of subject: environments of a kind, or an economy.

    A subclass states `metrics`, `headlines` and `compute`. A problem or an economy names its judge in `judge`.
    """

    metrics: tuple[Metric, ...]
    """What `compute` returns, in the order in which a report explains it."""
    headlines: tuple[str, ...]
    """Names of metrics by which a leaderboard may rank, smaller being better: the first that is known is taken."""

    @abc.abstractmethod
    def compute(self, agent: Any, subject: Any, evaluation: Any) -> dict[str, Score]:
        """Measure what an agent has learnt.

        Args:
            agent: what has learnt.
            subject: the environment, or the economy, that it has learnt about.
            evaluation: how carefully to judge; it has a `seed`.

        Returns:
            Every one of `metrics` by name.

        Raises:
            FloatingPointError: the agent returns something that is not finite.
            ParameterError: the agent does not offer what is judged, or the truth is not known.
        """

    @final
    def meaning(self, name: str) -> str:
        """Return the meaning of the metric of this name, or "" if there is none."""
        return next((metric.meaning for metric in self.metrics if metric.name == name), "")

    @final
    def headline(self, known: Iterable[str]) -> str | None:
        """Return the first of `headlines` that is among these names of metrics, or None."""
        names = set(known)
        return next((name for name in self.headlines if name in names), None)
