"""Young's lottery on a grid of assets: where a choice falls, and mass or values carried there, in compiled loops.

A choice a' with a_k <= a' <= a_{k+1} sends the share w = (a' - a_k)/(a_{k+1} - a_k) of its mass up to node k + 1 and
leaves the rest at node k (Young, 2010), so that mass and mean are kept. k is found without a search: the top bits of
the float64 number a' - a_0 + shift are a cheap logarithm, and a table says from which node on to look for each of their
values; of two or more nodes there, comparisons halve the rest. The table is right for any grid, and short for those
that are dense at the lower end, or uniform.

Each loop makes one thing of a row at a time, because the compiler turns some of them into vector instructions and none
then waits for another. Arrays of one economy and of N are both welcome where N is expected.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics.compiled import compiled

Reals: TypeAlias = NDArray[Any]
"""Array of float64 or of float32; sums are float64 either way."""

Nodes: TypeAlias = NDArray[np.int32]
"""Array with the node k at or below the choice in each cell."""

LARGEST_TABLE = 4096
"""Most entries of a table: 16 KiB, half of a core's nearest cache."""

NOT_CLOSED = 1e-9
"""Amount by which the sum of a row of a shock's matrix may differ from one."""


ONE = np.uint64(1)
"""An unsigned one: indices are unsigned, because a negative one would count from the end, and testing each is slow."""


class Lookup(NamedTuple):
    """A grid a_0 < ... < a_{n-1} and what finds a number in it, in the order in which `locate` takes them."""

    low: float
    """Lowest node a_0."""
    high: float
    """Highest node a_{n-1}."""
    nodes: Floats
    """Nodes a_0, ..., a_{n-2}, and infinity from there on: k is never the last."""
    inverse: Floats
    """Inverse spacings 1/(a_{k+1} - a_k), (n - 1,)."""
    table: Nodes
    """Lowest node k for each value of the top bits."""
    shift: float
    """Number that is added to a - a_0 before its bits are read."""
    drop: int
    """Number of low bits that do not count."""
    first: int
    """Top bits at a_0."""
    jumps: NDArray[np.int64]
    """Steps 2^p, ..., 2, 1 by which k is raised while it is too low."""


def lookup(assets: Floats) -> Lookup:
    """Return what finds numbers in this grid (n_a,); it is made once for each grid.

    Raises:
        ParameterError: not two or more finite numbers that increase, or spacings of less than 1e-307.
    """
    grid = np.ascontiguousarray(assets, dtype=np.float64)
    if grid.ndim != 1 or len(grid) < 2:
        raise ParameterError(f"assets must be a grid of at least two nodes, (n_a,), got shape {grid.shape}")
    return _lookup(grid.tobytes())


@lru_cache(maxsize=64)
def _lookup(raw: bytes) -> Lookup:
    grid = np.frombuffer(raw)
    if not (np.all(np.isfinite(grid)) and np.all(grid[1:] / 2 - grid[:-1] / 2 > 1e-307) and np.ptp(grid / 4) < 4e307):
        raise ParameterError(f"assets must be finite and increase from node to node, got {grid!r}")
    tables = [_table(grid, np.ptp(grid) * 0.5**halvings) for halvings in range(0, 40, 2)]
    most, _, table, shift, drop, first = min(tables, key=lambda found: found[:2])
    jumps = 2 ** np.arange(int(most).bit_length())[::-1]
    nodes = np.append(grid[:-1], np.full(1 + jumps.sum(), np.inf))
    inverse = 1 / np.diff(grid)
    for kept in (nodes, inverse, table, jumps):
        kept.setflags(write=False)
    return Lookup(grid[0], grid[-1], nodes, inverse, table, shift, drop, first, jumps)


