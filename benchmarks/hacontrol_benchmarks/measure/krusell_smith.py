"""Steady states and reference solutions of `KrusellSmith`, computed now, whatever earlier runs kept on disk.

* steady state: capital, interest rate, wage and the share of households at the borrowing limit, beside the published
  figures, and the seconds that it takes in a process in which nothing is compiled yet.
* reference, where households know two moments: mean capital (by the law of motion), Den Haan's error in percent and
  Euler errors, log10, on a path that the solution was not found on; seconds with compiled loops.
* log-linear beliefs, where they know K alone, as published: coefficients of the law of motion beside the published
  ones. They are another equilibrium's: fitted to the reference's path they differ in the third digit.
* 3 x 100 nodes, assets up to 200: seconds per steady state, each economy solved in turn by us and by sequence-jacobian
  (Auclert, Bardoczy, Rognlie and Straub 2021), where that is installed; the median of adjacent ratios.

share at top: of households, at the highest node of assets, which is how little it matters that the grid ends there.
"""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from rich.progress import track

from hacontrol_benchmarks.measure import measured
from hacontrol_envs.economies.krusell_smith import solving
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith

STEADY = {"capital": (33.1302, 5e-4), "interest_rate": (0.0133141, 1e-6), "wage": (2.256631, 1e-4)}
"""Published figures of "ssj", and the largest differences from them."""
CONSTRAINED = 0.0534, 2e-4
"""Published share of households at the borrowing limit, and the largest difference from it."""
COLD, SOLUTION = 30.0, 180.0
"""Most seconds of a steady state from a cold start, and of a reference solution."""
CAPITAL = {"ssj": 33.144, "jedc": 39.419}
"""Published mean capital on other paths; a difference of .1 % is allowed."""
LAW: dict[str, dict[tuple[int, int], float]] = {
    "ssj": {(0, 1): 0.9730, (4, 1): 0.9721},
    "jedc": {(0, 0): 0.12498, (0, 1): 0.96525, (1, 0): 0.13759, (1, 1): 0.96328},
}
"""Published coefficients of the law of motion by (Z, power of log K), to 1e-3."""
DEN_HAAN = {"ssj": 0.006, "jedc": 0.06}
"""Largest mean of Den Haan's error, in percent."""
EULER = -5.5
"""Largest log10 of the mean Euler error."""
FASTER = 3.0
"""Least speed, as a multiple of sequence-jacobian's."""
SMALL: dict[str, Any] = {"asset_nodes": 100, "asset_max": 200.0}

IN_A_PROCESS = """
import sys, time
start = time.perf_counter()
from hacontrol_envs.economies.krusell_smith.economy import KrusellSmith
found = KrusellSmith(sys.argv[1]).steady_state()
print(time.perf_counter() - start)
"""


def measure(repeats: int = 7) -> list[measured.Row]:
    """Return one row per figure."""
    tasks: list[Callable[[], list[measured.Row]]] = [
        *(lambda name=name: steady_state(name) for name in CAPITAL),
        *(lambda name=name: reference(name, "two moments") for name in CAPITAL),
        *(lambda name=name: reference(name, "log-linear") for name in CAPITAL),
        lambda: beside(repeats),
    ]
    return [row for task in track(tasks, "Krusell-Smith", transient=True) for row in task()]


def steady_state(name: str) -> list[measured.Row]:
    """Return figures of a calibration's steady state, and its seconds from a cold start."""
    found = KrusellSmith(name).steady_state()
    rows = [_row(f"{name} steady state", "seconds, cold", _cold(name), at_most=COLD)]
    for figure in STEADY:
        known = STEADY[figure] if name == "ssj" else (None, None)
        rows.append(_row(f"{name} steady state", figure, getattr(found, figure), *known))
    known = CONSTRAINED if name == "ssj" else (None, None)
    rows.append(_row(f"{name} steady state", "share constrained", found.share_constrained, *known))
    rows.append(_row(f"{name} steady state", "gini", found.gini))
    rows.append(_row(f"{name} steady state", "share at top", found.share_at_top))
    return rows


