"""Laws that stay where they are: of a diffusion on a grid, L'm = 0, and of a chain, law @ T = law with L = T - 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError, ParameterError
from hacontrol_envs.numerics import chains

ROUNDING = 1e-12
"""Mass by which a stationary law may differ from itself one period later."""

SETTLING = 30
"""Periods after which a uniform law has found nodes that have mass."""

FEW = 1000
"""Most nodes among which elimination without subtraction finds a law where all else failed."""

UNPIVOTED: dict[str, Any] = {"permc_spec": "COLAMD", "diag_pivot_thresh": 0.0}
"""SuperLU for 1 - T', whose diagonal dominates its columns: it needs no pivoting."""


def balanced(generator: Any, nodes: int | NDArray[np.intp], **options: Any) -> Floats:
    """Return m (N,) with L'm = 0 and m = 1 at given nodes, for L sparse with rows that sum to zero.

    Args:
        generator: L, (N, N): a difference operator, or T - 1.
        nodes: one that has mass, of each class of nodes that communicate: the others imply its equation.
        options: of scipy's `splu`.
    """
    fixed = np.zeros(generator.shape[0])
    fixed[nodes] = 1.0
    matrix = (scipy.sparse.diags_array(1 - fixed) @ generator.T.tocsr() + scipy.sparse.diags_array(fixed)).tocsc()
    factors = scipy.sparse.linalg.splu(matrix, **options)
    masses: Floats = factors.solve(fixed)
    masses += factors.solve(fixed - matrix @ masses)
    return masses


def stationary(chain: Any) -> Floats:
    """Find the law (N,) with law @ T = law, nonnegative and of mass one.

    Nodes that are left for ever have no mass. If the others fall into two or more classes that do not communicate,
    every mixture of their laws is stationary, and the result is the one to which a uniform law moves (on average over
    time, where it cycles).

    Args:
        chain: T, (N, N) with nonnegative rows that sum to one, sparse or not.

    Raises:
        ParameterError: another kind of matrix.
        EquilibriumError: the law found does not stay where it is to within 1e-12 of mass.
    """
    matrix = _stochastic(chain)
    count, label = scipy.sparse.csgraph.connected_components(matrix, connection="strong")
    rows, columns = matrix.nonzero()
    leaving = np.isin(np.arange(count), label[rows[label[rows] != label[columns]]])
    stays = np.flatnonzero(~leaving[label])
    inner = matrix[stays][:, stays]
    classes, member = np.unique(label[stays], return_inverse=True)
    weights = np.bincount(member, _arriving(matrix, stays)) if len(classes) > 1 else np.ones(1)
    law: Floats = np.zeros(len(label))
    moves, masses = np.inf, _settled(inner)
    places = np.arange(len(stays), dtype=np.float64)
    # Whoever holds on to a node with hardly any mass finds nothing: then what was found tells of a better one, or the
    # mass is at an end.
    for heavy in (None, None, places, -places):
        masses = _solved(inner, _heaviest(masses if heavy is None else heavy, member))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            law[stays] = masses * (weights / np.bincount(member, masses))[member]
            if (moves := abs(law @ matrix - law).sum()) <= ROUNDING:
                return law
    if len(classes) == 1 and len(stays) <= FEW:
        law[stays] = chains.stationary(inner.toarray())
        if (moves := abs(law @ matrix - law).sum()) <= ROUNDING:
            return law
    raise EquilibriumError(f"no stationary law found: mass {moves:.1e} of the one found still moves in each period")


def _solved(chain: Any, nodes: NDArray[np.intp]) -> Floats:
    """Masses (N,) in proportion to a stationary law's, found from 1 at these nodes, none negative."""
    try:
        found = balanced(chain - scipy.sparse.eye_array(chain.shape[0]), nodes, **UNPIVOTED)
    except RuntimeError:  # a factor is singular
        return _settled(chain)
    masses: Floats = np.maximum(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), 0.0)
    return masses


def _stochastic(given: Any) -> Any:
    matrix = scipy.sparse.csr_array(given, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ParameterError(f"a law is stationary under a square matrix, got shape {matrix.shape}")
    if not (np.all(matrix.data >= 0) and np.all(abs(matrix.sum(axis=1) - 1) <= 1e-9)):
        raise ParameterError("a law is stationary under a matrix whose rows are nonnegative and sum to one")
    return matrix


def _settled(chain: Any) -> Floats:
    """What a uniform law of mass N has become after a while, (N,)."""
    law, step = np.ones(chain.shape[0]), chain.T.tocsr()
    for _ in range(SETTLING):
        law = step @ law
    settled: Floats = law
    return settled


def _heaviest(law: Floats, member: NDArray[np.intp]) -> NDArray[np.intp]:
    """The node of each class that has most mass."""
    order = np.lexsort((law, member))
    last: NDArray[np.intp] = order[np.append(np.diff(member[order]) > 0, True)]
    return last


def _arriving(matrix: Any, stays: NDArray[np.intp]) -> Floats:
    """Return the share of a uniform law that first arrives at each node that is not left for ever, (len(stays),)."""
    count = matrix.shape[0]
    left = np.setdiff1d(np.arange(count), stays)
    if not len(left):
        return np.full(count, 1 / count)
    out = matrix[left]
    visits = scipy.sparse.linalg.splu((scipy.sparse.eye_array(len(left)) - out[:, left]).T.tocsc()).solve(
        np.full(len(left), 1 / count)
    )
    arriving: Floats = 1 / count + visits @ out[:, stays]
    return arriving
