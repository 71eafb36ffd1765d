"""Economy and Equilibrium: many decision makers, and a signal, choices and a law that agree with each other."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core.equilibrium_judge import EquilibriumJudge
from hacontrol_envs.core.figures import filled
from hacontrol_envs.core.judge import Judge
from hacontrol_envs.core.problem import Problem
from hacontrol_envs.core.solution import CrossSection, Solution
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.inequality import lorenz

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.01, 0.1)
"""Shares of individuals at the top; `moments` reports the part of the whole that each of these groups holds."""
BOTTOM = 0.5
"""Share of individuals at the bottom; `moments` reports the part of the whole that this group holds."""


class Economy(abc.ABC):
    """A continuum of decision makers who take a signal, such as a price, as given, and together make it.

    In equilibrium everybody solves `individual(signal)`, their law is what `respond` says, and the signal is the one
    that this law confirms: `gap(signal, law)` is zero. A signal is a number, or an array of them.

    A subclass states the methods below and what its parameters are; `register_economy` makes it known by name to suites
    and to the command line.
    """

    judge: ClassVar[Judge] = EquilibriumJudge()
    """The metrics by which agents that learn about this economy are measured."""

    @property
    @abc.abstractmethod
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments as given, as JSON can hold them."""

    @abc.abstractmethod
    def first_guess(self) -> float | Floats:
        """Return a signal to start from, for which nothing had to be solved."""

    @property
    def signal_bounds(self) -> tuple[float | Floats, float | Floats]:
        """Lower and upper bound of the signal, ends excluded; infinite where nothing bounds it."""
        return -np.inf, np.inf

    @abc.abstractmethod
    def individual(self, signal: float | Floats) -> Problem:
        """Return the problem of one decision maker who takes the signal as given."""

    @abc.abstractmethod
    def respond(self, signal: float | Floats, policy: Callable[[Any, Floats], Any]) -> CrossSection:
        """Find the stationary law of decision makers who follow a policy at this signal.

        Args:
            signal: what they take as given.
            policy: function of times and states (..., n) of `individual(signal)` that returns physical actions
                (..., m).
        """

    @abc.abstractmethod
    def gap(self, signal: float | Floats, law: CrossSection) -> float | Floats:
        """Return by how much the law contradicts the signal, relative, of the signal's shape: zero in equilibrium.

        Where the signal is a number the gap rises with it.
        """

    @abc.abstractmethod
    def equilibrium(self) -> Equilibrium:
        """Solve for the stationary equilibrium.

        Raises:
            EquilibriumError: there is none, or none was found.
            NumericalError: the one found fails its own test.
        """


class Equilibrium(abc.ABC):
    """The signal, the solution of one individual at it, and the law of individuals that confirms it.

    A subclass states the properties; moments, tables and figures follow from `individuals`.
    """

    unequal: ClassVar[str]
    """The variable of `individuals` whose inequality `moments` and `plot` show, such as "assets"."""

    @property
    @abc.abstractmethod
    def signal(self) -> float | Floats:
        """The number or array that every individual takes as given."""

    @property
    @abc.abstractmethod
    def solution(self) -> Solution:
        """The optimal value and policy of one individual at the signal."""

    @property
    @abc.abstractmethod
    def cross_section(self) -> CrossSection:
        """The law of individuals, as masses at their states."""

    @property
    @abc.abstractmethod
    def aggregates(self) -> dict[str, float]:
        """Prices and totals by name."""

    @property
    @abc.abstractmethod
    def individuals(self) -> dict[str, Floats]:
        """Attributes and choices of individuals at the states of `cross_section`, each (M,), by the variable's name."""

    def moments(self) -> dict[str, float]:
        """Return aggregates, and means, standard deviations, correlations and inequality of individuals, by name.

        The names are "mean X", "deviation X" and "correlation X, Y" for variables of `individuals` (a correlation with
        a variable that is constant is left out); of `unequal` also "gini X", "share of X, top 1 %", "share of X, top 10
        %" and "share of X, bottom 50 %".
        """
        mass, every = self.cross_section.mass, self.individuals
        means = {name: float(mass @ values) for name, values in every.items()}
        deviations = {name: float(np.sqrt(mass @ (values - means[name]) ** 2)) for name, values in every.items()}
        found = dict(self.aggregates)
        found |= {f"mean {name}": mean for name, mean in means.items()}
        found |= {f"deviation {name}": deviation for name, deviation in deviations.items()}
        for one, other in itertools.combinations(every, 2):
            if scale := deviations[one] * deviations[other]:
                covariance = mass @ ((every[one] - means[one]) * (every[other] - means[other]))
                found[f"correlation {one}, {other}"] = float(covariance / scale)
        return found | self._inequality()

    def _inequality(self) -> dict[str, float]:
        name = self.unequal
        people, held = lorenz(self.individuals[name], self.cross_section.mass)
        found = {f"gini {name}": float(1 - np.sum(np.diff(people) * (held[1:] + held[:-1])))}
        for share in SHARES:
            found[f"share of {name}, top {100 * share:g} %"] = float(1 - np.interp(1 - share, people, held))
        found[f"share of {name}, bottom {100 * BOTTOM:g} %"] = float(np.interp(BOTTOM, people, held))
        return found

    def to_frame(self) -> Any:
        """Return a pandas DataFrame: for each state of the law its "mass" and the variables of `individuals`.

        Raises:
            ParameterError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ParameterError("to_frame needs pandas: pip install pandas") from error
        return pandas.DataFrame({"mass": self.cross_section.mass, **self.individuals})

    def to_latex(self, digits: int = 4) -> str:
        """Return `moments` as a LaTeX table in the style of booktabs, rounded to `digits` significant digits."""
        rows = [f"{_escaped(name)} & {value:.{digits}g} \\\\" for name, value in self.moments().items()]
        lines = [r"\begin{tabular}{lr}", r"\toprule", r"moment & value \\", r"\midrule", *rows]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])

    def plot(self) -> Figure:
        """Draw the law of the variable `unequal`, the means of the others given it, and its Lorenz curve.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        every, mass, name = self.individuals, self.cross_section.mass, self.unequal
        levels, place = np.unique(every[name], return_inverse=True)
        weight = np.bincount(place, mass)
        seen = weight > 0
        figure, (law, *others, curve) = filled(len(every) + 1)
        law.plot(levels, np.cumsum(weight), color="C0")
        law.set(xlabel=name, ylabel="share of individuals with no more", title="law")
        rest = [other for other in every if other != name]
        for axes, other in zip(others, rest, strict=True):
            mean = np.bincount(place, mass * every[other])[seen] / weight[seen]
            axes.plot(levels[seen], mean, color="C0")
            axes.set(xlabel=name, title=f"mean {other}, given {name}")
        people, held = lorenz(every[name], mass)
        curve.plot(people, held, color="C0")
        curve.plot([0, 1], [0, 1], color="black", linewidth=0.8)
        curve.set(xlabel="share of individuals, poorest first", ylabel=f"share of {name}", title="Lorenz curve")
        for axes in (law, *others, curve):
            axes.grid(alpha=0.25, linewidth=0.6)
        return figure


def _escaped(text: str) -> str:
    """Return text with the characters escaped that LaTeX reads as commands."""
    return "".join(f"\\{letter}" if letter in "%&_#$" else letter for letter in text)
