"""What aggregates do on average after Z moves to one state rather than stays in another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hacontrol_envs import chains
from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.figures import panels
from hacontrol_envs.krusell_smith_paths import COLOURS, Path, simulate

if TYPE_CHECKING:
    from hacontrol_envs.reference.krusell_smith_solution import ReferenceSolution

OUTPUT = {"output": "#8a5aa8"}


@final
@dataclass(frozen=True)
class ImpulseResponse:
    """Mean differences of logarithms between paths on which Z moved and paths on which it stayed, (quarters + 1,) each.

    Later both follow the same draws. Everything about them is the solution's own: nothing is linearised.
    """

    start: int
    """The state of Z from which it moved, or did not."""
    to: int
    """That to which it moved."""
    productivity: Floats
    """Of Z."""
    output: Floats
    """Of output."""
    consumption: Floats
    """Of consumption."""
    capital: Floats
    """Of K; zero at first."""

    def plot(self) -> Any:
        """A matplotlib Figure of the four paths, in percent.

        Raises:
            ParameterError: matplotlib is not installed.
        """
        colours = COLOURS | OUTPUT
        figure, four = panels(len(colours), 3.6)
        for axes, (name, colour) in zip(four, colours.items(), strict=True):
            axes.plot(100 * getattr(self, name), color=colour, linewidth=2)
            axes.axhline(0.0, color="black", linewidth=0.8)
            axes.set(xlabel="quarters", title=f"{name}, percent")
        figure.suptitle(f"Z moved from state {self.start} to state {self.to}", fontsize="medium")
        return figure


def impulse_response(
    solution: ReferenceSolution,
    quarters: int = 80,
    *,
    start: int | None = None,
    to: int | None = None,
    draws: int = 64,
    seed: int = 0,
) -> ImpulseResponse:
    """Pairs of paths from states that the economy visits while Z is in state `start`.

    Args:
        solution: of the economy.
        quarters: after the move.
        start, to: states of Z; by default the likeliest (the first of several), and the next higher one, or lower.
        draws: pairs of paths.
        seed: of the draws.

    Raises:
        ParameterError: states that Z does not have, or that the solution's sample does not hold.
    """
    economy, (sample, laws) = solution.economy, solution.ergodic
    n_z = len(economy.productivity)
    start = int(np.argmax(chains.stationary(economy.aggregate_chain).round(12))) if start is None else start
    to = (start + 1 if start + 1 < n_z else start - 1) if to is None else to
    visited = np.flatnonzero(sample == start)
    if not 0 <= to < n_z or len(visited) == 0:
        raise ParameterError(f"Z has states 0 to {n_z - 1}, visited {np.unique(sample)}; got start={start}, to={to}")
    rng = np.random.default_rng(seed)
    law, uniforms = laws[rng.choice(visited, draws)], rng.random((quarters + 1, draws))
    moved, stayed = (_aggregates(solution, law, start, one, uniforms) for one in (to, start))
    return ImpulseResponse(
        start, to, *(np.log(one / other).mean(axis=1) for one, other in zip(moved, stayed, strict=True))
    )


def _aggregates(solution: ReferenceSolution, law: Floats, start: int, then: int, uniforms: Floats) -> list[Floats]:
    """Z, output, consumption and K from the quarter in which Z is `then`, (quarters + 1, draws) each."""
    economy = solution.economy
    later = chains.draw(economy.aggregate_chain, np.full(len(law), then), uniforms)
    z = np.concatenate([np.full((1, len(law)), start), later])
    path: Path = simulate(economy, solution.policy, z, law)
    return [path.productivity[1:-1], path.output[1:-1], path.consumption[1:], path.capital[1:-1]]
