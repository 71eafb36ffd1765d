"""Maps of a quadratic cost over a span of optimal control, doubling of spans, and the states that a cost sees."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats

SERIES = 16
"""Terms of the exponential series, which is used for matrices of norm 1/2 at most."""
DOUBLINGS = 200
"""Doublings after which a cost that still grows is taken to be infinite."""
CONTEXT = Context(prec=100)
"""Context of decimals in which floats of very different sizes add up without rounding."""
EPS = float(np.finfo(np.float64).eps)
DISTINCT, DOUBTFUL = 4 * EPS, 1e-13
"""What is left of links between states and the cost, relative to what cancels in them: below `DISTINCT` n it is
rounding, above `DOUBTFUL` n it is meant; in between nobody can tell."""
decimals = np.vectorize(Decimal, otypes=[object])


class Span(NamedTuple):
    """The map P -> H + E'P (I + G P)^{-1} E, E = I + change, from the cost x'Px at the end of a span to its beginning.

    H (..., n, n) is the least cost of the span itself, G that which control can reach; both are positive semidefinite,
    and doubling a span only adds to them (Anderson, 1978; Chu, Fan and Lin, 2005): nothing cancels, however stiff or
    unstable the system. E and change are both kept, since E - I is lost to rounding where it is small, and E where it
    is.
    """

    E: Floats
    """Motion of the state over the span under the best control, in the absence of later costs, (..., n, n)."""
    change: Floats
    """E - I, (..., n, n)."""
    G: Floats
    """Reach of control over the span, (..., n, n)."""
    H: Floats
    """Least cost of the span, (..., n, n)."""

    def __call__(self, P: Floats) -> Floats:
        """The cost at the beginning, (..., n, n)."""
        left = symmetric(_solved(np.eye(P.shape[-1]) + P @ self.G, P))
        return self.H + symmetric(_transposed(self.E) @ left @ self.E)

    def twice(self) -> Span:
        """Return the span followed by itself."""
        E, change, G, H = self
        eye = np.eye(E.shape[-1])
        both = _solved(eye + G @ H, np.concatenate([G @ H @ E, E, G @ _transposed(E)], axis=-1))
        lost, kept, reach = np.split(both, 3, axis=-1)
        changed, far = 2 * change + change @ change - E @ lost, E @ kept
        small = np.abs(changed) < 0.5
        return Span(
            np.where(small, eye + changed, far),
            np.where(small, changed, far - eye),
            G + symmetric(E @ reach),
            H + symmetric(_transposed(E) @ H @ kept),
        )


def short_span(A: Floats, S: Floats, Q: Floats, times: Floats) -> Span:
    """Return spans of dP/dtau = Q + A'P + PA - PSP, by the exponential of the Hamiltonian matrix.

    U = exp(tau [[-A, S], [Q, A']]) gives E = U_11^{-1}, G = E U_12, H = U_21 E.

    Args:
        A, S, Q: matrices of the equation, (n, n).
        times: lengths of the spans, (...), at most 1/2 of `pace`.
    """
    n = len(A)
    X = np.block([[-A, S], [Q, A.T]]) * np.asarray(times)[..., None, None]
    grown = np.zeros_like(X)
    for k in range(SERIES, 0, -1):
        grown = X @ (np.eye(2 * n) + grown) / k
    U, beside, below = np.eye(n) + grown[..., :n, :n], grown[..., :n, n:], grown[..., n:, :n]
    solved = np.linalg.solve(U, np.concatenate([grown[..., :n, :n], beside], axis=-1))
    change = -solved[..., :n]
    E = np.eye(n) + change
    return Span(E, change, symmetric(solved[..., n:]), symmetric(below @ E))


def pace(A: Floats, S: Floats, Q: Floats) -> float:
    """Return a time in which little happens: 1 / (2 norm of the Hamiltonian matrix).

    Args:
        A, S, Q: matrices of the equation dP/dtau = Q + A'P + PA - PSP, (n, n).
    """
    size = np.abs(np.block([[A, S], [Q, A.T]])).sum(axis=0).max()
    return float(1 / (2 * size)) if size > 0 else 1.0


def limit(span: Span) -> Floats | None:
    """Return the cost of doubling a span without end, (n, n), the least solution of its equation; None if infinite."""
    for _ in range(DOUBLINGS):
        before = np.diag(span.H)
        span = span.twice()
        if not all(np.isfinite(part).all() for part in span):
            return None
        if np.all(np.diag(span.H) - before <= EPS / 2 * before):
            return span.H
    return None


class Seen(NamedTuple):
    """The part y = T x of the state that a cost depends on, now or later: the quotient by what is unobservable."""

    T: NDArray[Any]
    """(k, n), long decimals; one row of zeros where nothing costs anything."""
    states: NDArray[np.intp]
    """Numbers of k of the n states, which are y where the others are zero: T, unless zero, is the identity on them."""


def moved(T: NDArray[Any], part: Floats, tolerance: float) -> Floats:
    """Return T part, with zeros where it is below `tolerance` n of what cancels in it.

    Args:
        T: decimals, (k, n).
        part: floats, (n, m).
        tolerance: relative size of what counts as zero.
    """
    with localcontext(CONTEXT):
        exact = decimals(part)
        return _cleaned(T @ exact, abs(T) @ abs(exact), tolerance).astype(np.float64)


def seen(A: Floats, costs: Sequence[Floats], tolerance: float, order: Sequence[int] | None = None) -> Seen:
    """Find the states that costs x'Qx see through dX = A x dt: rows of Q, Q A, Q A^2, ... by Gaussian elimination.

    It is done in long decimals, which take floats as they are; what is left of an entry is rounding of the floats where
    it is below `tolerance` n of what cancels in it. A weak link, in which nothing cancels, is none, and states that no
    chain of entries connects to the cost are left out.

    Args:
        A: state matrix, (n, n).
        costs: matrices Q, (n, n) each.
        tolerance: relative size of what counts as rounding.
        order: numbers of the states: of those that can be kept the first in this order are; None takes 0, 1, ....
    """
    n, diagonals = len(A), [np.diag(Q) > 0 for Q in costs]
    T, states = np.zeros((0, n), dtype=object), list[int]()
    with localcontext(CONTEXT):
        A = decimals(A)
        rows = decimals(np.vstack([np.where(np.outer(d, d), Q, 0.0) for d, Q in zip(diagonals, costs, strict=True)]))
        sizes = abs(rows)
        while len(rows) and len(states) < n:
            for row, state in zip(T, states, strict=True):
                rows, sizes = _eliminated(rows, sizes, row, state)
            known = len(states)
            while len(states) < n:
                rows = _cleaned(rows, sizes, tolerance)
                at, state = divmod(int(abs(rows).argmax()), n)
                if rows[at, state] == 0:
                    break
                new = rows[at] / rows[at, state]
                rows, sizes = _eliminated(rows, sizes, new, state)
                T = np.vstack([T, new])
                states.append(state)
            rows, sizes = T[known:] @ A, abs(T[known:]) @ abs(A)
        if len(states) in (0, n):
            return Seen(decimals(np.eye(n) if states else np.zeros((1, n))), np.arange(max(1, len(states))))
        return _in_terms_of(T, range(n) if order is None else order, tolerance)


def _in_terms_of(T: NDArray[Any], order: Sequence[int], tolerance: float) -> Seen:
    """Combine rows so that they are the identity on the first states in an order on which they can be."""
    free, row_of = list(range(len(T))), dict[int, int]()
    for state in order:
        if not free or not T[free, state].any():
            continue
        row_of[state] = row = free.pop(int(abs(T[free, state]).argmax()))
        by = T[row] / T[row, state]
        T = _cleaned(*_eliminated(T, abs(T), by, state), tolerance)
        T[row] = by
    chosen = sorted(row_of)
    return Seen(T[[row_of[state] for state in chosen]], np.array(chosen))


def _eliminated(rows: NDArray[Any], sizes: NDArray[Any], by: Any, state: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows less the multiple of one, with 1 at this state, that leaves 0 there, and the sizes of what cancels."""
    taken = rows[:, [state]] * by
    left = rows - taken
    left[:, state] = 0
    return left, sizes + abs(taken)


def _cleaned(rows: NDArray[Any], sizes: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """Rows with zeros where they are rounding of floats of these sizes."""
    return np.where(abs(rows) > sizes * Decimal(tolerance * rows.shape[1]), rows, 0)


def symmetric(M: NDArray[Any]) -> Floats:
    """Return (M + M')/2, (..., n, n)."""
    half: Floats = (M + _transposed(M)) / 2
    return half


def _transposed(M: NDArray[Any]) -> Floats:
    turned: Floats = M.swapaxes(-1, -2)
    return turned


def _solved(M: Floats, right: Floats) -> Floats:
    """M^{-1} right; not a number where M, whose eigenvalues are at least 1, has outgrown what floats hold."""
    try:
        return np.asarray(np.linalg.solve(M, right), np.float64)
    except np.linalg.LinAlgError:
        return np.full(np.broadcast_shapes(M.shape[:-1] + right.shape[-1:], right.shape), np.nan)
