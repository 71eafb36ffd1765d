"""Laws that stay where they are: of a diffusion on a grid, L'm = 0, and of a chain, law @ T = law with L = T - 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError, ParameterError

ROUNDING = 1e-12
"""By how much a stationary law may differ from itself one period later, in mass."""

LONGEST = 200_000
"""Periods after which a law that still moves is given up."""

SETTLING = 30
"""Periods by which a uniform law has found nodes that have mass."""

UNPIVOTED: dict[str, Any] = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0}
"""SuperLU for 1 - T', whose diagonal dominates its columns: it needs no pivoting."""


def balanced(generator: Any, node: int, **options: Any) -> Floats:
    """m (N,) with L'm = 0 that sums to one, for L sparse with rows that sum to zero.

    Args:
        generator: L, (N, N): a difference operator, or T - 1.
        node: one that has mass: its equation, which the others imply, is replaced by m = 1 there.
        options: of scipy's `splu`.
    """
    count = generator.shape[0]
    others = np.arange(count) != node
    unit = sparse.coo_array(([1.0], ([node], [node])), shape=(count, count))
    matrix = sparse.diags_array(others.astype(float)) @ generator.T.tocsr() + unit
    factors, right = splu(matrix.tocsc(), **options), (~others).astype(float)
    masses: Floats = factors.solve(right)
    masses += factors.solve(right - matrix @ masses)
    masses /= masses.sum()
    return masses


def stationary(chain: Any) -> Floats:
    """The law (N,) with law @ T = law, nonnegative and of mass one.

    Nodes that are left for ever have no mass. The others are solved for directly, if they all communicate; if there are
    two or more such classes every mixture of their laws is stationary, and the result is that to which a uniform law
    moves (on average over time, where it cycles).

    Args:
        chain: T, (N, N) with nonnegative rows that sum to one, sparse or not.

    Raises:
        ParameterError: another kind of matrix.
        EquilibriumError: no law is found that stays where it is to within 1e-12 of mass.
    """
    matrix = _stochastic(chain)
    law = _direct(matrix)
    if law is None or not abs(law @ matrix - law).sum() <= ROUNDING:
        law = _iterated(matrix)
    return law


def _stochastic(given: Any) -> Any:
    matrix = sparse.csr_array(given, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ParameterError(f"a law is stationary under a square matrix, got shape {matrix.shape}")
    if not (np.all(matrix.data >= 0) and np.all(abs(matrix.sum(axis=1) - 1) <= 1e-9)):
        raise ParameterError("a law is stationary under a matrix whose rows are nonnegative and sum to one")
    return matrix


def _direct(matrix: Any) -> Floats | None:
    """The stationary law, if there is just one."""
    count, label = connected_components(matrix, connection="strong")
    coo = matrix.tocoo()
    left = np.unique(label[coo.row][label[coo.row] != label[coo.col]])
    if count - len(left) != 1:
        return None
    (closed,) = np.setdiff1d(np.arange(count), left)
    nodes = np.flatnonzero(label == closed)
    inner = matrix[nodes][:, nodes]
    likely = np.full(len(nodes), 1 / len(nodes))
    for _ in range(SETTLING):
        likely = likely @ inner
    law: Floats = np.zeros(len(label))
    law[nodes] = np.maximum(balanced(inner - sparse.eye_array(len(nodes)), int(likely.argmax()), **UNPIVOTED), 0.0)
    law /= law.sum()
    return law


def _iterated(matrix: Any) -> Floats:
    """Where a uniform law moves: powers of (1 + T)/2, which has the same stationary laws and no cycles."""
    count = matrix.shape[0]
    law: Floats = np.full(count, 1 / count)
    step = ((sparse.eye_array(count) + matrix) / 2).T.tocsr()
    for _ in range(LONGEST):
        law, before = step @ law, law
        if abs(law - before).sum() < ROUNDING / 4:
            law /= law.sum()
    return law
    raise EquilibriumError(
        f"no stationary law found: after {LONGEST} periods mass {2 * abs(law - before).sum():.1e} still moves in each"
    )