def _table(grid: Floats, shift: float) -> tuple[int, int, Nodes, float, int, int]:
    """By how much k can be too low, length and entries of the table for this shift, and how it is to be read."""
    bits = ((grid - grid[0]) + shift).view(np.int64)
    drop = next(d for d in range(40, 64) if (bits[-1] >> d) - (bits[0] >> d) < LARGEST_TABLE)
    first = bits[0] >> drop
    counts = np.bincount((bits[:-1] >> drop) - first, minlength=(bits[-1] >> drop) - first + 1)
    lowest = np.maximum(np.cumsum(counts) - counts - 1, 0)
    table = lowest.astype(np.int32)
    return int((np.cumsum(counts) - 1 - lowest).max()), len(table), table, shift, drop, int(first)


@compiled
def all_finite(choice: Reals) -> bool:
    """Tell whether all numbers (M, n) are finite."""
    strays = False
    for i in range(len(choice)):
        for j in range(choice.shape[1]):
            strays |= choice[i, j] - choice[i, j] != 0.0
    return not strays


@compiled
def close_rows(shock: Floats) -> bool:
    """Make rows (N, n, n) sum to one beyond rounding, in place; tell whether they are probabilities but for that.

    The largest entry takes what a row misses, and the second largest what that cannot take: a defect in the last bit
    would be felt after 10 000 quarters.
    """
    for i in range(len(shock)):
        for e in range(shock.shape[1]):
            row = shock[i, e]
            largest = second = -1
            for f in range(len(row)):
                if not row[f] >= 0.0:
                    return False
                if largest < 0 or row[f] > row[largest]:
                    largest, second = f, largest
                elif second < 0 or row[f] > row[second]:
                    second = f
            for f in (largest, second):
                total, lost = -1.0, 0.0
                for p in row:
                    larger = total + p
                    lost += (total - (larger - p)) + (p - (larger - (larger - p)))
                    total = larger
                rest = -(total + lost)
                if not abs(rest) <= NOT_CLOSED:
                    return False
                if f >= 0 and row[f] > 0.0:
                    row[f] += rest
    return True


@compiled
def locate(
    choice: Reals,
    low: float,
    high: float,
    nodes: Floats,
    inverse: Floats,
    table: Nodes,
    shift: float,
    drop: int,
    first: int,
    jumps: NDArray[np.int64],
    k: Nodes,
    w: Floats,
) -> None:
    """Write the node k at or below each choice, and the share w of its mass that goes to node k + 1.

    Args:
        choice: a' of each cell, (M, n).
        low, high, nodes, inverse, table, shift, drop, first, jumps: see `Lookup`.
        k, w: nodes and shares, (M, n), filled.
    """
    n, crowded = choice.shape[1], len(jumps) > 1
    for i in range(len(choice)):
        for j in range(n):
            x = min(max(np.float64(choice[i, j]), low), high)
            w[i, j] = x
            k[i, j] = (np.float64((x - low) + shift).view(np.int64) >> drop) - first
        if crowded:
            for j in range(n):
                k[i, j] = table[np.uint64(k[i, j])]
            for jump in jumps[:-1]:
                for j in range(n):
                    k[i, j] += jump * (w[i, j] >= nodes[np.uint64(k[i, j] + jump)])
        for j in range(n):
            x = w[i, j]
            node = np.uint64(k[i, j] if crowded else table[np.uint64(k[i, j])])
            node += np.uint64(x >= nodes[node + ONE])
            k[i, j] = node
            w[i, j] = min((x - nodes[node]) * inverse[node], 1.0)