def _cold(name: str) -> float:
    """Seconds of a steady state in a process that must compile everything."""
    with tempfile.TemporaryDirectory() as empty:
        environment = os.environ | {"NUMBA_CACHE_DIR": empty}
        command = [sys.executable, "-c", IN_A_PROCESS, name]
        return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def reference(name: str, beliefs: str) -> list[measured.Row]:
    """Return figures of a calibration's reference solution, computed now."""
    economy, published = KrusellSmith(name), beliefs == "log-linear"
    what = f"{name}, log-linear beliefs" if published else f"{name} reference"
    KrusellSmith(name, asset_nodes=40).steady_state()  # compiled before
    began = time.perf_counter()
    found = solving.computed(economy, beliefs, lambda what, share: None)
    rows = [
        _row(what, "seconds", time.perf_counter() - began, at_most=SOLUTION),
        _row(what, "mean capital", found.capital, CAPITAL[name], 1e-3 * CAPITAL[name]),
    ]
    for (z, power), b in LAW[name].items():
        ours = found.law_of_motion.coefficients[z, power]
        rows.append(_row(what, f"law of motion b{power}(Z{z})", ours, *((b, 1e-3) if published else ())))
    rows += [
        _row(what, "R2 of the law of motion, lowest", float(found.r2.min())),
        _row(what, "R2 of beliefs, lowest", float(found.beliefs_r2.min())),
        _row(what, "Den Haan, mean", found.den_haan.mean, at_most=DEN_HAAN[name]),
        _row(what, "Den Haan, max", found.den_haan.max),
        _row(what, "Euler, mean", found.euler.mean, at_most=None if published else EULER),
        _row(what, "Euler, 99.9 %", found.euler.high),
        _row(what, "Euler, max", found.euler.max),
        _row(what, "beliefs to path", found.gap),
        _row(what, "share at top", found.share_at_top),
    ]
    return rows


def beside(repeats: int) -> list[measured.Row]:
    """Time the steady state on 3 x 100 nodes, solved by us and by sequence-jacobian."""
    what, theirs = "ssj, 3 x 100 nodes", _sequence_jacobian()
    ours: Callable[[], Any] = lambda: KrusellSmith("ssj", **SMALL).steady_state()  # noqa: E731
    times: list[tuple[float, ...]] = []
    for repeat in range(repeats + 1):
        taken = tuple(_seconds(call) for call in (ours, theirs) if call is not None)
        if repeat:  # the first compiles
            times.append(taken)
    rows = [_row(what, "seconds", statistics.median(taken[0] for taken in times))]
    if theirs is None:
        return [*rows, _row(what, "sequence-jacobian: not installed", float("nan"))]
    ratio = statistics.median(taken[1] / taken[0] for taken in times)
    return [
        *rows,
        _row(what, "seconds, sequence-jacobian", statistics.median(taken[1] for taken in times)),
        _row(what, "times as fast", ratio, at_least=FASTER),
    ]


def _seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _sequence_jacobian() -> Callable[[], Any] | None:
    """Its own Krusell-Smith model, asked for the capital at which our steady state's market clears."""
    try:
        theirs = importlib.import_module("sequence_jacobian")
        example = importlib.import_module("sequence_jacobian.examples.krusell_smith")
    except ImportError:
        return None
    household = example.hh.add_hetinputs([example.income, example.make_grids])
    model = theirs.create_model([household, example.firm, example.mkt_clearing])
    economy = {"beta": 0.98, "eis": 0.5, "alpha": 0.36, "delta": 0.025, "L": 1.0, "Z": 1.0, "rho": 0.966, "sigma": 0.5}
    grid = {"nS": 3, "nA": SMALL["asset_nodes"], "amax": SMALL["asset_max"]}
    return lambda: model.solve_steady_state(economy | grid, {"K": (30.0, 40.0)}, {"asset_mkt": 0.0}, solver="brentq")


def _row(
    what: str,
    figure: str,
    value: float,
    known: float | None = None,
    within: float | None = None,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> measured.Row:
    met, target = True, ""
    if known is not None and within is not None:
        met, target = abs(value - known) <= within, f"{known:g} +- {within:.2g}"
    elif at_most is not None:
        met, target = value <= at_most, f"at most {at_most:g}"
    elif at_least is not None:
        met, target = value >= at_least, f"at least {at_least:g}"
    return {
        "what": what,
        "figure": figure,
        "value": float(value),
        "shown": f"{value:.8g}",
        "known": known,
        "within": within,
        "at_most": at_most,
        "at_least": at_least,
        "target": target,
        "met": bool(met),
    }


COLUMNS = {"": "{what}", "figure": "{figure}", "value": "{shown}", "target": "{target}"}
NOTE = "Den Haan's errors in percent; Euler errors as log10; targets are the published figures, or bounds."


def main(repeats: int = 7, json: Path | None = None) -> int:
    """Measure steady states and reference solutions of Krusell-Smith.

    Args:
        repeats: number of timed steady states of each contender.
        json: a file to write the figures to.
    """
    return measured.report("measure.krusell_smith", measure(repeats), COLUMNS, {"repeats": repeats}, json, NOTE)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
