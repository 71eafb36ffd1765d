"""The move of a population's law from one period to the next, as an operator: `law @ T`, `T @ values`, `T.T`.

Households hold assets a_j and an idiosyncratic state e; a law is their masses (..., n_e, n_a), summing to one. T moves
each to its choice a' by Young's lottery and then e to e' by the shock's matrix, and so is to a discrete-time economy
what the adjoint of a generator is to a diffusion: (law @ T) . V = law . (T @ V), with T @ V = E[V(a', e') | a, e].
A law that does not move solves law @ (T - 1) = 0, in the same shape as the stationary Fokker-Planck equation L'm = 0,
and by the same sparse solution (`numerics.stationary`).

Young, E. (2010). Solving the incomplete markets model with aggregate uncertainty using the Krusell-Smith algorithm and
non-stochastic simulations. Journal of Economic Dynamics and Control 34, 36-41.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics import lottery
from hacontrol_envs.numerics.stationary import stationary

__all__ = ["Adjoint", "Ends", "Transport", "stationary_law"]

CHUNK = 32768
"""Cells that are located at a time, few enough to be in the cache still when they are moved."""


class Ends(NamedTuple):
    """Masses (...) at the ends of the grid, one for each economy."""

    top: Floats
    """Mass at the highest node after the move. Where it is not negligible the grid is too short."""
    above: Floats
    """Mass whose choice lies above the grid; the lottery takes its highest node instead."""
    below: Floats
    """Mass whose choice lies below the grid; the lottery takes its lowest node instead."""


@final
class Transport:
    """T for a batch of economies, of any leading axes: law'(k, f) = sum over (j, e) of law(j, e) w_k(a'(j, e)) P(e, f).

    w_k are the lottery's weights, with which mass and mean assets are conserved to rounding and no mass is negative.
    Choices beyond the grid are taken to be its ends; `ends` tells how much mass that concerns. Choices need not be
    monotone. Results are float32 where law and choice are, else float64; sums within an economy are float64.

    Args:
        assets: a_j, (n_a,), increasing.
        choice: a' at each cell, (..., n_e, n_a); not copied, and so not to be changed while T is in use.
        shock: P(e, e') = Prob(e' | e), (n_e, n_e) or (..., n_e, n_e).

    Raises:
        ParameterError: shapes that do not fit, assets that do not increase, choices that are not finite numbers, or
            rows of the shock's matrix that are not probabilities (to within 1e-9; they are made to sum to one beyond
            rounding, by their largest entries).
    """

    __array_ufunc__ = None
    """NumPy leaves `law @ T` to T."""

    def __init__(self, assets: ArrayLike, choice: ArrayLike, shock: ArrayLike) -> None:
        self.assets: Floats = np.ascontiguousarray(_reals("assets", assets), dtype=np.float64)
        self._lookup = lottery.lookup(self.assets)
        self.choice = np.ascontiguousarray(_reals("choice", choice))
        self.shock = np.array(_reals("shock", shock), dtype=np.float64, order="C")
        self._cells = (self.shock.shape[-1] if self.shock.ndim > 1 else 0, len(self.assets))
        self._check()
        self.batch = _common(self.choice, self.shock)

    def _check(self) -> None:
        n_e, n_a = self._cells
        if self.choice.ndim < 2 or self.choice.shape[-2:] != (n_e, n_a) or not n_e:
            raise ParameterError(
                f"choice must have shape (..., n_e, n_a) where shock is (..., n_e, n_e) and assets (n_a,); "
                f"got choice {self.choice.shape}, shock {self.shock.shape} and assets ({n_a},)"
            )
        if not lottery.all_finite(self.choice.reshape(-1, n_a)):
            strays = np.argwhere(~np.isfinite(self.choice))
            raise ParameterError(
                f"choices of assets must be finite numbers, but {len(strays)} of {self.choice.size} are not, the first "
                f"at index {tuple(map(int, strays[0]))}: {self.choice[tuple(strays[0])]}"
            )
        if self.shock.shape[-2] != n_e or not lottery.close_rows(self.shock.reshape(-1, n_e, n_e)):
            raise ParameterError(f"rows of shock must be probabilities that sum to one, got {self.shock!r}")

    def __rmatmul__(self, law: ArrayLike) -> NDArray[Any]:
        """The law moved, (..., n_e, n_a)."""
        return self._run(lottery.push, self._read("a law", law))[0]

    def __matmul__(self, values: ArrayLike) -> NDArray[Any]:
        """E[values(a', e') | a, e], (..., n_e, n_a)."""
        return self._run(lottery.pull, self._read("values", values))[0]

    @property
    def T(self) -> Adjoint:
        """The adjoint operator: `T.T @ law` is `law @ T`, and `values @ T.T` is `T @ values`."""
        return Adjoint(self)

    def gradients(self, law: ArrayLike, values: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the derivatives of (law @ T) . values in the law, T @ values, and in the choice: (..., n_e, n_a) each.

        That in the choice is law times the slope of E[values(a', e')] in a', at a node that to its right, and zero
        where the choice lies beyond the grid.
        """
        loop = partial(lottery.pull_with_slope, self._lookup.low, self._lookup.high, self._lookup.inverse)
        inputs = self._read("values", values), self._read("a law", law), self.choice
        in_law, in_choice = self._run(loop, *inputs, results=2)
        return in_law, in_choice

    def ends(self, law: ArrayLike) -> Ends:
        """Return the mass of a law that ends at the top of the grid, and the masses that chose to leave it."""
        mass = self._read("a law", law)
        beyond = (self.choice > self.assets[-1], self.choice < self.assets[0])
        above, below = (np.sum(np.where(where, mass, 0), axis=(-2, -1)) for where in beyond)
        return Ends((mass @ self)[..., -1].sum(axis=-1), above, below)

    def matrix(self) -> Any:
        """Return T of one economy, sparse (N, N) with N = n_e n_a and cells in C order; rows sum to one.

        Raises:
            ParameterError: a batch of more than one economy.
        """
        if math.prod(self.batch) != 1:
            raise ParameterError(f"matrix() is of one economy, but this transport moves a batch {self.batch} of them")
        n_e, n_a = self._cells
        k, w = self._locate(
            self.choice.reshape(1, n_e, n_a), np.empty((1, n_e, n_a), np.int32), np.empty((1, n_e, n_a))
        )
        shares = self.shock.reshape(n_e, 1, n_e, 1) * np.stack([1 - w[0], w[0]], axis=-1)[:, :, None]
        columns = n_a * np.arange(n_e)[:, None] + k[0][:, :, None, None] + np.arange(2)
        starts = np.arange(0, shares.size + 1, 2 * n_e)
        matrix = scipy.sparse.csr_array((shares.ravel(), columns.ravel(), starts), shape=(n_e * n_a, n_e * n_a))
        matrix.eliminate_zeros()
        return matrix

    def _read(self, name: str, given: ArrayLike) -> NDArray[Any]:
        array = _reals(name, given)
        if array.shape[-2:] != self._cells:
            raise ParameterError(f"{name} must have shape (..., n_e, n_a) = (..., {self._cells}), got {array.shape}")
        return array

    def _run(self, loop: Callable[..., None], *inputs: NDArray[Any], results: int = 1) -> list[NDArray[Any]]:
        """Call `loop(*inputs, k, w, shock, *results)` on a chunk of economies at a time."""
        batch = _common(self.choice, self.shock, *inputs)
        flat = [_flat(x, batch) for x in (self.choice, self.shock, *inputs)]
        kind = np.result_type(self.choice, *inputs)
        out = [np.empty((math.prod(batch), *self._cells), kind) for _ in range(results)]
        size = max(1, CHUNK // math.prod(self._cells))
        k, w = (np.empty((min(size, len(flat[0])), *self._cells), kept) for kept in (np.int32, np.float64))
        for start in range(0, len(out[0]), size):
            rows = slice(start, start + size)
            choice, shock, *parts = (x if len(x) == 1 else x[rows] for x in flat)
            loop(*parts, *self._locate(choice, k, w), shock, *(x[rows] for x in out))
        return [x.reshape(*batch, *self._cells) for x in out]

    def _locate(self, choice: NDArray[Any], k: lottery.Nodes, w: Floats) -> tuple[lottery.Nodes, Floats]:
        """k and w of choices (M, n_e, n_a), in the first M rows of these."""
        k, w = k[: len(choice)], w[: len(choice)]
        rows = choice.reshape(-1, self._cells[1])
        lottery.locate(rows, *self._lookup, k.reshape(rows.shape), w.reshape(rows.shape))
        return k, w


@final
class Adjoint:
    """A `Transport` with its sides swapped: `Adjoint @ law` and `values @ Adjoint`."""

    __array_ufunc__ = None

    def __init__(self, transport: Transport) -> None:
        self.T = transport

    def __matmul__(self, law: ArrayLike) -> NDArray[Any]:
        """The law moved, (..., n_e, n_a)."""
        return law @ self.T

    def __rmatmul__(self, values: ArrayLike) -> NDArray[Any]:
        """E[values(a', e') | a, e], (..., n_e, n_a)."""
        return self.T @ values

    def matrix(self) -> Any:
        """Return the transposed matrix of one economy."""
        return self.T.matrix().T.tocsr()


def stationary_law(operator: Transport | Any) -> Floats:
    """Find the law with law @ T = law, nonnegative and of mass one: (n_e, n_a) of a `Transport`, (N,) of a matrix.

    Args:
        operator: a `Transport` of one economy, or a square matrix with nonnegative rows that sum to one, sparse or not.

    Raises:
        ParameterError: another kind of operator or matrix.
        EquilibriumError: no law is found that stays where it is.
    """
    if isinstance(operator, Transport):
        return stationary(operator.matrix()).reshape(operator.choice.shape[-2:])
    return stationary(operator)


def _reals(name: str, given: ArrayLike) -> NDArray[Any]:
    """An array of real numbers, float32 if it is that, else float64."""
    try:
        array = np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ParameterError(f"{name} must be an array of real numbers, got {type(given).__name__}") from error
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise ParameterError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _common(*arrays: NDArray[Any]) -> tuple[int, ...]:
    """The leading axes of all of these together."""
    try:
        return np.broadcast_shapes(*(array.shape[:-2] for array in arrays))
    except ValueError as error:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise ParameterError(f"leading axes, one place for each economy, do not fit together: {shapes}") from error


def _flat(array: NDArray[Any], batch: tuple[int, ...]) -> NDArray[Any]:
    """With one leading axis, of one row or of one for each economy."""
    cell = array.shape[-2:]
    if array.shape[:-2] not in (batch, (1,) * (array.ndim - 2)):
        array = np.broadcast_to(array, (*batch, *cell))
    return np.ascontiguousarray(array.reshape(-1, *cell))
