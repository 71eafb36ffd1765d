"""KrusellSmith: households with income risk, a capital market and aggregate productivity (Krusell and Smith 1998)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np

from hacontrol_envs.arrays import Array, Floats, like, namespace
from hacontrol_envs.core import parameters as read
from hacontrol_envs.core.registration import register_economy
from hacontrol_envs.core.solution import CrossSection
from hacontrol_envs.economies.economy import Economy
from hacontrol_envs.economies.krusell_smith import calibrations, solving, steady_state
from hacontrol_envs.economies.krusell_smith.conditions import KrusellSmithConditions
from hacontrol_envs.economies.krusell_smith.judge import HouseholdJudge
from hacontrol_envs.economies.krusell_smith.market import Households
from hacontrol_envs.errors import ParameterError
from hacontrol_envs.numerics import chains, egm
from hacontrol_envs.problems.income_fluctuation import IncomeFluctuation

if TYPE_CHECKING:
    from hacontrol_envs.economies.krusell_smith.solution import ReferenceSolution
    from hacontrol_envs.economies.krusell_smith.steady_state import SteadyState

MOST_NODES = 100_000
"""Largest number of nodes of assets: more would not fit into memory."""


LEAST_CAPITAL = 1e-30
"""Smallest capital at which prices are computed, so that they are finite. [goods]."""


class Prices(NamedTuple):
    """The prices of capital and labour, each (...)."""

    interest_rate: Array
    """Interest rate r, after depreciation. [1/quarter]."""
    wage: Array
    """Wage w. [goods per unit of labour]."""


@final
class KrusellSmith(Economy):
    """The economy of Krusell and Smith (1998), in quarters. Each of a continuum of households

        max E sum_t beta^t u(c_t),    c + a' = m = (1 + r) a + w y(e, Z),    a' >= a_min,    u = c^{1-gamma}/(1-gamma)

    (log at gamma = 1), where (e, Z) is a chain: P(Z'|Z), P(e'|e, Z, Z'). Firms pay marginal products,

        r = alpha Z (K/L)^{alpha-1} - delta,    w = (1 - alpha) Z (K/L)^alpha,    K the mean of a, L = L(Z).

    The state of the economy is Z and the law of (a, e), a histogram (n_e, n_a) of mass one at the beginning of the
    period: K is its mean of assets; a' moves it, by the lottery of Young (2010), and then e' does.

    Where no `asset_max` is given it is chosen: 400, or as many times the double as leave a share below 1e-6 of
    households and of output at the top of the steady state.

    Args:
        calibration: "ssj" or "jedc", the set of defaults; see `calibrations`.
        parameters: of the calibration, by name.

    Raises:
        ParameterError: parameters that make no sense.
    """

    judge = HouseholdJudge()
    parameter_lists = (calibrations.SSJ, calibrations.JEDC)
    solver = "reference_solution"
    example = """
        from hacontrol_envs import KrusellSmith

        economy = KrusellSmith(asset_nodes=60, asset_max=300.0)  # a coarse grid: about .3 % off
        economy.steady_state().impulse_response(shock=0.01).plot().savefig("response.png")
    """

    discount_factor: float
    """Discount factor beta, from one quarter to the next."""
    risk_aversion: float
    """Relative risk aversion gamma, one over the elasticity of intertemporal substitution."""
    capital_share: float
    """Capital's share alpha in output."""
    depreciation: float
    """Depreciation delta. [1/quarter]."""
    borrowing_limit: float
    """Least assets a_min. [goods]."""
    skill: Floats
    """Levels of e, (n_e,): productivity, or 0 unemployed and 1 employed."""
    productivity: Floats
    """Levels of Z, (n_z,)."""
    labour: Floats
    """Labour L by state of Z, (n_z,)."""
    earnings: Floats
    """Income y from work and insurance after tax per unit of the wage, (n_z, n_e)."""
    aggregate_chain: Floats
    """Transition probabilities P(Z'|Z), (n_z, n_z)."""
    income_chain: Floats
    """Transition probabilities P(e'|e, Z, Z'), (n_z, n_z, n_e, n_e) in the order Z, Z', e, e'."""

    def __init__(self, calibration: str = "ssj", **parameters: Any) -> None:
        every = calibrations.with_defaults(calibration, parameters)
        self._parameters = {"calibration": calibration, **{name: _plain(given) for name, given in parameters.items()}}
        self.discount_factor = _inside("discount_factor", every["discount_factor"])
        self.risk_aversion = 1 / read.number("intertemporal_elasticity", every["intertemporal_elasticity"], above=0.0)
        self.capital_share = _inside("capital_share", every["capital_share"])
        self.depreciation = read.number("depreciation", every["depreciation"], at_least=0.0)
        if self.depreciation > 1:
            raise ParameterError(f"depreciation must be at most 1, got {every['depreciation']!r}")
        self.borrowing_limit = read.number("borrowing_limit", every["borrowing_limit"])
        top = steady_state.FIRST_TOP if every["asset_max"] is None else every["asset_max"]
        self._given_top = read.number("asset_max", top, above=max(self.borrowing_limit, 0.0))
        self._nodes = read.count("asset_nodes", every["asset_nodes"], at_least=10, at_most=MOST_NODES)
        made = calibrations.processes(calibration, every)
        self.skill, self.productivity, self.labour = made.skill, made.productivity, made.labour
        self.earnings, self.aggregate_chain, self.income_chain = made.earnings, made.aggregate_chain, made.income_chain

    __signature__ = read.spelt_out(__init__, calibrations.EVERY)

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments as given, as JSON can hold them."""
        return self._parameters

    @cached_property
    def assets(self) -> Floats:
        """Nodes of the histogram, (n_a,), increasing from `borrowing_limit` to `asset_max`."""
        top = self._given_top
        if self.parameters.get("asset_max") is None:
            grid = "asset_max", "asset_nodes"
            others = {name: given for name, given in self.parameters.items() if name not in grid}
            top = _chosen_top(json.dumps(others, sort_keys=True))
        return egm.asset_grid(self.borrowing_limit, top, self._nodes)

    def prices(self, capital: Array, z: Any) -> Prices:
        """Return the prices at capital (...) in states z (...), whole numbers; NumPy or torch, broadcasting.

        Capital below `LEAST_CAPITAL` is raised to it: at zero capital the interest rate is infinite and the wage zero.
        """
        capital = _array(capital)
        capital = namespace(capital).where(capital < LEAST_CAPITAL, LEAST_CAPITAL, capital)
        alpha, labour = self.capital_share, _entry(self.labour, capital, z)
        xp = namespace(capital)
        intensity = capital / labour
        # By logs: a power takes several times as long, and so does its derivative.
        product = _entry(self.productivity, capital, z) * xp.exp((alpha - 1) * xp.log(intensity))
        return Prices(alpha * product - self.depreciation, (1 - alpha) * product * intensity)

    def cash(self, assets: Array, e: Any, z: Any, capital: Array) -> Array:
        """Return cash on hand, m = (1 + r) a + w y, of arrays that broadcast against each other.

        Args:
            assets: own assets a. [goods].
            e: numbers of the households' income states.
            z: numbers of the states of Z.
            capital: K, which determines prices. [goods].
        """
        assets, capital = _array(assets), _array(capital)
        prices = self.prices(capital, z)
        return (1 + prices.interest_rate) * assets + prices.wage * _entry(self.earnings, capital, z, e)

    def utility(self, c: Array) -> Array:
        """Return the utility u(c) of consumption."""
        c, gamma = _array(c), self.risk_aversion
        return namespace(c).log(c) if gamma == 1 else c ** (1 - gamma) / (1 - gamma)

    def marginal_utility(self, c: Array) -> Array:
        """Return u'(c) = c^{-gamma}."""
        return _array(c) ** -self.risk_aversion

    def inverse_marginal_utility(self, u: Array) -> Array:
        """Return the c with u'(c) = u."""
        return _array(u) ** (-1 / self.risk_aversion)

    def capital_of(self, law: Array) -> Array:
        """Return K, the mean assets (...) of laws (..., n_e, n_a)."""
        law = _array(law)
        return namespace(law).sum(law * like(self.assets, law), axis=(-2, -1))

    def conditions(self) -> KrusellSmithConditions:
        """Return the Euler equation of its households, and the law that their savings make."""
        return KrusellSmithConditions(self)

    @cached_property
    def joint_law(self) -> Floats:
        """The stationary law of (Z, e), (n_z, n_e)."""
        n_z, n_e = self.earnings.shape
        joint = np.einsum("zy,zyef->zeyf", self.aggregate_chain, self.income_chain).reshape(n_z * n_e, n_z * n_e)
        return chains.stationary(joint).reshape(n_z, n_e)

    @cached_property
    def _steady_state(self) -> SteadyState:
        return steady_state.solve(self)

    def steady_state(self, *, cut: bool = False) -> SteadyState:
        """Solve for the stationary equilibrium with Z, L, earnings and P(e'|e) at their means; see `SteadyState`.

        Warns with TruncationWarning where more than 1e-4 of households are at the top of the grid, or of output is lost
        there. If several interest rates clear the market, it is at the first of them that the search meets.

        Args:
            cut: return it however much the grid cuts off, and do not warn: an environment may begin there, but figures
                of the economy cannot be computed from it.

        Raises:
            EquilibriumError: there is none, its law of assets is not determined, or the grid cuts off more than 1 %.
            NumericalError: the one found does not clear the markets.
        """
        found = self._steady_state
        if not cut:
            steady_state.check_top(self, "steady state", found.share_at_top, found.output_lost)
        return found

    def equilibrium(self) -> SteadyState:
        """Solve for the stationary equilibrium; see `steady_state`."""
        return self.steady_state()

    @cached_property
    def _households(self) -> Households:
        return Households(self)

    @property
    def signal_bounds(self) -> tuple[float, float]:
        """Interest rates between which that of the steady state lies; see `Households.intervals`."""
        return self._households.intervals()[0]

    def first_guess(self) -> float:
        """Return the interest rate in the middle of its bounds."""
        return sum(self.signal_bounds) / 2

    def individual(self, signal: float | Floats) -> IncomeFluctuation:
        """Return a household at the interest rate `signal` and the wage that goes with it, all else at its mean.

        Raises:
            ParameterError: an interest rate at which it saves without bound, or may have nothing to consume.
        """
        r, mean = float(signal), self._households.averages
        return IncomeFluctuation(
            interest_rate=r,
            income=tuple((self._households.wage(r) * mean.earnings).tolist()),
            chain=tuple(map(tuple, mean.chain.tolist())),
            discount_factor=self.discount_factor,
            risk_aversion=self.risk_aversion,
            borrowing_limit=self.borrowing_limit,
            asset_max=float(self.assets[-1]),
            asset_nodes=len(self.assets),
        )

    def respond(self, signal: float | Floats, policy: Callable[[Any, Floats], Any]) -> CrossSection:
        """Find the stationary law of households who save the shares (..., 1) of a policy at states x = (a, e)."""
        return self.individual(signal).cross_section(policy)

    def gap(self, signal: float | Floats, law: CrossSection) -> float:
        """Return (S - D)/(S + D) of capital supplied, E[a], and demanded at the interest rate, both above the limit."""
        supply = float(law.mean(law.x[:, 0])) - self.borrowing_limit
        demand = self._households.demand(float(signal)) - self.borrowing_limit
        return (supply - demand) / (supply + demand)

    @cached_property
    def _solutions(self) -> dict[str, ReferenceSolution]:
        return {}

    def reference_solution(
        self, progress: bool = False, *, beliefs: str = "two moments", cut: bool = False
    ) -> ReferenceSolution:
        """Solve for the equilibrium with aggregate risk by endogenous grids, and judge it by Euler and Den Haan errors.

        It is computed once, and kept on disk; see `ReferenceSolution`.

        Args:
            progress: show a progress bar, where rich is installed.
            beliefs: what households forecast capital by: "log-linear" in K as published, "quadratic", or "two moments",
                that is K and a moment of the law, as exact as the rest.
            cut: return it however much the grid cuts off, and do not warn; see `steady_state`.

        Raises:
            EquilibriumError: none was found, or the grid cuts off more than 1 % of households or of output.
            NumericalError: what was found fails its own test.
            ParameterError: other beliefs.
        """
        if not cut:
            self.steady_state()  # warns or refuses before anything takes long
        if beliefs not in self._solutions:
            self._solutions[beliefs] = solving.of(self, beliefs, progress)
        found = self._solutions[beliefs]
        if not cut:
            steady_state.check_top(self, "reference solution", found.share_at_top, found.output_lost)
        return found

    def __repr__(self) -> str:
        given = {name: value for name, value in self.parameters.items() if name != "calibration"}
        shown = repr(self.parameters["calibration"]), *(f"{name}={value!r}" for name, value in given.items())
        return f"KrusellSmith({', '.join(shown)})"


@lru_cache(maxsize=256)
def _chosen_top(parameters: str) -> float:
    """Choose the end of the grid for parameters, as JSON, that leave it to be chosen."""
    given = json.loads(parameters)
    return steady_state.chosen_top(lambda top: KrusellSmith(**given, asset_max=top, asset_nodes=steady_state.PROBE))


def _inside(name: str, given: Any) -> float:
    result = calibrations.between(name, given, 0.0, 1.0)
    if result == 0:
        raise ParameterError(f"{name} must be greater than 0, got {given!r}")
    return result


def _plain(given: Any) -> Any:
    """Return numbers and sequences of them as JSON has them."""
    return np.asarray(given).tolist() if isinstance(given, (np.ndarray, np.generic, tuple)) else given


def _array(x: Any) -> Array:
    return np.asarray(x, dtype=np.float64) if isinstance(x, (int, float, list, tuple, np.generic)) else x


def _entry(table: Floats, x: Array, *index: Any) -> Array:
    """Return table[index] in the library of x; the index may be of any library."""
    if type(x) is np.ndarray:
        return table[tuple(np.asarray(i) for i in index)]
    xp = namespace(x)
    return like(table, x)[tuple(xp.asarray(i, device=x.device) for i in index)]


register_economy("KrusellSmith", KrusellSmith)
