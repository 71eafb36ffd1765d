"""What a span of optimal control does to a quadratic cost, how spans are doubled, and which states a cost sees."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hacontrol_envs.arrays import Floats

SERIES = 16
"""Terms of the exponential series, which is used for matrices of norm 1/2 at most."""
DOUBLINGS = 200
"""After so many doublings a cost that still grows is taken to be infinite."""
EPS = float(np.finfo(np.float64).eps)
DISTINCT, DOUBTFUL = 4 * EPS, 1e-13
"""Links between states and the cost, relative to the largest: below `DISTINCT` n they are rounding, above `DOUBTFUL`
they are meant; in between nobody can tell."""


class Span(NamedTuple):
    """The map P -> H + E'P (I + G P)^{-1} E, E = I + change, from the cost x'Px at the end of a span to its beginning.

    H (..., n, n) is the least cost of the span itself, G that which control can reach; both are positive semidefinite,
    and doubling a span only adds to them (Anderson, 1978; Chu, Fan and Lin, 2005): nothing cancels, however stiff or
    unstable the system. E and change are both kept, since E - I is lost to rounding where it is small, and E where it
    is.
    """

    E: Floats
    change: Floats
    G: Floats
    H: Floats

    def __call__(self, P: Floats) -> Floats:
        """The cost at the beginning, (..., n, n)."""
        left = symmetric(_solved(np.eye(P.shape[-1]) + P @ self.G, P))
        return self.H + symmetric(_transposed(self.E) @ left @ self.E)

    def twice(self) -> Span:
        """The span followed by itself."""
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
    """Spans of these lengths (...) of dP/dtau = Q + A'P + PA - PSP, by the exponential of the Hamiltonian matrix.

    The longest may be 1/2 of `pace`. U = exp(tau [[-A, S], [Q, A']]) gives E = U_11^{-1}, G = E U_12, H = U_21 E.
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
    """A time in which little happens: 1 / (2 norm of the Hamiltonian matrix)."""
    size = np.abs(np.block([[A, S], [Q, A.T]])).sum(axis=0).max()
    return float(1 / (2 * size)) if size > 0 else 1.0


def limit(span: Span) -> Floats | None:
    """The cost of doubling a span without end, (n, n): the least solution of its Riccati equation; None if infinite."""
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

    T: Floats
    """(k, n); one row of zeros where nothing costs anything."""
    back: Floats
    """(n, k): T back = I, but for that case."""


def seen(A: Floats, Q: Floats, tolerance: float) -> Seen:
    """The states that x'Qx sees through dX = A x dt, in coordinates in which they cost alike.

    The cost of x_i is scaled by the weightiest chain of entries of A by which it reaches Q, so that a weak link is not
    mistaken for rounding, and states that no chain connects are left out exactly. Among the others directions whose
    links are below `tolerance` (relative to the largest) are left out, too; they are found by a staircase of
    orthogonal projections (Van Dooren, 1981).
    """
    n = len(A)
    weight, largest = _weights(A, Q)
    kept = np.flatnonzero(np.isfinite(weight))
    if not len(kept):
        return Seen(np.zeros((1, n)), np.zeros((n, 1)))
    w = np.exp2(np.rint(weight[kept]))
    inner, cost = A[np.ix_(kept, kept)] * np.outer(w, 1 / w), (Q / np.abs(Q).max())[np.ix_(kept, kept)] / np.outer(w, w)
    V = _staircase(inner, cost, largest, tolerance * len(kept))
    T, back = np.zeros((len(V), n)), np.zeros((n, len(V)))
    T[:, kept], back[kept] = V * w, (V / w).T
    return Seen(T, back)


def _weights(A: Floats, Q: Floats) -> tuple[Floats, float]:
    """log2 of the weightiest chain from each state to the cost, (n,), -inf where there is none; A's largest link."""
    n = len(A)
    links = np.abs(A - np.diag(np.diag(A)))
    largest = float(links.max())
    with np.errstate(divide="ignore"):
        direct = (np.log2(np.diag(Q)) - np.log2(np.diag(Q).max())) / 2 if np.any(Q) else np.full(n, -np.inf)
        steps = np.log2(links / largest) if largest > 0 else np.full((n, n), -np.inf)
    weight = direct
    for _ in range(n):
        weight = np.maximum(direct, (steps + weight[:, None]).max(axis=0))
    return weight, largest


def _staircase(A: Floats, Q: Floats, link: float, tolerance: float) -> Floats:
    """Orthonormal rows (k, n) that span what is observable; the identity where that is everything."""
    n = len(A)
    values, vectors = np.linalg.eigh(Q)
    V: Floats = vectors[:, values > tolerance * values[-1]].T
    while len(V) < n:
        size = link if np.count_nonzero(V) == len(V) else float(np.linalg.norm(A, 2))
        moved = V @ A
        _, links, directions = np.linalg.svd(moved - moved @ V.T @ V)
        more = directions[: len(links)][links > tolerance * size]
        if not len(more):
            break
        V = np.linalg.qr(np.vstack([V, more]).T)[0].T[: min(n, len(V) + len(more))]
    return V if len(V) < n else np.eye(n)


def symmetric(M: NDArray[Any]) -> Floats:
    """(M + M')/2, (..., n, n)."""
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
