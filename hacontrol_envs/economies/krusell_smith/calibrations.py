"""The two calibrations of `KrusellSmith`: their parameters, and the chains, levels and incomes that follow from them.

"ssj" is that of the notebooks of Auclert, Bardoczy, Rognlie and Straub (2021) with aggregate risk added: log
productivity of a household e by Rouwenhorst's method, log Z by Tauchen's, both with means 1 in levels; earnings are e.
Tauchen's chain of log Z has the deviation asked for, but an autocorrelation of .9315 for .9 with 5 states; it is
refused where 1 less the autocorrelation is off by more than a factor of 2. productivity_method="rouwenhorst" is exact.

"jedc" is that of Den Haan, Judd and Juillard (2010): Z is 1 - d in bad times and 1 + d in good; the employed work
`hours`, the unemployed receive `insurance` times the wage, paid for by a tax on wages at every date:
tax(Z) = insurance u(Z)/(hours (1 - u(Z))).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

import numpy as np

from hacontrol_envs.arrays import Floats
from hacontrol_envs.core import parameters as read
from hacontrol_envs.errors import ParameterError, nearest
from hacontrol_envs.numerics import chains


@dataclass(frozen=True, kw_only=True)
class Common:
    """Parameters that both calibrations have; defaults are those of "ssj" unless a calibration has its own."""

    discount_factor: float = 0.98
    """beta, from one quarter to the next, between 0 and 1."""
    intertemporal_elasticity: float = 0.5
    """1/gamma, one over relative risk aversion; 1 is log utility."""
    capital_share: float = 0.36
    """alpha, the share of capital in output."""
    depreciation: float = 0.025
    """delta, the share of capital that wears off. [1/quarter]."""
    borrowing_limit: float = 0.0
    """a_min, the least assets. [goods]."""
    productivity_deviation: float = 0.007
    """Standard deviation of log Z under its stationary law; of "jedc" d, where Z is
    1 - d in bad times and 1 + d in good."""
    asset_nodes: int = 1200
    """Nodes of assets in the histogram."""
    asset_max: float | None = None
    """The highest node of assets; None chooses it. [goods]."""


@final
@dataclass(frozen=True, kw_only=True)
class SSJ(Common):
    """Auclert, Bardoczy, Rognlie and Straub (2021), with aggregate risk."""

    name: ClassVar[str] = "ssj"

    productivity_persistence: float = 0.9
    """Autocorrelation of log Z asked for, from one quarter to the next."""
    productivity_states: int = 5
    """States of Z."""
    productivity_method: str = "tauchen"
    """Method by which log Z becomes a chain: "tauchen", or "rouwenhorst", which has exactly the autocorrelation asked
    for."""
    income_persistence: float = 0.966
    """Autocorrelation of log e, from one quarter to the next."""
    income_deviation: float = 0.5
    """Standard deviation of log e under its stationary law."""
    income_states: int = 3
    """States of e."""


@final
@dataclass(frozen=True, kw_only=True)
class JEDC(Common):
    """Den Haan, Judd and Juillard (2010)."""

    name: ClassVar[str] = "jedc"

    discount_factor: float = 0.99
    intertemporal_elasticity: float = 1.0
    productivity_deviation: float = 0.01
    productivity_duration: float = 8.0
    """Mean length of bad and of good times. [quarters]."""
    unemployment_rates: tuple[float, float] = (0.10, 0.04)
    """Shares of the unemployed in bad and in good times."""
    unemployment_durations: tuple[float, float] = (2.5, 1.5)
    """Mean lengths of unemployment in bad and in good times. [quarters]."""
    switching_factors: tuple[float, float] = (0.75, 1.25)
    """Chance of staying unemployed when times turn good and bad, as a multiple of that in the times they turn to."""
    hours: float = 1 / 0.9
    """Labour of one who is employed. [units of labour]."""
    insurance: float = 0.15
    """Income of the unemployed, as a share of the wage per unit of labour."""


CALIBRATIONS: dict[str, dict[str, Any]] = {kind.name: asdict(kind()) for kind in (SSJ, JEDC)}
"""Defaults of every parameter, by name of the calibration."""
EVERY: dict[str, Any] = {**CALIBRATIONS["ssj"], **CALIBRATIONS["jedc"], **CALIBRATIONS["ssj"]}
"""Parameters in signatures: those of "ssj", then those that only "jedc" has, whose other defaults differ."""
METHODS = "tauchen", "rouwenhorst"
"""Methods by which log Z is made a chain."""
MOST_STATES = 200
"""Largest number of states of a chain of log e or log Z; with more the outermost masses underflow."""


@final
@dataclass(frozen=True)
class Processes:
    """Chains, levels and incomes that follow from a calibration's parameters; `KrusellSmith` defines the fields."""

    productivity: Floats
    labour: Floats
    skill: Floats
    earnings: Floats
    aggregate_chain: Floats
    income_chain: Floats


