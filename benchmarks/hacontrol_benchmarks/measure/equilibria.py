"""Stationary equilibria of `FirmIndustry` against published references and against themselves on ever finer grids.

* difference: the largest relative difference of price (2e-6 at most), output and capital (1e-5 at most) from the
  reference, where there is one.
* error: the stated relative error of price, output and capital, from the last two refinements; the reference of
  kinked costs is itself good to 3e-7.
* mass, lowest, clearing: |1 - mass|, the lowest mass, and |log P + eta log Y|.
* growth: |E iota - delta|, which is zero under an exact law.

The closed forms: LQR and Merton of order 1, by Richardson's extrapolation over three grids, and of order 4, at
u = -1/2, 0 and 1/2; the response to an aggregate shock at eta = 1, log Y = shock e^{-kappa t}.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.progress import track

from hacontrol_benchmarks.measure import measured
from hacontrol_envs import LQR, ControlProblem, FirmIndustry, IndustryEquilibrium, Merton
from hacontrol_envs.solvers.grid import Grid
from hacontrol_envs.solvers.hjb import extrapolate, solve

REFERENCE = {
    "kinked": (0.7183080, 1.392161, 2.41922),
    "smoothed": (0.7281487, 1.373346, 2.32657),
    "as-published": (0.7376047, 1.355740, 2.24328),
}
CLOSE = 2e-6, 1e-5, 1e-5
"""Largest relative differences of price, output and capital from the reference."""
KNOWN = 4e-7
"""Relative error of the references, which a stated error need not cover."""
ERROR, MASS, CLEARING, GROWTH, SECONDS = 1e-6, 1e-12, 1e-9, 1e-6, 60.0
"""Largest stated error, error of mass, clearing error and growth, and most seconds."""

OTHERS: dict[str, dict[str, Any]] = {
    "volatility 0.3": {"volatility": 0.3},
    "returns to scale 0.6": {"returns_to_scale": 0.6, "capital_bounds": (0.5, 100.0)},
    "adjustment costs 1 and 12": {"adjustment_cost_up": 1.0, "adjustment_cost_down": 12.0},
    "prices of capital 1.2 and 0.8": {"purchase_price": 1.2, "resale_price": 0.8},
    "mean reversion 1, volatility 0.4": {"mean_reversion": 1.0, "volatility": 0.4},
    "demand elasticity 0": {"demand_elasticity": 0.0, "capital_bounds": (0.5, 20.0)},
}
FORMS: dict[str, tuple[ControlProblem, tuple[int, ...], float, float]] = {
    "LQR": (LQR(), (321, 641, 1281), 1e-6, 1e-11),
    "Merton": (Merton(), (161, 321, 641), 1e-4, 1e-7),
}
"""Problem, numbers of nodes, and largest relative errors of the extrapolation and of order 4, by name."""


def measure(only: str = "") -> list[measured.Row]:
    """Return one row per equilibrium and closed form whose name contains `only`."""
    industries = {f"{name}, reference": {"adjustment": name} for name in REFERENCE} | OTHERS
    chosen = [name for name in industries if only in name]
    rows = [equilibrium(name, industries[name]) for name in track(chosen, "equilibria", transient=True)]
    rows += [row for name in FORMS for row in closed_form(name) if only in row["what"]]
    return rows + [row for row in [aggregate_shock()] if only in row["what"]]


def equilibrium(name: str, parameters: dict[str, Any]) -> measured.Row:
    """Solve for an equilibrium; return its figures, its refinements and the figures that must be zero."""
    began = time.perf_counter()
    found = FirmIndustry(**parameters).equilibrium()
    seconds, figures = time.perf_counter() - began, (found.price, found.output, found.capital)
    reference = REFERENCE.get(parameters.get("adjustment", ""), ())
    differences = [abs(one / other - 1) for one, other in zip(figures, reference, strict=bool(reference))]
    zeros = _zeros(found)
    limits = {"mass": MASS, "clearing": CLEARING, "growth": GROWTH}
    met = all(zeros[what] <= limit for what, limit in limits.items()) and zeros["lowest"] >= 0
    met = met and found.error <= ERROR and seconds <= SECONDS
    if differences:
        met = met and all(gap <= most for gap, most in zip(differences, CLOSE, strict=True))
        met = met and differences[0] <= found.error + KNOWN
    shown = max(differences) if differences else None
    return {
        "what": name,
        "parameters": parameters,
        "price": found.price,
        "output": found.output,
        "capital": found.capital,
        "difference": shown,
        "differences": differences,
        "shown": f"{found.price:.8f}",
        "apart": "" if shown is None else f"{shown:.0e}",
        "error": found.error,
        **zeros,
        "refinements": [{"nodes": one.shape, "price": one.price} for one in found.refinements],
        "seconds": seconds,
        "target": "difference <= (2e-6, 1e-5, 1e-5) and near the stated error"
        if differences
        else f"error <= {ERROR:g}",
        "met": met,
    }


def _zeros(found: IndustryEquilibrium) -> dict[str, float]:
    masses, firm = found.market.masses, found.firm
    return {
        "mass": float(abs(1 - masses.sum())),
        "lowest": float(masses.min()),
        "negative": found.market.negative,
        "clearing": abs(found.clearing_error),
        "growth": abs(float(masses @ found.market.rates) - firm.depreciation),
    }


def closed_form(name: str) -> list[measured.Row]:
    """Compare grids of order 1, extrapolated, and of order 4 with the closed form."""
    problem, counts, first, fourth = FORMS[name]
    began = time.perf_counter()
    errors = {order: [_errors(problem, count, order) for count in counts] for order in (1, 4)}
    seconds = time.perf_counter() - began
    extrapolated = float(np.abs(extrapolate(errors[1])[0]).max())
    finest = float(np.abs(errors[4][-1]).max())
    return [
        _form(f"{name}, order 1, extrapolated", extrapolated, first, seconds),
        _form(f"{name}, order 4", finest, fourth, seconds),
    ]


def _errors(problem: ControlProblem, count: int, order: Any) -> Any:
    """(V - closed form)/|closed form| at u = -1/2, 0 and 1/2."""
    known = problem.solution()
    assert known is not None
    grid = Grid(problem, (np.linspace(-1.0, 1.0, count),), order, lambda x: known.value(0.0, x))
    V, _ = solve(grid)
    return (V / known.value(0.0, grid.x) - 1)[[(count - 1) // 4, (count - 1) // 2, 3 * (count - 1) // 4]]


def aggregate_shock() -> measured.Row:
    """Compare the response to a shock at eta = 1 with log Y = shock e^{-kappa t}, relative to the shock."""
    began = time.perf_counter()
    found = FirmIndustry(capital_bounds=(0.5, 20.0)).equilibrium().impulse_response(0.01, 20.0, 200)
    gap = float(np.abs(found.output / 0.01 - np.exp(-0.5 * found.time)).max())
    return _form("aggregate shock at demand elasticity 1", gap, 5e-4, time.perf_counter() - began)


def _form(what: str, difference: float, target: float, seconds: float) -> measured.Row:
    nothing = dict.fromkeys(("error", "mass", "lowest", "clearing", "growth"), float("nan"))
    found = {"shown": "", "apart": f"{difference:.0e}", "difference": difference, "seconds": seconds}
    return {"what": what, **nothing, **found, "target": f"difference <= {target:g}", "met": difference <= target}


COLUMNS = {
    "": "{what}",
    "price": "{shown}",
    "difference": "{apart}",
    "error": "{error:.0e}",
    "mass": "{mass:.0e}",
    "lowest": "{lowest:.0e}",
    "clearing": "{clearing:.0e}",
    "growth": "{growth:.0e}",
    "seconds": "{seconds:.1f}",
}
NOTE = (
    f"At most: difference of the price 2e-06, of output and capital 1e-05; error {ERROR:g}, mass {MASS:g}, clearing"
    f" {CLEARING:g}, growth {GROWTH:g}, {SECONDS:g} seconds. No mass is negative."
)


def main(only: str = "", json: Path | None = None) -> int:
    """Measure how accurate the equilibria are.

    Args:
        only: measure the rows whose names contain this.
        json: a file to write the figures to.
    """
    return measured.report("measure.equilibria", measure(only), COLUMNS, {"only": only}, json, NOTE)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
