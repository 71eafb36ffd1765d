"""Check that the known optima are true: torch against NumPy, the HJB equation, Dynkin's formula, the value attained.

For every calibration of `CALIBRATIONS`:

* gap: the largest difference between NumPy and torch of a coefficient, of L^a V, the Hamiltonian and the HJB residual
  at uniform points of the state and action boxes, relative to max(1, its largest size at these points).
* residual: the largest |r + V_t + L^a V - rho V| at the optimal action, and the largest that the same expression takes
  at other actions (it must not be positive), both relative to the sum of the sizes of the equation's terms,
  |r| + |V_t| + sum_i |b_i V_i| + |tr(sigma sigma' V_xx)/2| + rho |V| at the same point. A numerical V of stated error e
  may leave 100 e times the problem's fastest rate besides: "share" is the largest part of what is allowed that is used,
  for a closed form the larger of both over 1e-9.
* Dynkin: e^{-rho h} E V(X_h) - V(x) - E int_0^h e^{-rho s} (V_t + L^a V - rho V)(X_s) ds, an action held, in standard
  errors. Paths are exact in law; the integral is Gauss-Legendre, exact for what is smooth in s.
* value: what the optimal policy earns in simulation less the known value, in standard errors; see `attained`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.progress import track

from hacontrol_benchmarks.judging.attained import attained
from hacontrol_benchmarks.measure import measured
from hacontrol_envs import LQR, ControlProblem, FirmInvestment, Jet, Merton
from hacontrol_envs.arrays import Floats
from hacontrol_envs.checks.probe import Points, Probe, expectation
from hacontrol_envs.checks.solution import RELATIVE, candidates, tolerance

GAP, RESIDUAL, DYNKIN, VALUE = 1e-12, RELATIVE, 4.0, 3.0
"""Largest relative gap and residual, and largest Dynkin and value gaps in standard errors."""

STEP: dict[type[ControlProblem], float] = {LQR: 0.04, Merton: 0.25, FirmInvestment: 0.25}
"""Longest step of the simulations of value, by class of problem."""

NODES = 8
"""Number of nodes of the quadrature in time of Dynkin's formula."""

ASSETS: dict[str, Any] = {
    "expected_return": [0.06, 0.07, 0.08],
    "volatility": [[0.2, 0.0, 0.0, 0.05], [0.05, 0.15, 0.0, 0.0], [0.0, 0.02, 0.25, 0.1]],
}


def _calibrations() -> Iterator[tuple[str, ControlProblem]]:
    for horizon in (None, 5.0):
        ends: dict[str, Any] = {} if horizon is None else {"horizon": horizon}
        until = "" if horizon is None else f", T = {horizon:g}"
        for n in (1, 2, 5, 10):
            yield f"LQR, n = {n}{until}", LQR(dimension=n, terminal_cost=0.5 if ends else 0.0, **ends)
        for n in (1, 10):
            yield f"LQR, n = {n}, no noise{until}", LQR(dimension=n, noise_matrix=0.0, **ends)
        for assets, market in ((1, dict[str, Any]()), (3, ASSETS)):
            for g in (0.5, 1.0, 2.0, 5.0):
                rho = 0.2 if g < 1 else 0.05
                name = f"Merton, {assets} asset{'s' if assets > 1 else ''}, risk aversion {g:g}{until}"
                yield name, Merton(risk_aversion=g, discount=rho, **market, **ends)
    yield "Firm", FirmInvestment()
    yield "Firm, smoothed", FirmInvestment(adjustment="smoothed")
    yield "Firm, resale at 0.8", FirmInvestment(resale_price=0.8)
    yield "Firm, tight", FirmInvestment(capital_bounds=(1.0, 3.0), productivity_bound=0.3)


CALIBRATIONS = dict(_calibrations())
"""Problems with known optima, by name."""


def measure(
    seed: int = 0, points: int = 1000, paths: int = 20_000, starts: int = 5, rows: int = 2048, only: str = ""
) -> list[measured.Row]:
    """Return one row per calibration, each with random numbers of its own.

    Args:
        seed: seed of every random number.
        points: number of points at which gaps and residuals are computed.
        paths: number of paths of Dynkin's formula.
        starts: number of starting points of Dynkin's formula.
        rows: number of paths on which the value is simulated.
        only: measure the calibrations whose names contain this.
    """
    chosen = [(place, name) for place, name in enumerate(CALIBRATIONS) if only in name]
    found = []
    for place, name in track(chosen, "known optima", transient=True):
        problem, own = CALIBRATIONS[name], 1000 * seed + place
        probe = Probe(problem, paths, own, None)
        row = torch_gap(probe, points) | residuals(probe, points)
        row |= dynkin(probe, starts) | attained(problem, STEP[type(problem)], own, rows)
        limits = {"gap": GAP, "share": 1.0, "dynkin": DYNKIN, "sampled": VALUE, "continuous": VALUE}
        met = all(abs(row[figure]) <= limit for figure, limit in limits.items())
        found.append({"what": name, **row, "met": met})
    return found


def torch_gap(probe: Probe, points: int) -> measured.Row:
    """Return the largest relative gap between NumPy and torch, and the name of the function that has it."""
    p: Any = probe.problem
    at, jet = probe.points(points), _jet(probe, probe.points(points))
    tensors, there = Points._make(map(torch.as_tensor, at)), Jet._make(map(torch.as_tensor, jet))
    gaps = {}
    for name in ("drift", "diffusion", "reward"):
        gaps[name] = _gap(getattr(p, name)(*at), getattr(p, name)(*tensors))
    gaps["terminal_reward"] = _gap(p.terminal_reward(at.x), p.terminal_reward(tensors.x))
    for name in ("generator", "hjb_residual"):
        gaps[name] = _gap(getattr(p, name)(*at, jet), getattr(p, name)(*tensors, there))
    q, q_there = p.second_order(*at, jet.v_xx), p.second_order(*tensors, there.v_xx)
    gaps["hamiltonian"] = _gap(p.hamiltonian(*at, jet.v_x, q), p.hamiltonian(*tensors, there.v_x, q_there))
    worst = max(gaps, key=lambda name: gaps[name])
    return {"gap": gaps[worst], "gap_of": worst}