def with_defaults(calibration: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return every parameter of a calibration: those given, and defaults for the others.

    Raises:
        ParameterError: there is no such calibration, or it has no parameter of some name.
    """
    if not isinstance(calibration, str) or calibration not in CALIBRATIONS:
        raise ParameterError(
            f"calibration must be one of {', '.join(map(repr, CALIBRATIONS))}, got {calibration!r}; "
            f"{nearest(calibration, CALIBRATIONS)}other economies are these with other parameters"
        )
    known = CALIBRATIONS[calibration]
    read.refuse_unlisted(f"KrusellSmith({calibration!r})", known, given)
    return {**known, **given}


def processes(calibration: str, parameters: dict[str, Any]) -> Processes:
    """Compute the processes of a calibration from all of its parameters.

    Raises:
        ParameterError: parameters that make no sense.
    """
    return (_ssj if calibration == "ssj" else _jedc)(parameters)


def _ssj(given: dict[str, Any]) -> Processes:
    log_z, aggregate = _productivity(given)
    log_e, income = chains.rouwenhorst(*_autoregression(given, "income"))
    z, e = _levels("productivity", log_z, aggregate), _levels("income", log_e, income)
    n = len(z)
    return Processes(z, np.ones(n), e, np.tile(e, (n, 1)), aggregate, np.tile(income, (n, n, 1, 1)))


def _productivity(given: dict[str, Any]) -> tuple[Floats, Floats]:
    """Return log Z (n,) up to a constant, and its chain (n, n), by the method asked for."""
    persistence, deviation, states = _autoregression(given, "productivity")
    if read.one_of("productivity_method", given["productivity_method"], METHODS) == "rouwenhorst":
        return chains.rouwenhorst(persistence, deviation, states)
    _, chain = unit = chains.tauchen(persistence, 1.0, states)
    if states > 1 and not 0.5 <= (1 - (found := chains.autocorrelation(*unit))) / (1 - persistence) <= 2:
        raise ParameterError(
            f"productivity_persistence={persistence:g} cannot be had from Tauchen's method with productivity_states="
            f"{states}, whose chain has {found:.8g}: {chains.HINT}"
        )
    return deviation * unit[0], chain


def _levels(name: str, logs: Floats, chain: Floats) -> Floats:
    """Return levels with these logarithms up to a constant, and mean 1."""
    levels = np.exp(logs - logs.max())
    levels = levels / (chains.stationary(chain) @ levels)
    if not levels.min() > 0:
        raise ParameterError(f"{name}_deviation is too large: the lowest level of {name} is zero to rounding")
    found: Floats = levels
    return found


def _autoregression(given: dict[str, Any], name: str) -> tuple[float, float, int]:
    persistence = between(f"{name}_persistence", given[f"{name}_persistence"], 0.0, 1.0)
    deviation = read.number(f"{name}_deviation", given[f"{name}_deviation"], at_least=0.0)
    return persistence, deviation, read.count(f"{name}_states", given[f"{name}_states"], at_most=MOST_STATES)


def _jedc(given: dict[str, Any]) -> Processes:
    deviation = between("productivity_deviation", given["productivity_deviation"], 0.0, 1.0)
    stay = 1 - 1 / read.number("productivity_duration", given["productivity_duration"], above=1.0)
    hours = read.number("hours", given["hours"], above=0.0)
    insurance = read.number("insurance", given["insurance"], at_least=0.0)
    rates = pair("unemployment_rates", given["unemployment_rates"])
    durations = pair("unemployment_durations", given["unemployment_durations"])
    factors = pair("switching_factors", given["switching_factors"])
    if not (all(0 < rate < 1 for rate in rates) and min(durations) > 1 and min(factors) > 0):
        raise ParameterError(
            "unemployment_rates must lie between 0 and 1, unemployment_durations exceed 1 quarter and "
            f"switching_factors be positive, got {rates}, {durations} and {factors}"
        )
    aggregate = np.array([[stay, 1 - stay], [1 - stay, stay]])
    labour = hours * (1 - np.array(rates))
    tax = insurance * np.array(rates) / labour
    if np.any(tax >= 1):
        raise ParameterError(f"insurance={insurance} would take a tax of {tax.max():.3g} on wages: it must be below 1")
    earnings = np.stack([np.full(2, insurance), (1 - tax) * hours], axis=-1)
    income = chains.employment(aggregate, rates, durations, factors)
    return Processes(
        np.array([1 - deviation, 1 + deviation]), labour, np.array([0.0, 1.0]), earnings, aggregate, income
    )


def between(name: str, given: Any, low: float, high: float) -> float:
    """Read a number that is at least `low` and below `high`.

    Args:
        name: the parameter's name, for the message.
        given: what was given for it.
        low: lower bound, included.
        high: upper bound, excluded.

    Raises:
        ParameterError: it is not such a number.
    """
    result = read.number(name, given, at_least=low)
    if result >= high:
        raise ParameterError(f"{name} must be below {high:g}, got {given!r}")
    return result


def pair(name: str, given: Any) -> tuple[float, float]:
    """Read two numbers, for bad and for good times.

    Raises:
        ParameterError: they are not two numbers.
    """
    numbers = read.array(name, given)
    if numbers.shape != (2,):
        raise ParameterError(f"{name} must be two numbers, for bad and for good times, got {given!r}")
    return float(numbers[0]), float(numbers[1])
