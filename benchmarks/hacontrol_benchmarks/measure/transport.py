"""Time moving the laws of many economies for a period, beside two other ways, and measure whether mass stays one.

Beside `law @ Transport(...)`, each with choices checked and located anew as in a simulation, on the same laws, choices
(float64, inside the grid) and machine, on one thread, one after the other in each repeat:

- the loop over pairs (e, e'), each with two scatter-adds of the lottery's shares, in torch, as published for DEQN;
- sequence-jacobian's lottery and Markov matrix (Auclert, Bardoczy, Rognlie and Straub, 2021), if it is installed: one
  economy at a time, which is what it is made for, its lottery for monotone policies where they are that; and all
  economies stacked into one array, which its loops also take.

Figures are medians over repeats of (time of the other)/(time of ours); of torch, forward and backward over forward.
At the larger size a fresh array is 115 MB, and on a virtual machine to be handed its pages can take longer than to fill
them. So all is timed twice: as it comes, and where the C library lets us ("memory kept") with freed memory staying in
the process. The targets of comparisons are of the first, those of forward and backward of the second.
Time is the thread's own, so that what else the machine does does not count.
Mass: the largest deviation from one over 10 000 quarters of one economy, each under another of its policies.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import operator
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro

from hacontrol_agents.equilibrium.transport import transport
from hacontrol_benchmarks.measure import measured
from hacontrol_envs.arrays import Floats
from hacontrol_envs.numerics.transport import Transport

SIZES = ((256, 100, 3), (4096, 500, 7))
"""Numbers of economies, nodes of assets and idiosyncratic states."""

QUARTERS = 10_000
"""Quarters over which mass is measured."""
CELLS = 500_000
"""Least number of cells that are moved each time a contender is timed, in as many calls as that takes."""

LOOP = "loop over (e, e'), torch"
STACKED, ONE_BY_ONE = "sequence-jacobian, stacked", "sequence-jacobian, one by one"
OURS, FORWARD, BOTH = "ours", "torch, forward", "torch, forward and backward"
KEPT = ", memory kept"
MASS = f"mass error, {QUARTERS} quarters"

TARGETS: dict[tuple[str, int | None], tuple[str, float]] = {
    (LOOP, 256): (">=", 8.0),
    (LOOP, 4096): (">=", 20.0),
    (ONE_BY_ONE, 256): (">=", 3.0),
    (BOTH + KEPT, None): ("<=", 3.0),
    (MASS, None): ("<=", 1e-12),
}
"""Bound of a figure, by its name and the number of economies, None for any number."""


class Case(NamedTuple):
    """Economies of one size whose policies are monotone, or noisy."""

    policy: str
    """Kind of policy: "monotone" or "noisy"."""
    assets: Floats
    """Nodes of assets, (n_a,)."""
    law: Floats
    """Laws, (economies, n_e, n_a)."""
    choice: Floats
    """Assets chosen at the cells, (economies, n_e, n_a)."""
    shock: Floats
    """Transition probabilities of the idiosyncratic state, (n_e, n_e)."""


def case(size: tuple[int, int, int], policy: str, seed: int = 0) -> Case:
    """Draw laws of any shape, choices that save most of wealth, with noise of 30 % unless monotone, and a chain.

    Args:
        size: numbers of economies, nodes of assets and idiosyncratic states.
        policy: "monotone" or "noisy".
        seed: seed of the draws.
    """
    economies, nodes, states = size
    rng = np.random.default_rng(seed)
    assets = np.expm1(np.expm1(np.linspace(0, math.log1p(math.log1p(200)), nodes)))
    law = rng.exponential(size=(economies, states, nodes))
    law /= law.sum(axis=(1, 2), keepdims=True)
    choice = 0.97 * assets + rng.random((economies, states, 1))
    if policy != "monotone":
        choice *= np.exp(0.3 * rng.standard_normal(law.shape))
    shock = 0.9 * np.eye(states) + 0.1 * rng.dirichlet(np.ones(states), size=states)
    return Case(policy, assets, law, np.clip(choice, assets[0], assets[-1], out=choice), shock)


def measure(repeats: int = 15) -> list[measured.Row]:
    """Return a row for each size, policy and contender: ns per cell, and the figure with its target; see the module."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        cases = [(size, policy) for size in SIZES for policy in ("monotone", "noisy")]
        first = [row for each in cases for row in _rows(case(*each), repeats, "")]
        _keep_freed_memory()
        return first + [row for each in cases for row in _rows(case(*each), repeats, KEPT)]
    finally:
        torch.set_num_threads(threads)