@compiled
def push(law: Reals, k: Nodes, w: Floats, shock: Floats, out: Reals) -> None:
    """Write out(e', a) = sum over e of shock(e, e') times the mass of law(e) that the lottery sends to a.

    Lower and upper shares are summed apart: the upper node of a cell is often the lower node of the next, and to add to
    it twice in a row is slow.

    Args:
        law: masses, (N, n_e, n_a).
        k, w: nodes and shares of the choices, (N, n_e, n_a), as `locate` writes them.
        shock: P(e'|e), (N, n_e, n_e).
        out: the masses after the move, (N, n_e, n_a), filled.
    """
    n_e, n_a = out.shape[1:]
    moved, total, down, up = np.empty((n_e, n_a)), np.empty(n_a), np.empty(n_a), np.empty(n_a)
    for i in range(len(out)):
        masses, nodes, shares = law[i * (len(law) > 1)], k[i * (len(k) > 1)], w[i * (len(w) > 1)]
        to = shock[i * (len(shock) > 1)]
        for e in range(n_e):
            down[:] = 0.0
            up[:] = 0.0
            for j in range(n_a):
                node, mass = np.uint64(nodes[e, j]), masses[e, j]
                share = mass * shares[e, j]
                down[node] += mass - share
                up[node] += share
            moved[e, 0] = down[0]
            for j in range(1, n_a):
                moved[e, j] = down[j] + up[j - 1]
        for f in range(n_e):
            total[:] = 0.0
            for e in range(n_e):
                for j in range(n_a):
                    total[j] += to[e, f] * moved[e, j]
            out[i, f] = total


@compiled
def _expect(values: Reals, shock: Floats, i: int, mean: Floats) -> None:
    """Write E[values(e', .) | e] of economy i, (n_e, n_a); for `values` and `shock` see `pull`."""
    (n_e, n_a), v, s = mean.shape, i * (len(values) > 1), i * (len(shock) > 1)
    mean[:] = 0.0
    for e in range(n_e):
        for f in range(n_e):
            for j in range(n_a):
                mean[e, j] += shock[s, e, f] * values[v, f, j]


@compiled
def pull(values: Reals, k: Nodes, w: Floats, shock: Floats, out: Reals) -> None:
    """Write out(e, a) = E[values(e', a') | e, a], the adjoint of `push`.

    Args:
        values: values of the cells after the move, (N, n_e, n_a).
        k, w: nodes and shares of the choices, (N, n_e, n_a), as `locate` writes them.
        shock: P(e'|e), (N, n_e, n_e).
        out: their expectations, (N, n_e, n_a), filled.
    """
    n_e, n_a = out.shape[1:]
    mean = np.empty((n_e, n_a))
    for i in range(len(out)):
        nodes, shares = k[i * (len(k) > 1)], w[i * (len(w) > 1)]
        _expect(values, shock, i, mean)
        for e in range(n_e):
            for j in range(n_a):
                node = np.uint64(nodes[e, j])
                out[i, e, j] = mean[e, node] + shares[e, j] * (mean[e, node + ONE] - mean[e, node])


@compiled
def pull_with_slope(
    low: float,
    high: float,
    inverse: Floats,
    values: Reals,
    law: Reals,
    choice: Reals,
    k: Nodes,
    w: Floats,
    shock: Floats,
    out: Reals,
    slope: Reals,
) -> None:
    """Write the expectations that `pull` writes, and law times their derivative in the choice.

    Args:
        low, high, inverse: see `Lookup`.
        values: values of the cells after the move, (N, n_e, n_a).
        law: masses, (N, n_e, n_a).
        choice: a' of each cell, (N, n_e, n_a).
        k, w: nodes and shares of the choices, (N, n_e, n_a), as `locate` writes them.
        shock: P(e'|e), (N, n_e, n_e).
        out: expectations, (N, n_e, n_a), filled.
        slope: law times the derivative, (N, n_e, n_a), filled; zero where the choice lies beyond the grid.
    """
    n_e, n_a = out.shape[1:]
    mean = np.empty((n_e, n_a))
    for i in range(len(out)):
        nodes, shares = k[i * (len(k) > 1)], w[i * (len(w) > 1)]
        masses, chosen = law[i * (len(law) > 1)], choice[i * (len(choice) > 1)]
        _expect(values, shock, i, mean)
        for e in range(n_e):
            for j in range(n_a):
                node = np.uint64(nodes[e, j])
                rise = mean[e, node + ONE] - mean[e, node]
                out[i, e, j] = mean[e, node] + shares[e, j] * rise
                slope[i, e, j] = rise * inverse[node]
            for j in range(n_a):
                inside = low <= chosen[e, j] <= high
                slope[i, e, j] = masses[e, j] * slope[i, e, j] if inside else 0.0
