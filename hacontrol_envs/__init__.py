"""Controlled-SDE economies as Gymnasium environments, with known generators and optima.

>>> import gymnasium as gym, hacontrol_envs
>>> env = gym.make("Merton-v0", risk_aversion=3.0)
>>> env.unwrapped.problem.solution().policy(0.0, env.unwrapped.state)
"""

from typing import TYPE_CHECKING

from hacontrol_envs import problems  # noqa: F401  (importing registers every problem)
from hacontrol_envs.core.conditions import EulerConditions, PopulationConditions
from hacontrol_envs.core.discrete import DiscreteProblem, Successors
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.judge import Judge, Metric
from hacontrol_envs.core.problem import ControlProblem, Problem
from hacontrol_envs.core.registration import register, register_economy, registered_economies, registered_ids
from hacontrol_envs.core.solution import CrossSection, Jet, Solution
from hacontrol_envs.economies import (
    Calibration,
    Economy,
    Equilibrium,
    FirmIndustry,
    IndustryEquilibrium,
    KrusellSmith,
    KrusellSmithHousehold,
    KrusellSmithPlanner,
    calibrate,
)
from hacontrol_envs.lazy import on_demand
from hacontrol_envs.numerics.transport import Transport, stationary_law
from hacontrol_envs.problems.brock_mirman import BrockMirman
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.problems.income_fluctuation import IncomeFluctuation
from hacontrol_envs.problems.lqr import LQR
from hacontrol_envs.problems.merton import Merton
from hacontrol_envs.problems.portfolio_trading import PortfolioTrading
from hacontrol_envs.problems.saturated_lqr import SaturatedLQR
from hacontrol_envs.simulation.env import SDEEnv, SDEVectorEnv

if TYPE_CHECKING:
    from hacontrol_envs.checks import check_problem, check_vector_env
else:  # only who writes a problem needs the checks
    __getattr__, __dir__ = on_demand(__name__, {"checks": "check_problem check_vector_env"})

__all__ = [
    "LQR",
    "BrockMirman",
    "Calibration",
    "ControlProblem",
    "CrossSection",
    "DiscreteProblem",
    "Domain",
    "Economy",
    "Equilibrium",
    "EulerConditions",
    "FirmIndustry",
    "FirmInvestment",
    "IncomeFluctuation",
    "IndustryEquilibrium",
    "Jet",
    "Judge",
    "KrusellSmith",
    "KrusellSmithHousehold",
    "KrusellSmithPlanner",
    "Merton",
    "Metric",
    "PopulationConditions",
    "PortfolioTrading",
    "Problem",
    "SDEEnv",
    "SDEVectorEnv",
    "SaturatedLQR",
    "Solution",
    "Successors",
    "Transport",
    "calibrate",
    "check_problem",
    "check_vector_env",
    "register",
    "register_economy",
    "registered_economies",
    "registered_ids",
    "stationary_law",
]
