"""Controlled-SDE economies as Gymnasium environments, with known generators and optima.

>>> import gymnasium as gym, hacontrol_envs
>>> env = gym.make("Merton-v0", risk_aversion=3.0)
>>> env.unwrapped.problem.solution().policy(0.0, env.unwrapped.state)
"""

from typing import TYPE_CHECKING, Any

from hacontrol_envs import problems  # noqa: F401  (importing registers every problem)
from hacontrol_envs.core.conditions import EulerConditions, PopulationConditions
from hacontrol_envs.core.discrete import DiscreteProblem, Successors
from hacontrol_envs.core.domain import Domain
from hacontrol_envs.core.problem import ControlProblem, Problem
from hacontrol_envs.core.registration import register, register_economy, registered_economies, registered_ids
from hacontrol_envs.core.solution import Jet, Solution
from hacontrol_envs.economies import Equilibrium, FirmIndustry, KrusellSmith, KrusellSmithCloud, KrusellSmithHousehold
from hacontrol_envs.numerics.transport import Transport, stationary_law
from hacontrol_envs.problems.brock_mirman import BrockMirman
from hacontrol_envs.problems.firm_investment import FirmInvestment
from hacontrol_envs.problems.lqr import LQR
from hacontrol_envs.problems.merton import Merton
from hacontrol_envs.simulation.env import SDEEnv, SDEVectorEnv

if TYPE_CHECKING:
    from hacontrol_envs.checks import check_problem, check_vector_env

__all__ = [
    "LQR",
    "BrockMirman",
    "ControlProblem",
    "DiscreteProblem",
    "Domain",
    "Equilibrium",
    "EulerConditions",
    "FirmIndustry",
    "FirmInvestment",
    "Jet",
    "KrusellSmith",
    "KrusellSmithCloud",
    "KrusellSmithHousehold",
    "Merton",
    "PopulationConditions",
    "Problem",
    "SDEEnv",
    "SDEVectorEnv",
    "Solution",
    "Successors",
    "Transport",
    "check_problem",
    "check_vector_env",
    "register",
    "register_economy",
    "registered_economies",
    "registered_ids",
    "stationary_law",
]


def __getattr__(name: str) -> Any:
    """The checks are imported when they are first asked for: only who writes a problem needs them."""
    if name in ("check_problem", "check_vector_env"):
        from hacontrol_envs import checks

        return getattr(checks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