def _gap(here: Floats, there: Any) -> float:
    return float(np.abs(here - there.numpy()).max() / max(1.0, np.abs(here).max()))


def residuals(probe: Probe, points: int, rivals: int = 200) -> measured.Row:
    """Return the HJB residual at the optimal action, its largest value at rival actions, and `share`.

    Both are relative to the terms at the optimal action; see the module.

    Args:
        probe: the problem, with random numbers.
        points: number of points.
        rivals: number of rival actions at a point, which are made admissible.
    """
    p, at = probe.problem, _optimal(probe, probe.points(points))
    own = np.abs(p.hjb_residual(*at, _jet(probe, at)))
    few = Points(*(part[: points // 10] for part in at))
    others = candidates(probe, few.a, rivals)
    each = few.each(others.shape[1])._replace(a=others.reshape(-1, others.shape[2]))
    each = each._replace(a=p.admissible(each.t, each.x, each.a))
    rival = p.hjb_residual(*each, _jet(probe, each)).reshape(len(few.t), -1).max(axis=1)
    terms = tolerance(probe, at, _jet(probe, at), 0.0) / RESIDUAL
    allowed = tolerance(probe, at, _jet(probe, at), _error(probe))
    few_terms, few_allowed = terms[: len(rival)], allowed[: len(rival)]
    share = max(float((own / allowed).max()), float((rival / few_allowed).max()))
    return {"residual": float((own / terms).max()), "rival": float((rival / few_terms).max()), "share": share}


def _error(probe: Probe) -> float:
    solution = probe.solution()
    assert solution is not None
    return solution.error


def dynkin(probe: Probe, starts: int) -> measured.Row:
    """Return the gap of Dynkin's formula in standard errors, the largest over starts and actions, and that error.

    The standard error is relative to |V|, and at least 1e-12 and the stated error of V.
    """
    rng, worst, solution = probe.rng(), (0.0, 0.0), probe.solution()
    assert solution is not None
    for at in probe.starts(starts):
        at = at._replace(a=probe.problem.admissible(at.t, at.x, at.a, probe.dt))
        gap, noise = _dynkin_gap(probe, at, rng)
        mean, error = expectation(gap[:, None], noise)
        size = float(np.abs(solution.value(at.t[:1], at.x[:1]))[0])
        relative = max(float(error[0]) / size, 1e-12 + solution.error / size)
        worst = max(worst, (float(mean[0]) / size / relative, relative), key=lambda pair: abs(pair[0]))
    return {"dynkin": worst[0], "dynkin_error": worst[1]}


def _dynkin_gap(probe: Probe, at: Points, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Per path, what Dynkin's formula says is zero in the mean, and standard normals that the path is driven by."""
    p, h, solution = probe.problem, probe.dt, probe.solution()
    assert solution is not None
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    times, shares = [*(h * (nodes + 1) / 2), h], [*(h * weights / 2), 0.0]
    gap, now, x, driven = -solution.value(at.t, at.x), 0.0, at.x, np.zeros((len(at.x), p.exact_noise_dim))
    for s, share in zip(times, shares, strict=True):
        noise = rng.standard_normal(driven.shape)
        after = p.exact_step(at.t + now, x, at.a, s - now, noise)
        assert after is not None
        driven, now, x = driven + np.sqrt((s - now) / h) * noise, s, after
        here = Points(at.t + s, x, at.a)
        flow = p.hjb_residual(*here, _jet(probe, here)) - p.reward(*here)
        gap = gap - share * np.exp(-p.discount * s) * flow
    return gap + np.exp(-p.discount * h) * solution.value(at.t + h, x), driven


def _jet(probe: Probe, at: Points) -> Jet:
    solution = probe.solution()
    assert solution is not None
    assert solution.jet is not None
    return solution.jet(at.t, at.x)


def _optimal(probe: Probe, at: Points) -> Points:
    solution = probe.solution()
    assert solution is not None
    return at._replace(a=solution.policy(at.t, at.x))


COLUMNS = {
    "": "{what}",
    "torch gap": "{gap:.0e}",
    "HJB": "{residual:.0e}",
    "best rival": "{rival:.0e}",
    "share": "{share:.1g}",
    "Dynkin": "{dynkin:+.2f} ({dynkin_error:.0e})",
    "sampled": "{sampled:+.2f} ({sampled_error:.0e})",
    "continuous": "{continuous:+.2f} ({continuous_error:.0e})",
}
NOTE = (
    f"At most: gap {GAP:g}, HJB residual and best rival {RESIDUAL:g} (of numerical solutions, besides, what their"
    f" stated error explains; share: of what is allowed), Dynkin {DYNKIN:g} and value {VALUE:g} standard errors. In"
    " brackets: the standard error, relative to the value, and at least the stated error."
)


def main(seed: int = 0, only: str = "", json: Path | None = None) -> int:
    """Measure how true the known optima are.

    Args:
        seed: of every random number.
        only: measure the calibrations whose names contain this.
        json: a file to write the figures to.
    """
    rows = measure(seed=seed, only=only)
    return measured.report("measure.truth", rows, COLUMNS, {"seed": seed, "only": only}, json, NOTE)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
