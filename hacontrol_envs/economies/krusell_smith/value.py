"""HouseholdValue: the value of the reference solution's policy to a household, on the grid.

V = u(c) + beta E V', linear in V, is solved by GMRES. Between nodes of assets V is the cubic of Hermite, whose slopes
are known: V_a = (1 + r) u'(c) by the envelope theorem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
import scipy

from hacontrol_envs.arrays import Floats
from hacontrol_envs.errors import EquilibriumError
from hacontrol_envs.numerics.hermite import hermite

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution

TOLERANCE = 1e-9
"""Relative tolerance of GMRES for V."""


@final
class HouseholdValue:
    """The value V of own assets, e, Z, K and the moment v, under the beliefs of a reference solution.

    Raises:
        EquilibriumError: it was not found.
    """

    def __init__(self, solution: ReferenceSolution) -> None:
        economy, nodes, beliefs = solution.economy, solution.nodes, solution.beliefs
        n_z, n_e = economy.earnings.shape
        self._nodes, self._assets, z = nodes, economy.assets, np.arange(n_z)
        x, v = nodes.points
        saving = solution.saving_on_grid(z[:, None], np.exp(x), v)  # (n_z, n_k, n_e, n_a)
        capital, e = np.exp(x)[:, None, None], np.arange(n_e)[:, None]
        cash = economy.cash(economy.assets, e, z[:, None, None, None], capital)
        if not np.all(cash > saving):
            raise EquilibriumError(
                "the value of the reference policy is not finite: at some nodes nothing is left to consume, as "
                f"without assets and income at borrowing_limit={economy.borrowing_limit:g}"
            )
        gross = 1 + economy.prices(np.exp(x), z[:, None]).interest_rate
        self._slopes: Floats = gross[..., None, None] * economy.marginal_utility(cash - saving)
        following, v_following = beliefs(x, v, z[:, None])
        weights = nodes.weights(*np.broadcast_arrays(following[..., None], v_following))  # (n_z, n_k, n_z, n_k)
        chain = economy.aggregate_chain[:, :, None, None] * economy.income_chain  # (n_z, n_z', n_e, n_e')

        def ahead(values: Floats) -> Floats:
            """The expectation over (e', Z') of values (n_z, n_k, n_e, n_a) at each node of a', (n_z, n_k, n_e, n_a)."""
            tomorrow = np.einsum("zkyj,yjfa->zkyfa", weights, values, optimize=True)
            met: Floats = np.einsum("zyef,zkyfa->zkea", chain, tomorrow, optimize=True)
            return met

        place, parts = hermite(self._assets, saving)
        beta, shape = economy.discount_factor, saving.shape

        def step(flat: Floats) -> Floats:
            """beta E V' as far as it is linear in V."""
            values = ahead(flat.reshape(shape))
            low, high = (np.take_along_axis(values, at, axis=-1) for at in (place, place + 1))
            return beta * (parts[0] * low + parts[1] * high).ravel()

        slopes = ahead(self._slopes)
        low, high = (np.take_along_axis(slopes, at, axis=-1) for at in (place, place + 1))
        right = (economy.utility(cash - saving) + beta * (parts[2] * low + parts[3] * high)).ravel()
        operator = scipy.sparse.linalg.LinearOperator(
            (right.size, right.size), matvec=lambda flat: flat - step(flat), dtype=np.float64
        )
        found, stopped = scipy.sparse.linalg.gmres(
            operator, right, x0=right / (1 - beta), rtol=TOLERANCE, restart=40, maxiter=50
        )
        if stopped or not np.all(np.isfinite(found)):
            raise EquilibriumError("the value of the reference policy was not found")
        self._values: Floats = found.reshape(shape)

    def __call__(self, assets: Any, e: Any, z: Any, capital: Any, v: Any) -> Floats:
        """Return V, broadcasting; beyond the grid it is continued by its slope."""
        own, states, now, K, moment = np.broadcast_arrays(np.asarray(assets, dtype=np.float64), e, z, capital, v)
        weights = self._nodes.weights(np.log(K), moment)
        inside = np.clip(own, self._assets[0], self._assets[-1])
        place, parts = hermite(self._assets, inside)
        total = np.zeros(own.shape)
        for table, at, part in zip(
            (self._values, self._values, self._slopes, self._slopes),
            (place, place + 1, place, place + 1),
            (*parts[:2], parts[2] + (own - inside) * (own < inside), parts[3] + (own - inside) * (own > inside)),
            strict=True,
        ):
            total += part * np.sum(weights * table[now, :, states, at], axis=-1)
        return total