def _rows(given: Case, repeats: int, how: str) -> list[measured.Row]:
    calls = _contenders(given)
    times_each = max(1, CELLS // given.law.size)
    repeats = min(repeats, max(3, repeats * CELLS // given.law.size))
    for call in calls.values():
        call()
    times = [{name: _seconds(call, times_each) for name, call in calls.items()} for _ in range(repeats)]
    rows = []
    for name in calls:
        ratio = statistics.median(t[name] / t[FORWARD if name == BOTH else OURS] for t in times)
        rows.append(_row(given, name + how, 1e9 * statistics.median(t[name] for t in times) / given.law.size, ratio))
    if ONE_BY_ONE not in calls:
        rows.append(_row(given, "sequence-jacobian: not installed", math.nan, math.nan))
    return rows if how else [*rows, _row(given, MASS, math.nan, _mass_error(given))]


def _row(given: Case, name: str, ns: float, figure: float) -> measured.Row:
    economies, states, nodes = given.law.shape
    row: measured.Row = {"what": name, "economies": economies, "nodes": nodes, "states": states}
    row |= {"policy": given.policy, "ns": ns, "figure": figure}
    found = TARGETS.get((name, economies), TARGETS.get((name, None)))
    if found is None:
        return row | {"target": ""}
    relation, bound = found
    met = {">=": operator.ge, "<=": operator.le}[relation](figure, bound)
    return row | {"target": f"{relation} {bound:g}", "met": bool(met)}


def _contenders(given: Case) -> dict[str, Callable[[], Any]]:
    _, assets, law, choice, shock = given
    mass, chosen, grid, chain = (torch.from_numpy(x) for x in (law, choice, assets, shock))
    leaves = mass.detach().requires_grad_(), chosen.detach().requires_grad_()  # the same memory
    weight = torch.from_numpy(np.random.default_rng(1).standard_normal(law.shape))

    def forward() -> None:
        with torch.no_grad():
            transport(mass, chosen, assets, shock)

    def both() -> None:
        torch.autograd.grad(transport(*leaves, assets, shock), leaves, weight)

    calls = {OURS: lambda: law @ Transport(assets, choice, shock), LOOP: lambda: loop(mass, chosen, grid, chain)}
    return calls | _sequence_jacobian(given) | {FORWARD: forward, BOTH: both}


def loop(law: torch.Tensor, choice: torch.Tensor, assets: torch.Tensor, shock: torch.Tensor) -> torch.Tensor:
    """Move laws as published for DEQN: for each pair (e, e') the shares of the mass from e to e' are scattered.

    Args:
        law: laws, (economies, n_e, n_a).
        choice: assets chosen at the cells, of the shape of `law`.
        assets: nodes, (n_a,).
        shock: transition probabilities of e, (n_e, n_e).
    """
    k = torch.searchsorted(assets, choice, right=True).clamp(1, len(assets) - 1) - 1
    w = (choice - assets[k]) / (assets[k + 1] - assets[k])
    out = torch.zeros_like(law)
    for e in range(law.shape[1]):
        for f in range(law.shape[1]):
            mass = shock[e, f] * law[:, e]
            out[:, f].scatter_add_(1, k[:, e], mass * (1 - w[:, e]))
            out[:, f].scatter_add_(1, k[:, e] + 1, mass * w[:, e])
    return out


def _sequence_jacobian(given: Case) -> dict[str, Callable[[], Any]]:
    """Its two contenders, if it is installed."""
    try:
        theirs = importlib.import_module("sequence_jacobian.blocks.support.het_support")
    except ImportError:
        return {}
    monotone, markov = given.policy == "monotone", theirs.Markov(given.shock, 0)

    def move(law: Floats, choice: Floats) -> Any:
        return markov.forward(theirs.lottery_1d(choice, given.assets, monotonic=monotone).forward(law))

    stacked = [np.ascontiguousarray(np.swapaxes(x, 0, 1)) for x in (given.law, given.choice)]
    return {
        ONE_BY_ONE: lambda: [move(*pair) for pair in zip(given.law, given.choice, strict=True)],
        STACKED: lambda: move(*stacked),
    }


def _mass_error(given: Case) -> float:
    operators = [Transport(given.assets, choice, given.shock) for choice in given.choice[:256]]
    law, largest = given.law[0], 0.0
    for quarter in range(QUARTERS):
        law = law @ operators[quarter % len(operators)]
        largest = max(largest, abs(float(law.sum()) - 1))
    return largest if law.min() >= 0 else math.inf


def _keep_freed_memory() -> None:
    """glibc's mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, the largest int); elsewhere nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    for option, value in ((-4, 0), (-1, 2**31 - 1)):
        if mallopt is not None:
            mallopt(option, value)


def _seconds(call: Callable[[], Any], times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - start) / times


COLUMNS = {
    "": "{what}",
    "economies x nodes x states": "{economies} x {nodes} x {states}",
    "policy": "{policy}",
    "ns per cell": "{ns:.1f}",
    "figure": "{figure:.3g}",
    "target": "{target}",
}
NOTE = "Figures are times over ours; of forward and backward, over forward; of mass, its largest deviation from one."


def main(repeats: int = 15, json: Path | None = None) -> int:
    """Measure how long moving laws takes, beside the published loop and sequence-jacobian.

    Args:
        repeats: number of timed repeats at the smaller size; at the larger fewer, at least 3.
        json: a file to write the figures to.
    """
    settings = {"repeats": repeats, "seed": 0, "quarters": QUARTERS}
    return measured.report("measure.transport", measure(repeats), COLUMNS, settings, json, NOTE)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
