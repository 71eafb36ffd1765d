"""Expansion: Chebyshev polynomials of a total degree on a box, with their derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple, final

import numpy as np
from numpy.polynomial import chebyshev

from hacontrol_envs.arrays import Floats


class Motion(NamedTuple):
    """Motion of points in unit coordinates under given actions."""

    drift: Floats
    """Drift per unit of time, (N, k)."""
    columns: Floats
    """Noise columns, (N, k, d)."""

    def generator(self, slope: Floats, bend: Floats) -> Floats:
        """Return L f (N,) of a function with gradient `slope` (N, k) and Hessian `bend` (N, k, k)."""
        second = (self.columns * (bend @ self.columns)).sum(axis=(1, 2))
        return np.asarray((self.drift * slope).sum(axis=1) + second / 2)


@final
class Expansion:
    """The K products of Chebyshev polynomials T_{k_1}(z_1) ... T_{k_n}(z_n) of total degree at most `degree`.

    z are the coordinates of a box scaled to [-1, 1]^n.
    """

    def __init__(self, low: Floats, high: Floats, degree: int, last: int | None = None) -> None:
        """Choose polynomials.

        Args:
            low: least values of the box, (n,).
            high: largest values, (n,).
            degree: the total degree.
            last: degree in the last coordinate, where the total degree is that of the others; None for no difference.
        """
        apart = [] if last is None else [last + 1]
        self.center, self.half, self.degree = (low + high) / 2, (high - low) / 2, max(degree, last or 0)
        together = len(low) - len(apart)
        counts = itertools.product(*map(range, [*[degree + 1] * together, *apart]))
        powers = (p for p in counts if sum(p[:together]) <= degree)
        self.powers = np.array(sorted(powers, key=sum))
        unit = np.eye(self.degree + 1)
        self._first, self._second = (
            np.stack(
                [np.pad(d := chebyshev.chebder(row, order), (0, self.degree + 1 - len(d))) for row in unit], axis=1
            )
            for order in (1, 2)
        )

    def __len__(self) -> int:
        return len(self.powers)

    def _factors(self, s: Floats, orders: int = 3) -> list[list[Floats]]:
        """Return the polynomials' first so many derivatives, (N, K), by order and coordinate, at points s (N, n)."""
        table = chebyshev.chebvander((s - self.center) / self.half, self.degree)
        tables: list[Floats] = [np.asarray(table, dtype=np.float64)]
        for order, matrix in zip((1, 2)[: orders - 1], (self._first, self._second), strict=False):
            tables.append(table @ matrix / self.half[:, None] ** order)
        return [[of[:, i, self.powers[:, i]] for i in range(s.shape[1])] for of in tables]

    def values(self, s: Floats) -> Floats:
        """Return the polynomials, (N, K), at points s (N, n)."""
        return _product(self._factors(s, 1), {})

    def slopes(self, s: Floats, i: int) -> Floats:
        """Return the polynomials' derivatives in the coordinate i, (N, K), at points s (N, n)."""
        return _product(self._factors(s, 2), {i: 1})

    def sum(self, s: Floats, weights: Floats, order: Mapping[int, int] | None = None) -> Floats:
        """Return the sum with weights (K,), or a derivative of it, (N,), at points s (N, n).

        Args:
            s: points.
            weights: weights of the polynomials.
            order: 1 for the coordinate in which the first derivative is taken; None for the sum itself.
        """
        table, n = chebyshev.chebvander((s - self.center) / self.half, self.degree), s.shape[1]
        left = np.zeros((self.degree + 1,) * n)
        left[tuple(self.powers.T)] = weights
        for i in range(n):
            own = table[:, i] @ self._first / self.half[i] if order and order.get(i) else table[:, i]
            rest = left.reshape(*left.shape[: i > 0], self.degree + 1, (self.degree + 1) ** (n - 1 - i))
            left = own @ rest if i == 0 else np.einsum("nd,ndk->nk", own, rest)
        return np.asarray(left.reshape(len(s)), dtype=np.float64)

    def moved(self, s: Floats, motion: Motion) -> tuple[Floats, Floats, Floats]:
        """Return the polynomials (N, K), their generators (N, K), and slopes along noise columns (N, K, d).

        Args:
            s: points, (N, n).
            motion: their motion.
        """
        factors, axes = self._factors(s), range(s.shape[1])
        covariance = np.einsum("nid,njd->nij", motion.columns, motion.columns)
        slopes = [_product(factors, {i: 1}) for i in axes]
        L = sum(motion.drift[:, i, None] * slopes[i] for i in axes)
        for i, j in itertools.combinations_with_replacement(axes, 2):
            shared = covariance[:, i, j, None]
            if shared.any():
                L = L + (shared / 2 * _product(factors, {i: 2}) if i == j else shared * _product(factors, {i: 1, j: 1}))
        along = np.sum([slopes[i][:, :, None] * motion.columns[:, i, None, :] for i in axes], axis=0)
        return _product(factors, {}), np.asarray(L), along

    def jet(self, s: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the value (N,), gradient (N, n) and Hessian (N, n, n) of the sum with weights (K,), at s (N, n)."""
        factors, n = self._factors(s), s.shape[1]
        bend = np.empty((len(s), n, n))
        for i, j in itertools.combinations_with_replacement(range(n), 2):
            bend[:, i, j] = bend[:, j, i] = _product(factors, {i: 2} if i == j else {i: 1, j: 1}) @ weights
        slope = np.stack([_product(factors, {i: 1}) @ weights for i in range(n)], axis=1)
        return _product(factors, {}) @ weights, slope, bend


def _product(factors: list[list[Floats]], orders: Mapping[int, int]) -> Floats:
    """Return the product over coordinates of their polynomials, each differentiated as often as `orders` says."""
    return reduce(np.multiply, [factors[orders.get(i, 0)][i] for i in range(len(factors[0]))])
