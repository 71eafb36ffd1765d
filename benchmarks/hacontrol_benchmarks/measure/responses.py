"""Compare impulse responses of Krusell-Smith and of an industry with what is known of them.

* log Z after 20 quarters, in percent, beside the chain's own expectation; capital after 20 quarters, at the default
  number of draws: how far apart seeds are, and the mean standard error, both relative to the response.
* global and linear: the largest difference of the response under the global solution from the linear one, along the
  same expectation of log Z, relative to the largest response.
* sequence-jacobian: the largest difference of the linear response from that of sequence-jacobian 1.0 (Auclert,
  Bardoczy, Rognlie and Straub 2021) on the same 3 x 500 nodes, after a shock of .01 with persistence .9, in its first
  three quarters; theirs interpolates choices of assets linearly, ours by cubics. It was installed once, and its figures
  are kept here: over 300 quarters capital was 3e-5, consumption 6.5e-5 and output 6e-6 apart, relative to the largest
  response, and consumption on impact 2.2e-7.
* industry: demand elasticity 1, where log Y = shock e^{-kappa t}, log P = -log Y and K stays; relative to the shock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tyro
from rich.progress import track

from hacontrol_benchmarks.measure import measured
from hacontrol_envs.economies.industry.economy import FirmIndustry
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

SEEDS = 5
"""Number of seeds of the draws."""
PRODUCTIVITY = 0.20656
"""Expected log Z after 20 quarters by P^20 of the "ssj" chain, from its middle state and the next, in percent."""
THEIRS = {"consumption": (0.00278893, 0.00293181, 0.00304844), "capital": (0.0, 0.00083712, 0.00156732)}
"""Responses of sequence-jacobian in the first three quarters, by aggregate."""


def measure() -> list[measured.Row]:
    """Return one row per figure."""
    tasks: list[Callable[[], list[measured.Row]]] = [
        lambda: krusell_smith("ssj", 1e-3),
        lambda: krusell_smith("jedc", 5e-3),
        sequence_jacobian,
        industry,
    ]
    return [row for task in track(tasks, "responses", transient=True) for row in task()]


def krusell_smith(name: str, apart: float) -> list[measured.Row]:
    """Return spread over seeds, standard errors and, for "ssj", differences from the linear response.

    Args:
        name: the calibration.
        apart: largest relative spread of capital over seeds.
    """
    economy = KrusellSmith(name)
    solution = economy.reference_solution()
    began = time.perf_counter()
    found = [solution.impulse_response(80, seed=seed) for seed in range(SEEDS)]
    seconds = (time.perf_counter() - began) / SEEDS
    capital = np.array([one.capital[20] for one in found])
    error = float(np.mean([one.errors["capital"][20] for one in found]))
    rows = [
        _row(name, "capital after 20 quarters, percent", 100 * float(capital.mean())),
        _row(name, "seeds apart, relative", float(np.ptp(capital) / capital.mean()), apart),
        _row(name, "standard error, relative", error / float(capital.mean()), apart / 2),
        _row(name, "seconds", seconds),
    ]
    if name == "ssj":
        z = 100 * float(found[0].productivity[20])
        rows.append(_row(name, "log Z after 20 quarters, off", abs(z - PRODUCTIVITY), 1e-5))
        linear = economy.steady_state().impulse_response(horizon=80, productivity=found[0].productivity)
        for path, most in {"capital": 3e-3, "consumption": 3e-3, "output": 1e-3, "gini": 2e-2}.items():
            one, other = getattr(linear, path), getattr(found[0], path)
            rows.append(
                _row(f"{name}, global and linear", path, float(np.abs(one - other).max() / np.abs(one).max()), most)
            )
    return rows


def sequence_jacobian() -> list[measured.Row]:
    """Compare the linear response with the figures of sequence-jacobian that are kept here."""
    found = KrusellSmith("ssj", asset_nodes=500).steady_state().impulse_response(0.01, 0.9, 300)
    what = "linear, 3 x 500 nodes, and sequence-jacobian"
    gaps = {name: float(np.abs(getattr(found, name)[:3] - theirs).max()) for name, theirs in THEIRS.items()}
    return [_row(what, f"{name}, first quarters", gap, 1e-6) for name, gap in gaps.items()]


def industry() -> list[measured.Row]:
    """Compare the response to a shift of log productivity that decays at the rate .5 a year with its closed form."""
    began = time.perf_counter()
    found = FirmIndustry(capital_bounds=(0.5, 20.0)).equilibrium().impulse_response(1.0)
    exact, seconds = np.exp(-0.5 * found.time), time.perf_counter() - began
    gaps = {"price": found.price + exact, "output": found.output - exact, "capital": found.capital}
    return [
        *(_row("industry, demand elasticity 1", name, float(np.abs(gap).max()), 1e-6) for name, gap in gaps.items()),
        _row("industry, demand elasticity 1", "seconds, with its equilibrium", seconds),
    ]


def _row(what: str, figure: str, value: float, at_most: float | None = None) -> measured.Row:
    target = "" if at_most is None else f"at most {at_most:g}"
    met = at_most is None or value <= at_most
    return {"what": what, "figure": figure, "value": value, "shown": f"{value:.4g}", "target": target, "met": met}


COLUMNS = {"": "{what}", "figure": "{figure}", "value": "{shown}", "target": "{target}"}


def main(json: Path | None = None) -> int:
    """Measure impulse responses.

    Args:
        json: a file to write the figures to.
    """
    return measured.report("measure.responses", measure(), COLUMNS, {"seeds": SEEDS}, json)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
